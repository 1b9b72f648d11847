"""The warden of a simulated tree: it obeys one order after the other, holds the lock, and ends when nothing is left."""

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.lock.life_file import Exited
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.simulated_processes import Later, Processes
from supervisor.testing.tree_script import Happening, TreeScript
from supervisor.tree.contract import TreeGone

if TYPE_CHECKING:
    from supervisor.testing.streams import OutputOf


class SimulatedWarden:
    """`hear` is its supervisor's: told what has happened, and for some of it a value. `now` is the loop's."""

    def __init__(
        self,
        name: str,
        script: TreeScript,
        output: "OutputOf | None",
        now: Callable[[], float],
        later: Later,
        hear: Callable[[Happening, Any], None],
        *,
        keeps_life: bool,
    ) -> None:
        self._keeps_life = keeps_life
        self._script, self._now, self._later, self._hear = script, now, later, hear
        self._locks: MemoryLockFiles | None = None
        self._most_bytes: int | None = None
        self._orders: list[Callable[[], None]] | None = None  # given while the command is being started
        self._kill_at: float | None = None
        self._told_at: float | None = None
        self._has_exited = self._leaving = self._is_ending = self._is_abandoned = False
        self.name = name
        self.lives = True
        self.has_life_file = True
        self.transcript: Path | None = None
        self.last_word: TreeGone | None = None
        self.processes = Processes(
            script, output, later, self._note_exit, self._note_said, self._end_if_nothing_is_left
        )

    # --- its files

    def hold(self, locks: MemoryLockFiles, path: Path) -> bool:
        """Take a lock in its name; False if somebody has it."""
        if not locks.hold(path, self.name):
            return False
        self._locks, self.transcript = locks, path
        return True

    def free_lock(self) -> None:
        if self._locks is not None and self.transcript is not None:
            self._locks.free(self.transcript, self.name)

    def orphan_lock(self) -> None:
        """Leave the lock file of a killed warden, of which nobody can judge whether its tree lives."""
        if self._locks is not None and self.transcript is not None:
            self._locks.orphan(self.transcript, self.name)

    # --- orders, and what comes before every order: signals

    def order(self, obey: Callable[[], None]) -> None:
        self._told_at = self._now() if self._told_at is None else self._told_at
        if self.lives and self._orders is None:
            obey()
        elif self._orders is not None:
            self._orders.append(obey)

    def go(self, most_bytes: int | None) -> None:
        self._orders, self._most_bytes = [], most_bytes
        self._later(self._script.starts_in_s, self._start)

    def stop(self, grace_s: float) -> None:
        kill_at = self._now() + grace_s
        if self._kill_at is None and grace_s > 0:
            self.processes.ask()
        if self._kill_at is None or kill_at < self._kill_at:
            self._kill_at = kill_at
            if grace_s < inf:
                self._later(grace_s, self._kill)
        self._end_if_nothing_is_left()

    def leave(self) -> None:
        self._leaving = True
        self._end_if_nothing_is_left()

    def abandon(self) -> None:
        """Go on without a supervisor: the life file goes too, unless a recovery is to read how the command ended."""
        self._is_abandoned = not self._keeps_life
        self.stop(0.0)

    def die(self) -> None:
        """Be killed: what runs then runs on, and nobody can tell."""
        if self.lives:
            self.lives = False
            self._later(0.0, self._hear, Happening.UNKNOWN, None)

    # --- its life

    def _start(self) -> None:
        orders, self._orders = self._orders or [], None
        if not self.lives or self._kill_at is not None:  # told to stop before it came to this
            self._end_if_nothing_is_left()
            return
        if self._script.cannot_start is not None:
            self._hear(Happening.NOT_STARTED, self._script.cannot_start)
            self.processes.close_output()
            self.stop(0.0)
        else:
            self.processes.start()
            self._hear(Happening.STARTED, None)
            if self._most_bytes is not None:
                self._later(self._script.over_memory_after_s, self._look_at_memory, self._most_bytes + 1)
        for obey in orders:
            obey()

    def _look_at_memory(self, held: int) -> None:
        if self.lives and self.processes.count:
            self._hear(Happening.OVER_MEMORY, held)

    def _kill(self) -> None:
        if self.lives:
            self.processes.kill()

    def _note_exit(self, exited: Exited) -> None:
        if self.lives:
            self._has_exited = True
            self._hear(Happening.EXITED, exited)

    def _note_said(self) -> None:
        self._hear(Happening.SAID, None)

    def _end_if_nothing_is_left(self) -> None:
        if self._is_ending or not self.lives or self._orders is not None:
            return
        if self.processes.count == 0 if self._kill_at is not None else self._leaving and self._has_exited:
            self._is_ending = True
            self._later(self._script.ends_in_s, self._end)

    def _end(self) -> None:
        """Its last act: the lock is free, the life file says so; and then its supervisor hears of it."""
        if not self.lives:
            return
        processes = self.processes
        left = () if self._kill_at is not None else tuple(f"process of {self.name}" for _ in range(processes.daemons))
        steps = tuple(f"{step}: {number}" for step, number in processes.steps.items())
        seconds = 0.0 if self._told_at is None else self._now() - self._told_at
        self.last_word = TreeGone(processes.killed, left, steps, seconds)
        self.lives = False
        self.free_lock()
        self.has_life_file = self.has_life_file and not self._is_abandoned
        self._later(0.0, self._hear, Happening.GONE, self.last_word)
