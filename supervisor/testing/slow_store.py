"""A store whose answers are late: each call may suspend before its commit, after it, or both."""

import random  # noqa: TID251 - seeded: the same seed is slow in the same places
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from policies.breaker import State
from policies.budget import Bucket
from policies.failure import Failed, Receipt
from policies.verdict import Reason, Verdict
from supervisor.clock import Clock
from supervisor.events import Events
from supervisor.store.contract import Ending, Refused, Standing, Store, Waiting
from supervisor.tasks import Now, Pending
from supervisor.testing.faults import Slowness

T = TypeVar("T")


class SlowStore:
    """Another store, behind a network. What a call changes is changed in one step, at its commit."""

    def __init__(self, inner: Store, slowness: Slowness, seed: int = 0) -> None:
        self._inner = inner
        self._slowness = slowness
        self._dice = random.Random(f"slow store {seed}")  # noqa: S311 - nothing here is secret

    @property
    def alive(self) -> Path | None:
        return self._inner.alive

    def open(self, clock: Clock, events: Events, host: Bucket | None) -> Now[None]:
        self._clock = clock
        return self._inner.open(clock, events, host)

    def change_host(self, host: Bucket | None) -> None:
        self._inner.change_host(host)

    def close(self) -> Now[None]:
        return self._inner.close()

    def arrive(self, run: Standing) -> Now[Refused | Waiting | None]:
        return self._answer(self._inner.arrive, run)

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        await self._maybe_wait()
        answer = await self._inner.turn(run, until)
        await self._maybe_wait()
        return answer

    def leave(self, run: Standing) -> Now[None]:
        return self._answer(self._inner.leave, run)

    def begin(self, run: Standing) -> Now[Refused | None]:
        return self._answer(self._inner.begin, run)

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Now[Verdict]:
        return self._answer(self._inner.record, run, failed, receipt, stopped)

    def end(self, run: Standing, ending: Ending) -> Now[None]:
        return self._answer(self._inner.end, run, ending)

    async def slot(self, run: Standing, slots: Callable[[], int], rank: int, until: float | None) -> bool:
        await self._maybe_wait()
        return await self._inner.slot(run, slots, rank, until)

    async def give_slot(self, run: Standing) -> None:
        await self._maybe_wait()
        await self._inner.give_slot(run)

    async def breaker_moved(self, session: str, seen: State | None, until: float | None) -> None:
        await self._maybe_wait()
        await self._inner.breaker_moved(session, seen, until)

    async def lift(self, session: str, run_id: str) -> None:
        await self._maybe_wait()
        await self._inner.lift(session, run_id)

    async def reset(self, session: str) -> None:
        await self._maybe_wait()
        await self._inner.reset(session)

    def _answer(self, call: Callable[..., Now[T]], *args: Any) -> Now[T]:
        if self._dice.random() >= self._slowness.share:
            return call(*args)
        return self._late(call, *args)

    async def _late(self, call: Callable[..., Now[T]], *args: Any) -> T:
        await self._wait()
        answer = call(*args)
        settled = await answer if isinstance(answer, Pending) else answer
        await self._wait()
        return settled

    async def _maybe_wait(self) -> None:
        if self._dice.random() < self._slowness.share:
            await self._wait()

    async def _wait(self) -> None:
        for _ in range(self._dice.randint(0, self._slowness.rounds)):
            await self._clock.sleep(0)
        if self._slowness.seconds and self._dice.random() < 0.5:
            await self._clock.sleep(round(self._dice.random() * self._slowness.seconds, 3))
