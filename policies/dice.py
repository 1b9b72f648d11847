"""Where randomness comes from: it is handed in, as the moment is."""

from collections.abc import Callable

Draw = Callable[[], float]
"""A die: returns a float in [0, 1)."""
