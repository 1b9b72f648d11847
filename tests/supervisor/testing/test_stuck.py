import asyncio
import itertools
import math
from pathlib import Path

import pytest

from supervisor.testing import Deadlock, Livelock, virtual_clock

HERE = Path(__file__).name


async def wait_for_nobody() -> None:
    await asyncio.Event().wait()


def test_a_deadlock_names_each_task_and_where_it_waits() -> None:
    async def main() -> None:
        await asyncio.sleep(5)
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_nobody(), name="left")
            group.create_task(wait_for_nobody(), name="right")

    with pytest.raises(Deadlock) as caught:
        virtual_clock(start=0.0).run(main())
    line = wait_for_nobody.__code__.co_firstlineno + 1
    assert caught.value.moment == 5.0
    first, left, right = caught.value.waiting
    assert HERE in first
    assert first.endswith("main")
    assert left.startswith("left waits at ")
    assert left.endswith(f"{HERE}:{line} in wait_for_nobody")
    assert right.startswith("right waits at ")
    assert left in str(caught.value)


def test_a_deadlock_looks_through_generators_and_futures() -> None:
    async def main() -> None:
        await asyncio.wait({asyncio.ensure_future(asyncio.get_running_loop().create_future())})

    with pytest.raises(Deadlock, match=rf"{HERE}:\d+ in "):
        virtual_clock().run(main())


def test_the_tasks_of_a_deadlock_can_end() -> None:
    told: list[str] = []

    async def main() -> None:
        try:
            await wait_for_nobody()
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            told.append("cleaned up")
            raise

    with pytest.raises(Deadlock):
        virtual_clock().run(main())
    assert told == ["cleaned up"]


def test_a_timer_at_the_end_of_time_wakes_nobody() -> None:
    with pytest.raises(Deadlock):
        virtual_clock().run(asyncio.sleep(math.inf))


def test_a_cancelled_timer_wakes_nobody() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(60, print).cancel()
        await wait_for_nobody()

    clock = virtual_clock(start=0.0)
    with pytest.raises(Deadlock):
        clock.run(main())
    assert clock.now() == 0.0


def test_a_crowd_is_described_by_a_few() -> None:
    async def main() -> None:
        await asyncio.gather(*(wait_for_nobody() for _ in range(100)))

    with pytest.raises(Deadlock, match="and 81 more") as caught:
        virtual_clock().run(main())
    assert len(caught.value.waiting) == 101


@pytest.mark.parametrize("pause", [0, 1e-300])
def test_a_livelock_names_who_asks_again_and_again(pause: float) -> None:
    async def asks() -> None:
        for _ in itertools.count():
            await asyncio.sleep(pause)

    async def main() -> None:
        await asyncio.sleep(2)
        await asyncio.create_task(asks(), name="busy one")

    with pytest.raises(Livelock, match=rf"busy one waits at .*{HERE}:\d+ in .*asks") as caught:
        virtual_clock(start=0.0).run(main())
    assert caught.value.moment == 2.0


def test_many_rounds_are_no_livelock_while_time_moves() -> None:
    async def main() -> None:
        for _ in range(60_000):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        for _ in range(60_000):
            await asyncio.sleep(0)

    virtual_clock().run(main())


def test_a_crowd_at_one_moment_is_no_livelock() -> None:
    async def one() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one() for _ in range(6000)))

    virtual_clock().run(main())
