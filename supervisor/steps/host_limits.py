"""What the host allows: attempts running, starts per period, memory available. First attempts go before retries."""

import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import Final

from asyncio_throttle.throttler import Throttler

from policies.failure import Refusal
from supervisor.clock import Clock
from supervisor.events import RunQueued
from supervisor.steps.running import Running
from supervisor.store.contract import Refused, Store
from supervisor.tasks import wait_until

MEMORY_POLL_S: Final = 0.5
"""How often available memory is read again while an attempt waits for it."""

_PAST_S: Final = 0.001


class _Line:
    """Waiters for one thing, one at a time at its head; first attempts stand before retries, the head before all."""

    def __init__(self) -> None:
        self._head: deque[asyncio.Future[None]] = deque()
        self._first: deque[asyncio.Future[None]] = deque()
        self._retries: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._head or self._first or self._retries)

    def join(self, run: Running, *, at_head: bool) -> "asyncio.Future[None]":
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._head if at_head else self._retries if run.number else self._first).append(place)
        return place

    def next(self) -> "asyncio.Future[None] | None":
        """Take out whoever is first, and has not left."""
        for line in (self._head, self._first, self._retries):
            while line:
                place = line.popleft()
                if not place.done():
                    return place
        return None

    def drop(self, place: "asyncio.Future[None]") -> None:
        place.cancel()
        for line in (self._head, self._first, self._retries):
            with suppress(ValueError):
                line.remove(place)
                return


class HostLimits:
    """One process's share of the host: None for each limit that is off. Slots are one for all where the store is.

    `starts` is (count, period in seconds): at most `count` attempts start within any period. asyncio-throttle keeps
    the window; as its waiters poll and overtake each other, only the head of our own line waits in it.
    """

    def __init__(
        self,
        clock: Clock,
        store: Store,
        running: int | None,
        starts: tuple[int, float] | None,
        min_available_memory: int | None,
    ) -> None:
        self._clock = clock
        self._shared = None if store.alive is None else store
        self._slots = running
        self._running = 0
        self._slot_line = _Line()
        self._throttler = None if starts is None else Throttler(starts[0], starts[1])
        self._door_line = _Line()
        self._door_taken = False
        self._min_available_memory = min_available_memory

    def change(self, running: int | None, starts: tuple[int, float] | None, min_available_memory: int | None) -> None:
        """Have other limits from now on, also for those who wait. Nobody who runs is stopped."""
        self._slots, self._min_available_memory = running, min_available_memory
        if starts is None:
            self._throttler = None
        elif self._throttler is None or (self._throttler.rate_limit, self._throttler.period) != starts:
            self._throttler = Throttler(starts[0], starts[1])
        self._hand_out_slots()

    async def enter(self, run: Running, *, at_head: bool = False) -> Refused | None:
        """Get a slot, then a start, then memory; bounded by the run's deadline. Refused: nothing is held."""
        if not await self._get_slot(run, at_head=at_head):
            return Refused(*self._over(run, Refusal.HOST_FULL, f"all {self._slots} slots of the host are taken"))
        try:
            refused = await self._pass_door(run, at_head=at_head)
        except BaseException:
            self.leave(run)
            raise
        if refused is not None:
            self.leave(run)
        return refused

    def leave(self, run: Running) -> None:
        """Give the slot back, to whoever is next. Does nothing to a run without one."""
        if not run.holds_slot:
            return
        run.holds_slot = False
        if self._shared is None:
            self._running -= 1
            self._hand_out_slots()

    async def lend(self, run: Running) -> None:
        """Give the slot back while the run waits for something else, with its permit alone."""
        if self._shared is not None and run.holds_slot:
            await self._shared.give_slot(run)
        self.leave(run)

    def _over(self, run: Running, reason: Refusal, detail: str) -> tuple[Refusal, str]:
        return (reason if run.number == 0 else Refusal.DEADLINE), detail

    async def _get_slot(self, run: Running, *, at_head: bool) -> bool:
        if self._slots is None or _ancestor_holds_slot(run):
            return True
        if self._shared is not None:
            rank = 0 if at_head else 2 if run.number else 1
            run.holds_slot = await self._shared.slot(run, self._most_running, rank, run.deadline)
            return run.holds_slot
        if self._running < self._slots and not self._slot_line:
            self._running += 1
            run.holds_slot = True
            return True
        place = self._slot_line.join(run, at_head=at_head)
        _queued(run)
        try:
            granted = await wait_until(place, run.deadline)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # granted in this very instant: pass it on
                self._running -= 1
            self._slot_line.drop(place)
            self._hand_out_slots()
            raise
        if not granted:
            self._slot_line.drop(place)
            return False
        run.holds_slot = True
        return True

    def _most_running(self) -> int:
        return sys.maxsize if self._slots is None else self._slots

    def _hand_out_slots(self) -> None:
        while self._running < self._most_running():
            place = self._slot_line.next()
            if place is None:
                return
            self._running += 1
            place.set_result(None)

    async def _pass_door(self, run: Running, *, at_head: bool) -> Refused | None:
        """One at a time: a start of the throttle, and memory."""
        needs_start = self._throttler is not None and not run.start_charged
        if not needs_start and self._min_available_memory is None:
            return None
        if self._door_taken and not await self._reach_door(run, at_head=at_head):
            return Refused(*self._over(run, Refusal.HOST_FULL, "too many attempts wait for a start"))
        self._door_taken = True
        try:
            return await self._get_memory_and_start(run, needs_start=needs_start)
        finally:
            self._open_door()

    async def _reach_door(self, run: Running, *, at_head: bool) -> bool:
        place = self._door_line.join(run, at_head=at_head)
        _queued(run)
        try:
            reached = await wait_until(place, run.deadline)
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._open_door()
            self._door_line.drop(place)
            raise
        if not reached:
            self._door_line.drop(place)
        return reached

    def _open_door(self) -> None:
        place = self._door_line.next()
        if place is None:
            self._door_taken = False
        else:
            place.set_result(None)  # the door stays taken: it is handed over

    async def _get_memory_and_start(self, run: Running, *, needs_start: bool) -> Refused | None:
        """Charge the start last: one that was charged and then waited for memory would be launched in a later period,
        beside all that are charged in that one.
        """
        while True:
            if (refused := await self._get_memory(run)) is not None:
                return refused
            wait_s = self._until_a_start_s() if needs_start else 0.0
            if wait_s <= 0.0:
                break
            if run.deadline is not None and self._clock.now() + wait_s >= run.deadline:
                await self._clock.sleep(max(0.0, run.deadline - self._clock.now()))
                return Refused(*self._over(run, Refusal.HOST_FULL, "no start was left before the deadline"))
            await self._clock.sleep(wait_s)
        if needs_start and self._throttler is not None:
            async with self._throttler:  # it has room: it does not poll
                run.start_charged = True
        return None

    def _until_a_start_s(self) -> float:
        throttler = self._throttler
        assert throttler is not None, "asked only where starts are limited"
        throttler.flush()  # type: ignore[no-untyped-call]
        if len(throttler._task_logs) < throttler.rate_limit:
            return 0.0
        # The window is closed on both sides: a start at the very end of a period still counts.
        expires_at: float = throttler._task_logs[0] + throttler.period
        return max(0.0, expires_at - self._clock.now()) + _PAST_S

    async def _get_memory(self, run: Running) -> Refused | None:
        least = self._min_available_memory
        if least is None:
            return None
        while (available := run.effects.available_memory()) < least:
            if run.deadline is not None and self._clock.now() >= run.deadline:
                mib = 1024 * 1024
                detail = f"{available // mib} MiB of memory are available, {least // mib} MiB are asked for"
                return Refused(*self._over(run, Refusal.LOW_MEMORY, detail))
            left_s = MEMORY_POLL_S if run.deadline is None else run.deadline - self._clock.now()
            await self._clock.sleep(min(MEMORY_POLL_S, left_s))
        return None


def _ancestor_holds_slot(run: Running) -> bool:
    """A nested attempt uses its ancestor's slot: else N parents of N slots would wait for ever."""
    above = run.parent
    while above is not None:
        if isinstance(above, Running) and above.holds_slot:
            return True
        above = above.parent
    return False


def _queued(run: Running) -> None:
    if run.effects.events.listeners:
        run.effects.events.emit(RunQueued(*run.about(), "host"))
