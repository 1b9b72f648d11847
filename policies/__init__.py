"""Decisions of Turnkeeper: frozen values in, frozen values out. No clock, dice, loop, file, network or log."""
