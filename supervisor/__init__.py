"""Turnkeeper: a supervisor and retry-policy engine for agent turns."""
