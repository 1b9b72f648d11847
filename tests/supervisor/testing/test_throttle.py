import asyncio
import threading
import time

import pytest
from asyncio_throttle import throttler
from asyncio_throttle.throttler import Throttler

from supervisor.testing import virtual_clock
from supervisor.testing.throttle import throttle_on_loop_time


async def starts_of(count: int) -> list[float]:
    limit = Throttler(rate_limit=2, period=60)
    loop = asyncio.get_running_loop()
    starts = []
    for _ in range(count):
        async with limit:
            starts.append(loop.time())
    return starts


def test_a_throttler_counts_in_virtual_time() -> None:
    starts = virtual_clock(start=0.0).run(starts_of(6))
    assert [round(start, 1) for start in starts] == [0.0, 0.0, 60.0, 60.0, 120.0, 120.0]


def test_the_patch_is_undone_when_the_run_ends() -> None:
    async def patched() -> bool:
        return throttler.__dict__["time"] is not time

    async def breaks() -> None:
        raise ValueError("no")

    clock = virtual_clock()
    assert clock.run(patched())
    assert throttler.__dict__["time"] is time
    with pytest.raises(ValueError, match="no"):
        clock.run(breaks())
    assert throttler.__dict__["time"] is time


def test_it_stays_until_the_last_user_leaves() -> None:
    with throttle_on_loop_time():
        with throttle_on_loop_time():
            pass
        assert throttler.__dict__["time"] is not time
    assert throttler.__dict__["time"] is time


def test_a_real_loop_keeps_real_time_meanwhile() -> None:
    async def asked() -> float:
        now: float = throttler.__dict__["time"].monotonic()
        return now

    def on_a_real_loop() -> None:
        real.append(asyncio.run(asked()))

    async def main() -> float:
        thread = threading.Thread(target=on_a_real_loop)
        thread.start()
        thread.join()
        return await asked()

    real: list[float] = []
    before = time.monotonic()
    assert virtual_clock(start=-5.0).run(main()) == -5.0
    assert before <= real[0] <= time.monotonic()


def test_all_else_of_time_stays_as_it_is() -> None:
    with throttle_on_loop_time():
        assert throttler.__dict__["time"].sleep is time.sleep
        assert throttler.__dict__["time"].monotonic() <= time.monotonic()
