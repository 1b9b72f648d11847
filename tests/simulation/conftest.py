"""The modules of this folder are imported from the top of the repository: tests.simulation.x."""

import sys
from pathlib import Path

_TOP = str(Path(__file__).parents[2])
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)
