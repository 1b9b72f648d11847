"""A lock that work waits for: who was last seen to have it."""

from dataclasses import replace
from pathlib import Path

from supervisor.clock import Clock
from supervisor.errors import SessionLocked
from supervisor.lock.session_lock import Busy


class AwaitedLock:
    """What an attempt is told to have waited for, when its time is up before the lock is free."""

    def __init__(self, path: Path, clock: Clock) -> None:
        lock_path = path.with_name(path.name + ".lock")
        self._clock = clock
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
