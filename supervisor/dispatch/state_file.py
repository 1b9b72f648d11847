"""The file of the state while jobs run: one that was deleted, or replaced, is never seen again by anybody else."""

import os
from pathlib import Path
from typing import Final

from supervisor.clock import Clock

LOOK_S: Final = 1.0
LOOKS: Final = 3
"""So many looks in a row must miss it: who puts a backup in its place may take a moment."""


class StateFile:
    """The file that is there now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = self._facts()

    async def gone(self, clock: Clock) -> None:
        """Return when it has been gone for a while, or something else has stood in its place."""
        missed = 0
        while missed < LOOKS:
            await clock.sleep(LOOK_S)
            missed = 0 if self._facts() == self._opened else missed + 1

    def _facts(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._path)
        except OSError:
            return None
        return facts.st_dev, facts.st_ino
