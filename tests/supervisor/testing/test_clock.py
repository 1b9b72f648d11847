import asyncio
from collections.abc import AsyncIterator

import pytest

from supervisor.clock import Clock, clock_of
from supervisor.testing import VirtualClock, VirtualLoop, virtual_clock


def test_an_hour_passes_at_once_and_exactly() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    clock = virtual_clock(start=1000.0)
    assert clock.run(main()) == 4600.0
    assert clock.now() == 4600.0


def test_several_runs_share_the_moment() -> None:
    with virtual_clock(start=0.0) as clock:
        clock.run(asyncio.sleep(60))
        clock.run(asyncio.sleep(60))
        assert clock.now() == 120.0


def test_a_loop_carries_its_clock() -> None:
    async def main() -> tuple[Clock, float]:
        clock = clock_of(asyncio.get_running_loop())
        before = clock.now()
        await clock.sleep(5)
        return clock, clock.now() - before

    with virtual_clock() as clock:
        assert clock.run(main()) == (clock, 5.0)
        assert clock.loop.turnkeeper_clock is clock


def test_it_makes_the_loop_of_a_runner() -> None:
    clock = virtual_clock(start=0.0)
    with asyncio.Runner(loop_factory=clock.new_loop) as runner:
        assert runner.get_loop() is clock.loop
        runner.run(asyncio.sleep(10))
        runner.run(asyncio.sleep(10))
    assert clock.now() == 20.0
    assert clock.loop.is_closed()


async def test_pytest_asyncio_runs_async_tests_on_it() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before = loop.time()
    await asyncio.sleep(86_400)
    assert loop.time() - before == 86_400


def test_the_wall_clock_goes_with_the_loop_and_can_be_stepped() -> None:
    with virtual_clock(wall=1_000_000.0) as clock:
        assert clock.wall() == 1_000_000.0
        clock.run(asyncio.sleep(30))
        assert clock.wall() == 1_000_030.0
        clock.step_wall(-100)
        assert clock.wall() == 999_930.0
        clock.run(asyncio.sleep(30))
        assert clock.wall() == 999_960.0
        assert clock.now() == virtual_clock().now() + 60


def test_the_same_seed_draws_the_same() -> None:
    def drawn(clock: VirtualClock) -> list[float]:
        return [clock.draw() for _ in range(5)]

    assert drawn(virtual_clock(7)) == drawn(virtual_clock(7))
    assert drawn(virtual_clock(7)) != drawn(virtual_clock(8))
    assert all(0 <= draw < 1 for draw in drawn(virtual_clock(9)))


def test_tokens_come_from_the_seed_and_leave_the_draws_alone() -> None:
    one, other = virtual_clock(7), virtual_clock(7)
    tokens = [one.token(8) for _ in range(100)]
    assert tokens == [other.token(8) for _ in range(100)]
    assert len(set(tokens)) == 100
    assert {len(token) for token in tokens} == {16}
    assert one.draw() == virtual_clock(7).draw()


def test_a_seed_draws_the_same_on_every_python() -> None:
    clock = virtual_clock(42)
    assert clock.draw() == 0.6394267984578837
    assert clock.token(8) == "b3d1d0548e879fbe"


def test_time_never_goes_back() -> None:
    clock = virtual_clock(start=50.0)
    clock.advance_to(10.0)
    assert clock.now() == 50.0


def test_a_clock_without_a_loop_says_so() -> None:
    with pytest.raises(RuntimeError, match="no loop yet"):
        _ = virtual_clock().loop


def test_leaving_the_clock_closes_what_was_left_open() -> None:
    with virtual_clock() as clock:
        first, second = clock.new_loop(), clock.new_loop()
    assert first.is_closed()
    assert second.is_closed()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_what_the_coroutine_raises_comes_out(error: BaseException) -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise error

    with pytest.raises(type(error)):
        virtual_clock().run(main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_another_task_comes_out(error: type[BaseException]) -> None:
    async def interrupted() -> None:
        await asyncio.sleep(1)
        raise error

    async def main() -> None:
        task = asyncio.create_task(interrupted())
        await asyncio.sleep(10)
        await task

    clock = virtual_clock(start=0.0)
    with pytest.raises(error):
        clock.run(main())
    assert clock.now() == 1.0


def test_tasks_left_over_are_cancelled_oldest_first_and_awaited() -> None:
    told: list[str] = []

    async def lingers(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            told.append(f"{name} cancelled")
            await asyncio.sleep(2)
            told.append(f"{name} gone")
            raise

    async def main() -> None:
        left.extend(asyncio.create_task(lingers(name)) for name in "abcdefghijkl")
        await asyncio.sleep(1)

    left: list[asyncio.Task[None]] = []
    clock = virtual_clock(start=0.0)
    clock.run(main())
    assert told == [f"{name} {what}" for what in ("cancelled", "gone") for name in "abcdefghijkl"]
    assert all(task.cancelled() for task in left)
    assert clock.now() == 3.0


def test_asynchronous_generators_are_shut_down_oldest_first() -> None:
    closed: list[int] = []

    async def counts(number: int) -> AsyncIterator[int]:
        try:
            yield number
        finally:
            await asyncio.sleep(1)
            closed.append(number)

    async def main() -> None:
        for number in range(12):
            generator = counts(number)
            kept.append(generator)
            assert await anext(generator) == number

    kept: list[AsyncIterator[int]] = []
    virtual_clock().run(main())
    assert closed == list(range(12))
