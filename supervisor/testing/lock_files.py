"""Lock files in memory: ours, and those of others who live, let go, or die and leave theirs behind."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from policies.policy import LockRule, Pids
from supervisor.clock import Clock
from supervisor.lock.session_lock import Busy, LockWait
from supervisor.testing.process import PROCESS

POLL_S: Final = 0.025


class LockListener(Protocol):
    """Is told of each lock of ours, in the context of whoever takes or releases it."""

    def taken(self, lock: "MemoryLock") -> None: ...
    def released(self, lock: "MemoryLock") -> None: ...


@dataclass(slots=True)
class _Holder:
    name: str
    since: float
    alive: bool | None = True

    def die(self) -> None:
        self.alive = False


class MemoryLock:
    """A lock of ours. `owner` is for the listener to set and read."""

    def __init__(self, files: "MemoryLockFiles", path: Path, holder: _Holder) -> None:
        self._files = files
        self._holder = holder
        self._released = ""
        self.path = path.with_name(path.name + ".lock")
        self.transcript = path
        self.owner: Any = None

    def release(self) -> str:
        """Let go; a second call changes nothing."""
        if not self._released:
            self._released = f"lock {self.path} released"
            self._files._let_go(self, self._holder)
        return self._released


class MemoryLockFiles:
    """`supervisor.lock.session_lock.LockFiles` without a file system, for one process or all of a world.

    The file of one that is killed stays, proved dead to whoever looks.
    """

    def __init__(self, clock: Clock, listener: LockListener | None = None) -> None:
        self._clock = clock
        self._listener = listener
        self._held: dict[Path, _Holder] = {}

    def hold(self, path: Path, name: str) -> bool:
        """Somebody else takes a lock; False where it is held."""
        if path in self._held:
            return False
        self._held[path] = _Holder(name, self._clock.now())
        return True

    def free(self, path: Path, name: str) -> None:
        """It lets go of it, if it is still its own."""
        holder = self._held.get(path)
        if holder is not None and holder.name == name:
            del self._held[path]

    def die(self, path: Path, name: str) -> None:
        """It dies, and its file stays: proved dead to whoever looks."""
        holder = self._held.get(path)
        if holder is not None and holder.name == name:
            holder.die()

    def orphan(self, path: Path, name: str) -> None:
        """Its warden is killed, and its file stays: nobody can judge whether what it started lives."""
        holder = self._held.get(path)
        if holder is not None and holder.name == name:
            holder.alive = None

    def held(self) -> dict[Path, str]:
        """Return who holds what."""
        return {path: holder.name for path, holder in self._held.items()}

    def real_path(self, path: Path) -> Path:
        return Path(os.path.normpath(path))

    def take_now(self, path: Path, max_hold_s: float) -> MemoryLock | None:  # noqa: ARG002 - nobody else reads it
        if path in self._held:
            return None
        process = PROCESS.get()
        holder = _Holder("this process" if process is None else f"process {process.name}", self._clock.now())
        self._held[path] = holder
        if process is not None:
            process.at_death(holder.die)
        lock = MemoryLock(self, path, holder)
        if self._listener is not None:
            self._listener.taken(lock)
        return lock

    def named_by(self, path: Path) -> None:
        """Return nothing: no holder has a pid."""

    def warden_of(self, path: Path, supervisor: int) -> None:
        """Return nothing: no holder has a pid."""

    async def judge(self, path: Path, pids: Pids) -> Busy | None:  # noqa: ARG002 - no holder has a pid
        holder = self._held.get(path)
        if holder is None:
            return None
        if holder.alive is False:
            del self._held[path]
            return None
        lock_path = path.with_name(path.name + ".lock")
        advice = "wait, or stop it" if holder.alive else "look for what it started, end it, then remove the file"
        return Busy(lock_path, holder.name, 7, self._clock.now() - holder.since, alive=holder.alive, advice=advice)

    async def wait_until_free(self, path: Path, rule: LockRule, wait: LockWait) -> LockRule:
        clock = wait.clock
        held_s, told = 0.0, ""
        while path in self._held:
            dead = self._held[path].alive is False
            busy = await self.judge(path, rule.pids)
            if busy is None:
                if dead:
                    wait.on_reclaimed(path.with_name(path.name + ".lock"), "its holder is dead")
                break
            left_s = rule.wait_s - held_s if wait.until is None else min(rule.wait_s - held_s, wait.until - clock.now())
            if left_s <= 1e-6:
                raise busy.error()
            if busy.holder != told:
                told = busy.holder
                wait.on_waiting(busy)
            before = clock.now()
            await clock.sleep(min(POLL_S, left_s))
            held_s += clock.now() - before
        await clock.sleep(0)
        return replace(rule, wait_s=max(0.0, rule.wait_s - held_s))

    def _let_go(self, lock: MemoryLock, holder: _Holder) -> None:
        if self._held.get(lock.transcript) is holder:
            del self._held[lock.transcript]
        if self._listener is not None:
            self._listener.released(lock)
