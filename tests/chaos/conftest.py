"""Helpers are imported from the top of the repository: tests.supervisor.tree.trees."""

import sys
from pathlib import Path

_TOP = str(Path(__file__).parents[2])
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)
