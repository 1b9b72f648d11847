"""The session's lock: take it now, or wait for it; reclaim it on proof; say who has it."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from policies.policy import LockRule, Pids
from supervisor.clock import Clock
from supervisor.errors import SessionLocked
from supervisor.lock import contents, lock_file
from supervisor.lock.contents import Contents, OwnedBy
from supervisor.lock.forking import FORKING
from supervisor.lock.held_lock import HeldFile
from supervisor.lock.lock_file import Place
from supervisor.lock.open_lock import OpenLock, open_lock
from supervisor.lock.publish import publish
from supervisor.owner import RecordedTree, is_child, this_process

_QUICK_POLL_S = 0.005
_POLL_S = 0.01
_QUICK_FOR_S = 1.0
_JUDGE_AGAIN_S = 0.25
_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Busy:
    """A lock file that somebody has.

    Attributes:
        path: of the lock file.
        holder: for a person.
        pid: as its holder sees itself; None where the file names none.
        held_for_s: by the file's own word, else since it was last written. The wall clock may have been stepped.
        alive: None: cannot be judged. False: proved dead, but the file may not be removed from here.
        advice: what to do about it.
    """

    path: Path
    holder: str
    pid: int | None
    held_for_s: float | None
    alive: bool | None
    advice: str

    def error(self) -> SessionLocked:
        """Return what is raised when the wait for it is over."""
        return SessionLocked(self.path, self.holder, self.pid, self.held_for_s, self.advice, holder_alive=self.alive)


@dataclass(frozen=True, slots=True)
class Free:
    """There is no file. `proof`: there was one, and it was removed because its holder was proved dead; else empty."""

    path: Path
    proof: str = ""


@dataclass(frozen=True, slots=True)
class LockWait:
    """What a wait for a lock needs beside its rule.

    Attributes:
        clock: to sleep on.
        until: the moment at which it ends at the latest, on the scale of `clock.now()`; None: the rule alone says.
        on_waiting: told each holder that is waited for.
        on_reclaimed: told the lock file that was removed, and the proof that its holder is dead.
    """

    clock: Clock
    until: float | None
    on_waiting: Callable[[Busy], None]
    on_reclaimed: Callable[[Path, str], None]


class HeldLock(Protocol):
    """A lock that is ours until `release`, which returns a line for the receipt; a second call changes nothing."""

    @property
    def path(self) -> Path: ...
    def release(self) -> str: ...


class LockFiles(Protocol):
    """How the engine takes session locks. `path` is the transcript: its lock is `<path>.lock` in its real folder.

    `real_path` is the one spelling of it; every other question is asked with that.
    """

    def real_path(self, path: Path) -> Path: ...
    def take_now(self, path: Path, max_hold_s: float) -> HeldLock | None: ...
    def named_by(self, path: Path) -> tuple[int, int | None] | None: ...
    def warden_of(self, path: Path, supervisor: int) -> RecordedTree | None: ...
    async def judge(self, path: Path, pids: Pids) -> Busy | None: ...
    async def wait_until_free(self, path: Path, rule: LockRule, wait: LockWait) -> LockRule: ...


async def take(locks: LockFiles, path: Path, rule: LockRule, max_hold_s: float, wait: LockWait) -> HeldLock:
    """Take a lock; wait while it is held, and reclaim it when its holder is proved dead: at the first try, too.

    Raises as `wait_until_free` and `take_now` do. Who waits is not queued: after a wait somebody else may be quicker.
    """
    while (held := locks.take_now(path, max_hold_s)) is None:
        rule = await locks.wait_until_free(path, rule, wait)
    return held


class SystemLockFiles:
    """Lock files on disk, of runs whose work is this process's own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def real_path(self, path: Path) -> Path:
        """Return the path with its folder's real path; one that cannot be resolved as it is. Never raises."""
        return lock_file.real_path(path)

    def take_now(self, path: Path, max_hold_s: float) -> HeldFile | None:
        """Take the lock in one try, without waiting; None if there is a file, whoever's it is.

        `max_hold_s` tells OpenClaw for how long to believe in it. Raises Failure: invalid for a folder that is missing
        or cannot be written, or a lock's place that is no plain file; error for a full disk and the like. Nothing half
        written is left then, and at no moment is an empty or unfinished file to be seen.
        """
        place = lock_file.open_place(path)
        held = None
        try:
            nonce = self._clock.token(8)
            content = contents.payload(created_unix=self._clock.wall(), max_hold_s=max_hold_s, nonce=nonce)
            with FORKING:
                descriptor = publish(place, content, nonce)
                if descriptor is not None:
                    held = HeldFile(place, descriptor, content)
        except OSError as error:
            raise lock_file.failure(place.path, error) from error
        finally:
            if held is None:
                place.close()
        return held

    def named_by(self, path: Path) -> tuple[int, int | None] | None:
        """Return the pid and start time that a lock file names; None where there is none, or one of Turnkeeper's."""
        parsed = _parsed(path)
        return None if parsed is None or parsed.ours is not None else (parsed.pid, parsed.starttime)

    def warden_of(self, path: Path, supervisor: int) -> RecordedTree | None:
        """Return the warden that a lock file names, if it is a child of the process with this pid; else None."""
        parsed, me = _parsed(path), this_process()
        if parsed is None or parsed.starttime is None or parsed.ours is None:
            return None
        ours = parsed.ours
        if (ours.owned_by, ours.boot_id, ours.pid_namespace) != (OwnedBy.WARDEN, me.boot_id, me.pid_namespace):
            return None
        is_its = is_child(parsed.pid, parsed.starttime, supervisor)
        return RecordedTree(parsed.pid, parsed.starttime, None) if is_its else None

    async def judge(self, path: Path, pids: Pids) -> Busy | None:
        """Look once at who has the lock. None: it is free now, gone or reclaimed from a holder that is proved dead."""
        found = await self.look(path, pids)
        return found if isinstance(found, Busy) else None

    async def wait_until_free(self, path: Path, rule: LockRule, wait: LockWait) -> LockRule:
        """Wait until there is no file, or none but of a holder that is proved dead, which is reclaimed.

        Returns the rule with what is left of its `wait_s`: it counts the time in which the file was seen held. Raises
        SessionLocked when that is over; and Failure as `take_now` does.
        """
        bound = _Bound(wait.clock, rule.wait_s, wait.until)
        told: tuple[str, bool | None] | None = None
        while True:
            is_over, identity = bound.is_over(), _identity(path)
            found = await self.look(path, rule.pids)
            if isinstance(found, Free):
                if found.proof:
                    wait.on_reclaimed(found.path, found.proof)
                await wait.clock.sleep(0)
                return replace(rule, wait_s=max(0.0, rule.wait_s - bound.held_s))
            bound.note_held()
            if is_over:
                raise found.error()
            if (found.holder, found.alive) != told:
                told = (found.holder, found.alive)
                wait.on_waiting(found)
            await bound.while_unchanged(path, identity)

    async def look(self, path: Path, pids: Pids) -> Busy | Free:
        """Do as `judge`, and tell the proof on which a file was removed."""
        place = lock_file.open_place(path)
        try:
            for _ in range(_LOOKS):
                found = await self._look_once(place, pids)
                if found is not None:
                    return found
            return _changing_hands(place.path)
        finally:
            place.close()

    async def _look_once(self, place: Place, pids: Pids) -> Busy | Free | None:
        """Judge the file, and reclaim it on proof. None: it is another file by now."""
        try:
            if lock_file.look(place) is None:
                return Free(place.path)
            async with open_lock(place, pids) as lock:
                held_by, held_for_s = lock.holder, max(0.0, self._clock.wall() - lock.since_unix())
                busy = Busy(place.path, held_by.name, held_by.pid, held_for_s, held_by.alive, held_by.advice)
                return busy if held_by.alive is not False else _reclaim(lock, busy)
        except FileNotFoundError:
            return Free(place.path)
        except PermissionError as error:
            return _unreadable(place, error)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise lock_file.failure(place.path, error) from error


class _Bound:
    """How long a file was seen held, and when to look again."""

    def __init__(self, clock: Clock, wait_s: float, until: float | None) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._until = until
        self.held_s = 0.0
        self._held_at: float | None = None

    def note_held(self) -> None:
        """Count the time since it was last seen held."""
        now = self._clock.now()
        self.held_s += 0.0 if self._held_at is None else now - self._held_at
        self._held_at = now

    def is_over(self) -> bool:
        """Tell whether it was waited long enough."""
        return self._left_s() <= 1e-6  # less than a clock tells apart

    async def while_unchanged(self, path: Path, identity: tuple[int, ...] | None) -> None:
        """Sleep until the file is gone or another one, is to be judged again, or the wait is over."""
        judge_at = self._clock.now() + _JUDGE_AGAIN_S
        self.note_held()
        while self._clock.now() < judge_at and not self.is_over():
            poll_s = _QUICK_POLL_S if self.held_s < _QUICK_FOR_S else _POLL_S
            await self._clock.sleep(min(poll_s, self._left_s()))
            if _identity(path) != identity:
                return
            self.note_held()

    def _left_s(self) -> float:
        left = self._wait_s - self.held_s
        return left if self._until is None else min(left, self._until - self._clock.now())


def _parsed(path: Path) -> Contents | None:
    """Return what a lock file says; None where there is none, or none that says anything."""
    try:
        with Path(f"{path}.lock").open("rb") as file:
            parsed = contents.parse(file.read(contents.MOST_BYTES + 1))
    except OSError:
        return None
    return parsed if isinstance(parsed, Contents) else None


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells one lock file from the next, cheaply; None if there is none."""
    folder, name = os.path.split(path)
    try:
        facts = os.lstat(os.path.join(folder, name + ".lock"))
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _reclaim(lock: OpenLock, busy: Busy) -> Busy | Free | None:
    try:
        removed = lock.reclaim()
    except OSError as error:
        why = f"its holder is dead, but its file may not be removed from here ({error.strerror}): {busy.advice}"
        return replace(busy, advice=why)
    return Free(busy.path, f"{lock.holder.name}: {lock.holder.proof}") if removed else None


def _unreadable(place: Place, error: OSError) -> Busy:
    advice = f"if nothing uses the session, remove it: rm {place.path}"
    return Busy(place.path, f"somebody whose file may not be read ({error.strerror})", None, None, None, advice)


def _changing_hands(path: Path) -> Busy:
    return Busy(path, "one holder after the other", None, None, alive=True, advice="others are quicker; wait longer")
