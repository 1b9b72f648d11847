"""What the work sees of its attempt: its number and time, and the scope for all that it opens."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from inspect import isawaitable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from policies.failure import Kind
from policies.policy import LockRule
from policies.verdict import Reason
from supervisor.effects import Effects
from supervisor.errors import Failure
from supervisor.events import LockReclaimed, LockTaken, LockWaiting
from supervisor.lock.awaited_lock import AwaitedLock
from supervisor.lock.session_lock import Busy, HeldLock, LockWait, take
from supervisor.store.contract import Standing
from supervisor.subagents import Subagents

T = TypeVar("T")

CURRENT: ContextVar["Attempt | None"] = ContextVar("turnkeeper_attempt", default=None)

_NO_LIMIT_HOLD_S = 86400.0


@dataclass(frozen=True, slots=True)
class Held:
    """One thing on an attempt's scope.

    Attributes:
        name: for the receipt.
        let_go: releases it; gets the exception that the work ended by, or None; may return an awaitable. What a lock
            returns is a line for the receipt.
        guards_session: it keeps others out of the session (a lock), so it stays while the work may still live.
    """

    name: str
    let_go: Callable[[BaseException | None], Any]
    guards_session: bool = False


class Attempt:
    """One execution of the work. Everything opened through it is released when it ends, in reverse order.

    Its underscored attributes belong to the engine.
    """

    # Defaults of the class: most attempts never set most of them, and an attempt is made on each call.
    number: int
    fence: int
    deadline: float | None = None
    _scope: list[Held] | None = None
    _task: "asyncio.Task[None] | None" = None
    _waiter: "asyncio.Future[None] | None" = None
    _timer: asyncio.TimerHandle | None = None
    _alarm_s: float | None = None
    _error: BaseException | None = None
    _value: Any = None
    _parked: Any = None  # what its work has made ready for it
    _written: Callable[[], None] | None = None  # called once its end is in the store
    _cause: Kind | Reason | None = None
    _started_at: float
    _beat_at = 0.0  # its last heartbeat; zero where none has come yet
    _stop_at: float | None = None
    _ended_at = 0.0  # when its task ended; zero where it has none, or has not ended
    _abandoned = False
    _ended = False
    _children_left: "list[tuple[str, Any]] | None" = None  # (what may live, how its end would be seen)
    _left: Any = None  # once its release has begun: what its end waits for
    _awaited: dict[Path, AwaitedLock] | None = None  # the locks that it waits for
    _busy = ""  # what it waited for when its time was up

    def __init__(self, run: Standing, effects: Effects) -> None:
        self._run = run
        self._effects = effects

    def __repr__(self) -> str:
        return f"<Attempt {self._run.number} of run {self.run_id}, session {self.session!r}>"

    @property
    def session(self) -> str:
        """The session's key."""
        return self._run.session

    @property
    def run_id(self) -> str:
        """The run's id, the same for each of its attempts."""
        return self._run.run_id

    @property
    def idempotency_key(self) -> str:
        """A text that no other attempt has: give it to a service that recognises what it has done already."""
        return f"{self._run.run_id}-{self.number}"

    def remaining(self) -> float | None:
        """Return the seconds until the attempt's timeout or the run's deadline, zero or more; None: no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - self._effects.clock.now())

    def _idle_since(self) -> float:
        return self._beat_at or self._started_at

    def heartbeat(self) -> None:
        """Say that the work goes on: `idle_timeout` starts anew."""
        self._beat_at = self._effects.clock.now()

    async def enter(self, manager: AbstractAsyncContextManager[T, Any] | AbstractContextManager[T, Any]) -> T:
        """Enter a context manager, and leave it when the attempt ends. Returns what it returns.

        It is told the exception that the work ended by; it cannot swallow it. It is left in the attempt's context, so
        that it can reset the context variables that it has set, but in another task: what belongs to the task that
        entered it, as anyio's task groups and cancel scopes do, is for `async with` in the work itself.
        """
        scope = self._open_scope()
        name = f"closed {type(manager).__name__}"
        if isinstance(manager, AbstractAsyncContextManager):
            value: T = await manager.__aenter__()
            if self._ended:  # the work lived on after it was given up
                await manager.__aexit__(None, None, None)
                raise RuntimeError(f"{self!r} is over: it can open nothing more")
            scope.append(Held(name, lambda error: manager.__aexit__(*_parts(error))))
        elif isinstance(manager, AbstractContextManager):
            value = manager.__enter__()
            scope.append(Held(name, lambda error: _nothing(manager.__exit__(*_parts(error)))))
        else:
            raise TypeError(f"enter() takes a context manager, got {type(manager).__name__}")
        return value

    def callback(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function, or await an async one, when the attempt ends."""
        name = f"called {getattr(function, '__name__', type(function).__name__)}"
        self._open_scope().append(Held(name, lambda _: function(*args, **kwargs)))

    def _take_now(self, path: Path) -> bool:
        """Take a lock file in one try; False where there is one."""
        lock = self._effects.locks.take_now(path, self._max_hold_s())
        if lock is not None:
            self._keep(path, lock)
        return lock is not None

    def _keep(self, path: Path, lock: HeldLock) -> None:
        if self._scope is None:
            self._scope = []
        self._scope.append(Held(_lock_name(path), lambda _: lock.release(), guards_session=True))
        self._note_taken(lock.path)

    async def _unpark(self) -> None:
        """Let go of what was made ready for an attempt that does not begin."""
        scope, self._scope = self._scope, None
        for held in reversed(scope or ()):
            answer = held.let_go(None)
            if isawaitable(answer):
                await answer

    async def lock(self, path: str | PathLike[str]) -> None:
        """Take `<path>.lock`, in OpenClaw's format, until the attempt ends. Taking it twice is taking it once,
        by whatever spelling of its path, and in whichever tasks of the attempt.

        Waits for a live holder for the policy's `lock.wait`, then raises SessionLocked; a dead one's lock is
        reclaimed, on proof only. Where the attempt's own time passes first, the attempt is told to end, and has failed
        as `busy`, not as `timeout`. A lock that cannot be written raises Failure, of kind invalid or error.
        """
        self._open_scope()
        path = self._effects.locks.real_path(Path(path))
        if self._has_lock(path):
            return
        awaited = self._awaited.get(path) if self._awaited else None
        if awaited is not None or not self._take_now(path):
            await self._wait_for_lock(path, awaited)

    def _has_lock(self, path: Path) -> bool:
        return any(held.name == _lock_name(path) for held in self._open_scope())

    async def _wait_for_lock(self, path: Path, awaited: AwaitedLock | None) -> None:
        """Take a lock that somebody has. The wait has no bound but the policy's: it ends with the attempt."""
        if self._awaited is None:
            self._awaited = {}
        if awaited is None:
            awaited = self._awaited[path] = AwaitedLock(path, self._effects.clock)
        awaited.tasks += 1
        try:
            await self._take_in_turn(path, awaited)
        finally:
            awaited.tasks -= 1
            if not awaited.tasks:
                del self._awaited[path]

    async def _take_in_turn(self, path: Path, awaited: AwaitedLock) -> None:
        clock, rule = self._effects.clock, self._run.policy.lock
        asked_at = clock.now()

        def note(holder: Busy) -> None:
            awaited.saw(holder)
            self._note_waiting(holder)

        async with awaited.turn:
            if self._has_lock(path):  # another task of this attempt has taken it meanwhile
                return
            rule = replace(rule, wait_s=max(0.0, rule.wait_s - (clock.now() - asked_at)))
            wait = LockWait(clock, None, note, self._note_reclaimed)
            lock = await take(self._effects.locks, path, rule, self._max_hold_s(), wait)
            if self._ended:  # the work lived on after it was given up
                lock.release()
                raise RuntimeError(f"{self!r} is over: it can take no lock")
            self._keep(path, lock)

    async def _until_free(self, path: Path, rule: LockRule) -> LockRule:
        """Wait while somebody has the lock; return the rule with what is left of its wait."""
        return await self._effects.locks.wait_until_free(path, rule, self._lock_wait())

    def _lock_wait(self, on_reclaimed: Callable[[Path, str], None] | None = None) -> LockWait:
        return LockWait(self._effects.clock, self.deadline, self._note_waiting, on_reclaimed or self._note_reclaimed)

    def subagents(self, limit: int = 8, max_depth: int = 3) -> Subagents:
        """Return the scope for children of this attempt: at most `limit` at once, nested at most `max_depth` deep."""
        return Subagents(self._run, self._effects, limit, max_depth)

    def _open_scope(self) -> list[Held]:
        if self._ended:
            raise RuntimeError(f"{self!r} is over: it can open nothing more")
        if self._scope is None:
            self._scope = []
        return self._scope

    def _max_hold_s(self) -> float:
        """How long others may believe in our lock: the attempt's time, and both graces after it."""
        limits, remaining = self._run.policy.attempt, self.remaining()
        longest = _NO_LIMIT_HOLD_S if limits.timeout_s is None else limits.timeout_s
        return (longest if remaining is None else min(longest, remaining)) + 2 * limits.grace_s + 1.0

    def _forget_time(self) -> None:
        """Disarm what watches its time, or its grace."""
        if self._alarm_s is not None:
            self._effects.alarms.clear(self._alarm_s, self)
            self._alarm_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_its_time(self) -> None:
        """Its work has ended, in time: what is still to be done for it takes none of that."""
        self._forget_time()
        self.deadline = None

    def _note_taken(self, lock_path: Path) -> None:
        if self._effects.events.listeners:
            self._effects.events.emit(LockTaken(*self._about(), str(lock_path)))

    def _note_waiting(self, busy: Busy) -> None:
        if self._effects.events.listeners:
            self._effects.events.emit(LockWaiting(*self._about(), str(busy.path), busy.holder))

    def _note_reclaimed(self, path: Path, proof: str) -> None:
        if self._effects.events.listeners:
            self._effects.events.emit(LockReclaimed(*self._about(), str(path), proof))

    def _about(self) -> tuple[str, str, float]:
        return self._run.session, self._run.run_id, self._effects.clock.wall()


def current_attempt() -> Attempt | None:
    """Return the attempt within which the caller runs, None outside of one or after it has ended."""
    attempt = CURRENT.get()
    return None if attempt is None or attempt._ended else attempt


def must_be_work(work: Any) -> None:
    """Raise a TypeError for what cannot be work."""
    if not callable(work) and not all(callable(getattr(work, name, None)) for name in ("start", "confirm_stopped")):
        raise TypeError(
            "work is a callable that returns an awaitable, or has start(attempt) and confirm_stopped(attempt); "
            f"got {type(work).__name__}"
        )


def not_awaitable(value: Any) -> Failure:
    """Return the failure of work that gave back something that cannot be awaited."""
    return Failure(
        Kind.INVALID, f"work returned {type(value).__name__}, not an awaitable: give it as an async function"
    )


def _lock_name(path: Path) -> str:
    return f"lock {path}.lock"


def _parts(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _nothing(_: object) -> None:
    """Drop what a plain context manager's exit says: it cannot swallow the failure."""
