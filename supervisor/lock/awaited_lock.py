"""A lock that work waits for: which of its tasks waits, and who was last seen to have it."""

import asyncio
from dataclasses import replace
from pathlib import Path

from supervisor.clock import Clock
from supervisor.errors import SessionLocked
from supervisor.lock.session_lock import Busy


class AwaitedLock:
    """One wait of an attempt, whichever of its tasks have asked for the lock.

    Attributes:
        turn: held by the task that waits for the lock; the others wait for that task.
        tasks: how many of them have asked.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        lock_path = path.with_name(path.name + ".lock")
        self._clock = clock
        self.turn = asyncio.Lock()
        self.tasks = 0
        self._holder = Busy(lock_path, "somebody", None, None, None, "nobody could look in time who that is")
        self._seen_at = clock.now()

    def saw(self, holder: Busy) -> None:
        """Note who has it."""
        self._holder, self._seen_at = holder, self._clock.now()

    def error(self) -> SessionLocked:
        """Return what is raised where the wait for it ends now."""
        held_for_s = self._holder.held_for_s
        if held_for_s is not None:
            held_for_s += self._clock.now() - self._seen_at
        return replace(self._holder, held_for_s=held_for_s).error()
