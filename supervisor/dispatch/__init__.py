"""Jobs: each due tick of each is found once, and started as a run under its policy."""
