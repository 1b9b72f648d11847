"""Time and dice."""

import asyncio
from datetime import UTC, datetime

from supervisor.clock import SystemClock, clock_of, iso_utc, utc
from supervisor.testing import VirtualClock


def test_the_machines_clock_is_monotonic_and_knows_the_time_of_the_day() -> None:
    clock = SystemClock()
    first = clock.now()
    assert clock.now() >= first
    assert clock.wall() > 1_700_000_000.0


def test_draws_are_between_zero_and_one_and_tokens_are_nobody_elses() -> None:
    clock = SystemClock()
    draws = [clock.draw() for _ in range(1000)]
    assert 0.0 <= min(draws) <= max(draws) < 1.0
    tokens = {clock.token(6) for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {12}


async def test_the_clock_of_a_virtual_loop_is_its_own() -> None:
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    assert isinstance(clock, VirtualClock)
    began = clock.now()
    await clock.sleep(3600.0)
    assert (clock.now() - began, loop.time()) == (3600.0, clock.now())


def test_any_other_loop_runs_on_the_machines_clock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = clock_of(loop)
        assert isinstance(clock, SystemClock)
        assert loop.time() <= clock.now() <= loop.time() + 60.0  # one scale
        await clock.sleep(0.0)

    asyncio.run(main())


def test_moments_are_written_in_utc_with_milliseconds() -> None:
    assert utc(0.0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert iso_utc(1_767_225_600.0) == "2026-01-01T00:00:00.000Z"
    assert iso_utc(1_767_225_600.0625) == "2026-01-01T00:00:00.062Z"
