"""What listeners get, what they may do wrong, and that it harms nobody."""

import asyncio
import gc
import logging
import weakref
from contextvars import ContextVar
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from supervisor import Attempt, Supervisor, current_attempt
from supervisor.events import BreakerHalfOpened, Delivery, Event, Events, RunQueued
from supervisor.testing import Recorded, ScriptedWork, never_awaits
from tests.supervisor.rules import now, rules


def event(number: int = 0) -> RunQueued:
    return RunQueued("s", f"run {number}", 0.0, "gate")


def numbers(seen: list[Any]) -> list[int]:
    return [int(each.run_id.removeprefix("run ")) for each in seen]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_every_listener_gets_every_event_in_order() -> None:
    events, first, second = Events(), Recorded(), Recorded()
    events.on(first, 10)
    events.on(second, 10)
    for n in range(5):
        events.emit(event(n))
    await settle()
    assert numbers(first.events) == numbers(second.events) == [0, 1, 2, 3, 4]


async def test_an_event_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        event().session = "other"  # type: ignore[misc]


async def test_nothing_is_delivered_before_the_loop_s_next_round() -> None:
    events, recorded = Events(), Recorded()
    events.on(recorded, 10)
    events.emit(event())
    assert not recorded.events


@pytest.mark.parametrize("capacity", [0, -1])
async def test_a_queue_holds_one_event_or_more(capacity: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        Events().on(Recorded(), capacity)


async def test_a_full_queue_drops_the_newest_and_counts_it() -> None:
    events, recorded = Events(), Recorded()
    small, large = events.on(recorded, 3), events.on(Recorded(), 100)
    for n in range(10):
        events.emit(event(n))
    await settle()
    assert numbers(recorded.events) == [0, 1, 2]
    assert (small.dropped, large.dropped) == (7, 0)
    events.emit(event(10))
    await settle()
    assert numbers(recorded.events)[-1] == 10


async def test_a_slow_listener_delays_nobody_and_is_told_in_order() -> None:
    seen: list[Event] = []

    async def slow(each: Event) -> None:
        await asyncio.sleep(60.0)
        seen.append(each)

    events, recorded = Events(), Recorded()
    delivery = events.on(slow, 4)
    events.on(recorded, 10)
    began = now()
    for n in range(3):
        events.emit(event(n))
    await settle()
    assert (len(recorded), now()) == (3, began)
    await asyncio.sleep(30.0)
    for n in range(3, 6):
        events.emit(event(n))  # one is with the listener, two wait: two more find a place
    await asyncio.sleep(1000.0)
    assert numbers(seen) == [0, 1, 2, 3, 4]
    assert delivery.dropped == 1


async def broken_later(_: Event) -> None:
    await asyncio.sleep(1.0)
    raise ValueError("not today")


def broken(_: Event) -> None:
    raise ValueError("not today")


async def waits_for_something_cancelled(_: Event) -> None:
    other = asyncio.get_running_loop().create_future()
    other.cancel()
    await other


class Odd(BaseException):
    """As trio's Cancelled, or an exit."""


def raising(error: type[BaseException]) -> Any:
    def raises(_: Event) -> None:
        raise error("not today")

    return raises


def raising_later(error: type[BaseException]) -> Any:
    async def raises(_: Event) -> None:
        await asyncio.sleep(1.0)
        raise error("not today")

    return raises


@pytest.mark.parametrize(
    "listener",
    [
        broken,
        broken_later,
        waits_for_something_cancelled,
        *map(raising, (Odd, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)),
        *map(raising_later, (Odd, KeyboardInterrupt, SystemExit, asyncio.CancelledError)),
    ],
)
async def test_a_listener_that_raises_goes_on_getting_events_and_is_named_once(
    listener: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events, recorded = Events(), Recorded()
    delivery = events.on(listener, 10)
    events.on(recorded, 10)
    with caplog.at_level(logging.WARNING, "turnkeeper"):
        for n in range(3):
            events.emit(event(n))
        await asyncio.sleep(10.0)
    assert (delivery.failed, len(recorded)) == (3, 3)
    assert len(caplog.records) == 1
    assert "a listener raised" in caplog.text


async def test_no_listener_breaks_a_run(supervisor: Supervisor) -> None:
    for listener in (broken, broken_later, waits_for_something_cancelled):
        supervisor.on(listener)
    assert (await supervisor.run("a", ScriptedWork(never_awaits("done")), policy=rules())).value == "done"


# --- draining


async def test_draining_waits_until_all_is_delivered() -> None:
    seen: list[Event] = []

    async def slow(each: Event) -> None:
        await asyncio.sleep(0.2)
        seen.append(each)

    events = Events()
    delivery = events.on(slow, 10)
    for n in range(4):
        events.emit(event(n))
    await events.drain(1.0)
    assert (numbers(seen), delivery.dropped) == ([0, 1, 2, 3], 0)


async def test_draining_gives_up_in_time_and_counts_what_was_not_delivered() -> None:
    async def hangs(_: Event) -> None:
        await asyncio.get_running_loop().create_future()

    events, recorded = Events(), Recorded()
    delivery = events.on(hangs, 10)
    events.on(recorded, 10)
    for n in range(4):
        events.emit(event(n))
    began = now()
    await events.drain(1.0)
    assert now() - began == 1.0
    assert delivery.dropped == 3  # and one was with the listener
    assert len(recorded) == 4


async def test_a_listener_that_ignores_its_cancellation_does_not_hold_the_drain() -> None:
    async def stubborn(_: Event) -> None:
        for _attempt in range(10):
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                continue

    events = Events()
    events.on(stubborn, 10)
    events.emit(event())
    began = now()
    await events.drain(1.0)
    assert now() - began <= 2.0


async def test_all_listeners_are_drained_at_once() -> None:
    async def hangs(_: Event) -> None:
        await asyncio.get_running_loop().create_future()

    events = Events()
    deliveries = [events.on(hangs, 10) for _ in range(5)]
    events.emit(event())
    events.emit(event())
    began = now()
    await events.drain(1.0)
    assert now() - began == 1.0
    assert [delivery.dropped for delivery in deliveries] == [1] * 5


async def test_a_delivery_that_is_closed_ends() -> None:
    """As the loop's tasks are when the program ends without running them to their end."""

    async def hangs(_: Event) -> None:
        await asyncio.get_running_loop().create_future()

    delivery = Events().on(hangs, 10)
    handed = delivery._hand_over(event())
    handed.send(None)
    handed.close()
    assert delivery.failed == 0


async def test_a_delivery_that_is_cancelled_delivers_no_more() -> None:
    seen: list[Event] = []

    async def hangs(each: Event) -> None:
        seen.append(each)
        await asyncio.get_running_loop().create_future()

    events = Events()
    delivery = events.on(hangs, 10)
    for n in range(3):
        events.emit(event(n))
    await settle()
    task = delivery._task
    assert task is not None
    task.cancel()  # as asyncio.run does with every task when it ends
    await asyncio.wait((task,))
    assert (numbers(seen), delivery.failed) == ([0], 0)


async def test_draining_without_anything_queued_returns_at_once() -> None:
    events = Events()
    events.on(Recorded(), 10)
    began = now()
    await events.drain(1.0)
    assert now() == began


async def test_leaving_the_supervisor_delivers_what_is_queued() -> None:
    recorded = Recorded()
    async with Supervisor() as supervisor:
        supervisor.on(recorded)
        await supervisor.run("a", ScriptedWork(never_awaits()), policy=rules())
    assert recorded.names() == ["AttemptStarted", "AttemptEnded", "RunEnded"]


# --- whose news it is does not matter to who hears it

VARIABLE: ContextVar[object] = ContextVar("variable", default=None)


class Big:
    """What an attempt built up."""


async def test_a_slow_listener_keeps_nothing_of_the_attempt_that_had_news(tmp_path: Path) -> None:
    made: list[weakref.ref[Big]] = []

    async def work(attempt: Attempt) -> None:
        big = Big()
        made.append(weakref.ref(big))
        VARIABLE.set(big)
        await attempt.lock(tmp_path / "a.jsonl")

    async def slow(_: Event) -> None:
        await asyncio.sleep(60.0)

    gc.disable()
    try:
        async with Supervisor() as supervisor:
            supervisor.on(slow)
            await asyncio.sleep(0)

            async def only_the_lock_is_news(attempt: Attempt) -> None:
                await asyncio.sleep(300.0)  # whatever was told before is delivered
                await work(attempt)

            await supervisor.run("a", only_the_lock_is_news, policy=rules(timeout_s=None))
            await settle()
            assert made[0]() is None
    finally:
        gc.enable()


async def test_a_run_that_a_listener_starts_is_nobody_s_child(supervisor: Supervisor, tmp_path: Path) -> None:
    within: list[Attempt | None] = []

    async def starts_a_run(each: Event) -> None:
        if each.session == "a":
            within.append(current_attempt())

    supervisor.on(starts_a_run)

    async def work(attempt: Attempt) -> None:
        await asyncio.sleep(1.0)
        await attempt.lock(tmp_path / "a.jsonl")
        await asyncio.sleep(1.0)

    await supervisor.run("a", work, policy=rules())
    assert within
    assert set(within) == {None}


async def test_a_delivery_is_asked_for_its_counts() -> None:
    delivery = Events().on(Recorded(), 7)
    assert isinstance(delivery, Delivery)
    assert (delivery.capacity, delivery.dropped, delivery.failed) == (7, 0, 0)
    assert BreakerHalfOpened("s", "run", 0.0).session == "s"
