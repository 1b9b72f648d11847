"""Scripted work: each attempt does what the script says, and what it did is kept as facts."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from supervisor.clock import Clock, clock_of
from supervisor.errors import Failure
from supervisor.testing.script import (
    Fails,
    Hangs,
    Heartbeats,
    NeverAwaits,
    Raises,
    Step,
    Succeeds,
    step_as_json,
    step_from_json,
)


class ScriptedAttempt(Protocol):
    """What scripted work asks of its attempt."""

    @property
    def number(self) -> int: ...
    @property
    def session(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    def heartbeat(self) -> None: ...


class Ending(StrEnum):
    """How a scripted attempt ended, seen from within it."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"
    OUTLIVED = "outlived"  # it swallowed its cancellation and returned later
    CLOSED = "closed"  # its coroutine was closed: nobody drove it to an end


@dataclass(slots=True)
class AttemptFact:
    """What one attempt did: numbers and text, so that it keeps nothing of the attempt alive.

    `started_at` and the other moments are of the loop's clock. `ended_at` and `ended` are None while it lives;
    `cancelled_at` has each moment at which a cancellation reached it; `error` names what it raised.
    """

    number: int
    session: str
    run_id: str
    step: Step
    started_at: float
    ended_at: float | None = None
    ended: Ending | None = None
    error: str = ""
    heartbeats: int = 0
    cancelled_at: list[float] = field(default_factory=list)


class ScriptedWork:
    """Work whose attempts take the steps of a script, each the next one, in the order in which they start.

    The last step is for all further attempts too. `attempts` has a fact for each, in order.
    """

    def __init__(self, *steps: Step) -> None:
        if not steps:
            raise ValueError("a script has one step or more, got none")
        self.steps = steps
        self.attempts: list[AttemptFact] = []
        self._alive: dict[str, int] = {}
        self._overlap: dict[str, int] = {}

    async def __call__(self, attempt: ScriptedAttempt) -> Any:
        """Do one attempt."""
        clock = clock_of(asyncio.get_running_loop())
        step = self.steps[min(len(self.attempts), len(self.steps) - 1)]
        fact = AttemptFact(attempt.number, attempt.session, attempt.run_id, step, clock.now())
        self._begin(fact)
        try:
            value = await _play(step, attempt, fact, clock)
        except BaseException as error:
            self._end(fact, _ending(error, fact, clock), clock, f"{type(error).__name__}: {error}")
            raise
        self._end(fact, Ending.OUTLIVED if fact.cancelled_at else Ending.RETURNED, clock)
        return value

    def of(self, session: str) -> list[AttemptFact]:
        """Return the facts of one session's attempts."""
        return [fact for fact in self.attempts if fact.session == session]

    def alive(self, session: str) -> int:
        """Return how many attempts of a session have started and not ended."""
        return self._alive.get(session, 0)

    def overlap(self, session: str) -> int:
        """Return how many attempts of a session were alive at once, at most."""
        return self._overlap.get(session, 0)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the script as what json.dumps takes; what happened is not in it."""
        return [step_as_json(step) for step in self.steps]

    @classmethod
    def from_json(cls, steps: Iterable[Mapping[str, Any]]) -> Self:
        """Return work with the script that `as_json` described."""
        return cls(*(step_from_json(step) for step in steps))

    def _begin(self, fact: AttemptFact) -> None:
        self.attempts.append(fact)
        self._alive[fact.session] = self.alive(fact.session) + 1
        self._overlap[fact.session] = max(self.overlap(fact.session), self.alive(fact.session))

    def _end(self, fact: AttemptFact, ended: Ending, clock: Clock, error: str = "") -> None:
        self._alive[fact.session] -= 1
        fact.ended_at, fact.ended, fact.error = clock.now(), ended, error


async def _play(step: Step, attempt: ScriptedAttempt, fact: AttemptFact, clock: Clock) -> Any:
    while isinstance(step, Heartbeats):
        for _ in range(step.times):
            await clock.sleep(step.every_s)
            attempt.heartbeat()
            fact.heartbeats += 1
        step = step.then
    match step:
        case NeverAwaits():
            return step.value
        case Succeeds():
            await clock.sleep(step.after_s)
            return step.value
        case Fails():
            await clock.sleep(step.after_s)
            raise Failure(step.kind, step.message, step.retry_after)
        case Raises():
            await clock.sleep(step.after_s)
            raise _made(step)
        case Hangs():
            return await _hang(step.ignoring_cancellation_for_s, fact, clock)


def _made(step: Raises) -> BaseException:
    error = step.error(*step.args)
    if step.retry_after is not None:
        error.retry_after = step.retry_after  # type: ignore[attr-defined]
    return error


async def _hang(ignoring_cancellation_for_s: float, fact: AttemptFact, clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_future()
    except asyncio.CancelledError:
        if not ignoring_cancellation_for_s:
            raise
        fact.cancelled_at.append(clock.now())
    over_at = clock.now() + ignoring_cancellation_for_s
    while (left := over_at - clock.now()) > 0:
        try:
            await clock.sleep(left)
        except asyncio.CancelledError:
            fact.cancelled_at.append(clock.now())


def _ending(error: BaseException, fact: AttemptFact, clock: Clock) -> Ending:
    match error:
        case asyncio.CancelledError():
            fact.cancelled_at.append(clock.now())
            return Ending.CANCELLED
        case GeneratorExit():
            return Ending.CLOSED
        case _:
            return Ending.RAISED
