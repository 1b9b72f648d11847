"""The lines of run.py that have work of their own, one file each."""
