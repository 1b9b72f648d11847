"""A command's tree of processes: started under a warden, stopped as a whole, proved gone."""
