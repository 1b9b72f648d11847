"""State in one SQLite file, shared by every process of this machine."""
