"""One frozen event for each thing that happened, and their bounded delivery."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from policies.failure import Receipt
from supervisor.report import AttemptReport, Status

_log = logging.getLogger("turnkeeper")


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. `unix` is seconds since 1970 in UTC."""

    session: str
    run_id: str
    unix: float


@dataclass(frozen=True, slots=True)
class RunQueued(Event):
    """The run waits for its turn: behind other runs of its session ("gate") or for the machine ("host")."""

    line: str


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """An attempt has begun. `timeout_s` is its length at most; None: no limit."""

    number: int
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class AttemptStopping(Event):
    """An attempt was told to end; it has `grace_s` to do so."""

    number: int
    cause: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """An attempt is over, its session free (or quarantined), and the verdict has fallen."""

    attempt: AttemptReport


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """The run is over. `detail` says more about a refusal."""

    status: Status
    reason: str | None
    attempts: int
    duration_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BreakerOpened(Event):
    """Nothing more starts for the session for `cooldown_s`; it had opened `trips` times in a row before."""

    cooldown_s: float
    trips: int


@dataclass(frozen=True, slots=True)
class BreakerHalfOpened(Event):
    """A trial may start."""


@dataclass(frozen=True, slots=True)
class BreakerClosed(Event):
    """A trial succeeded: attempts may start again."""


@dataclass(frozen=True, slots=True)
class LockTaken(Event):
    """The session's lock file is ours."""

    path: str


@dataclass(frozen=True, slots=True)
class LockWaiting(Event):
    """The session's lock file is held by somebody else."""

    path: str
    holder: str


@dataclass(frozen=True, slots=True)
class LockReclaimed(Event):
    """A lock file was removed because its holder is proved dead; `proof` says how."""

    path: str
    proof: str


@dataclass(frozen=True, slots=True)
class SessionQuarantined(Event):
    """Nothing is started for the session until what `receipt` names has ended."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class AttemptLost(Event):
    """The supervisor of an attempt died; what was left of it is gone. `message` says how that was found."""

    number: int
    message: str


@dataclass(frozen=True, slots=True)
class QuarantineLifted(Event):
    """What may have lived was seen to end: the session is free."""


@dataclass(frozen=True, slots=True)
class JobOverdue(Event):
    """A job has had no success for `periods` of its periods: since its last one, `since_s` seconds ago, or, where there
    was none (`ever_succeeded`), since it became known; an operator may have paused it. It is of no run: `run_id` is
    empty.
    """

    job: str
    periods: int
    since_s: float
    ever_succeeded: bool
    paused: bool = False


Listener = Callable[[Any], Awaitable[None] | None]
"""Gets each event: a plain function, which must not block, or an async one, which may take its time."""


class Delivery:
    """The queue of one listener. A full queue drops its newest event and counts it in `dropped`."""

    __slots__ = ("_context", "_listener", "_queue", "_task", "capacity", "dropped", "failed")

    def __init__(self, listener: Listener, capacity: int) -> None:
        self._listener = listener
        self._context = copy_context()
        self._queue: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self.capacity = capacity
        self.dropped = 0
        self.failed = 0

    def put(self, event: Event) -> None:
        """Queue an event; it is delivered in the loop's next round."""
        if len(self._queue) >= self.capacity:
            self.dropped += 1
            return
        self._queue.append(event)
        if self._task is None:
            # Not in the context of whoever has news: a slow listener would keep what an attempt's variables hold, and
            # a run that it starts would pass for a child of that attempt.
            self._task = asyncio.get_running_loop().create_task(self._deliver(), context=self._context.copy())

    async def _deliver(self) -> None:
        try:
            while self._queue:
                await self._hand_over(self._queue.popleft())
        finally:
            self._task = None

    async def _hand_over(self, event: Event) -> None:
        try:
            answer = self._listener(event)
        except BaseException as error:  # an exit too: the listeners' events are nobody's reason to end the loop
            self._note_failed(error)
            return
        if not isawaitable(answer):
            return
        try:
            await answer
        except GeneratorExit:
            raise  # the delivery itself is being closed
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._note_failed(error)  # something that it waited for was cancelled, not the delivery
        except BaseException as error:
            self._note_failed(error)

    def _note_failed(self, error: BaseException) -> None:
        self.failed += 1
        if self.failed == 1:  # once: a broken listener must not fill the log
            _log.warning("a listener raised %s: %s; it goes on getting events", type(error).__name__, error)

    async def drain(self, within_s: float) -> None:
        """Wait until everything queued was delivered, at most `within_s` seconds; then stop delivering."""
        await _drain((self,), within_s)

    def _stop(self, task: "asyncio.Task[None]") -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        task.cancel()


class Events:
    """The listeners of a supervisor. Where there are none, nobody builds an event: ask `listeners` first."""

    __slots__ = ("listeners",)

    def __init__(self) -> None:
        self.listeners: list[Delivery] = []

    def on(self, listener: Listener, capacity: int) -> Delivery:
        """Add a listener, with a queue of so many events."""
        if capacity < 1:
            raise ValueError(f"a listener's capacity is 1 or more, got {capacity}")
        delivery = Delivery(listener, capacity)
        self.listeners.append(delivery)
        return delivery

    def emit(self, event: Event) -> None:
        """Queue an event for every listener. Never raises, never waits."""
        for delivery in self.listeners:
            delivery.put(event)

    async def drain(self, within_s: float) -> None:
        """Wait until the listeners have what was queued for them, all of them at most `within_s` seconds."""
        await _drain(self.listeners, within_s)


async def _drain(deliveries: Sequence[Delivery], within_s: float) -> None:
    """Drain all at once. A listener that ignores its cancellation is waited for as long once more."""
    tasks = {each._task: each for each in deliveries if each._task is not None}
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        tasks[task]._stop(task)
    if late:
        await asyncio.wait(late, timeout=within_s)
