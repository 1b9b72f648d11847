"""Operations that must not be cut short, and waits that must end."""

import asyncio
from typing import Any

import pytest

from supervisor.tasks import Now, settled, start_eager, start_plain, to_the_end, wait_until
from tests.supervisor.rules import now


def unexpected(error: asyncio.CancelledError) -> None:
    raise AssertionError(error)


async def at_once(value: int) -> int:
    return value


async def later(value: int, seconds: float = 1.0) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(seconds)
    return value


async def test_an_answer_that_is_there_costs_no_task() -> None:
    before = asyncio.all_tasks()
    assert await to_the_end(at_once(7), unexpected) == 7
    assert await settled(7, unexpected) == 7
    answer: Now[int] = at_once(7)
    assert await settled(answer, unexpected) == 7
    assert asyncio.all_tasks() == before


async def test_an_operation_is_awaited_to_its_end_though_its_caller_is_cancelled() -> None:
    done: list[int] = []
    noted: list[tuple[Any, ...]] = []

    async def operation() -> int:
        done.append(await later(7, 5.0))
        return 7

    async def caller() -> int:
        return await to_the_end(operation(), lambda error: noted.append(error.args))

    task = asyncio.create_task(caller())
    await asyncio.sleep(1.0)
    task.cancel("first")
    await asyncio.sleep(1.0)
    task.cancel("second")
    began = now()
    assert await task == 7
    assert (done, noted, now() - began) == ([7], [("first",), ("second",)], 3.0)


async def test_a_cancellation_before_its_first_suspension_is_noted_too() -> None:
    noted: list[str] = []

    async def caller() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await to_the_end(later(7), lambda _: noted.append("noted"))

    assert await asyncio.create_task(caller()) == 7
    assert noted == ["noted"]


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_what_an_operation_raises_comes_out(when: str) -> None:
    async def failing() -> None:
        if when == "later":
            await later(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await to_the_end(failing(), unexpected)


async def test_an_operation_that_catches_what_it_waits_for_goes_on() -> None:
    async def operation() -> str:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.0, future.set_exception, ValueError("inner"))
        try:
            await future
        except ValueError:
            await later(0)
        return "went on"

    assert await to_the_end(operation(), unexpected) == "went on"


@pytest.mark.parametrize("start", [start_plain, start_eager])
async def test_a_started_task_runs_to_its_end(start: Any) -> None:
    assert await start(at_once(1)) == 1
    assert await start(later(2)) == 2
    with pytest.raises(ZeroDivisionError):
        await start(dividing())


async def dividing() -> float:
    return 1 / 0


async def test_a_wait_ends_with_its_future_or_at_its_moment() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    began = now()
    assert await wait_until(future, began + 5.0) is False
    assert (now() - began, future.done()) == (5.0, False)
    loop.call_later(2.0, future.set_result, None)
    assert await wait_until(future, began + 60.0) is True
    assert now() - began == 7.0
    assert await wait_until(future, None) is True
    assert await wait_until(future, began) is True


async def test_a_wait_without_a_moment_ends_with_its_future() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(86400.0, future.set_result, None)
    assert await wait_until(future, None) is True


@pytest.mark.parametrize("until", [None, 60.0])
async def test_who_is_cancelled_while_waiting_cancels_nobody_else(until: float | None) -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_until(future, None if until is None else now() + until))
    await asyncio.sleep(1.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.cancelled()
    future.set_result(None)


@pytest.mark.parametrize("until", [None, 60.0])
async def test_a_future_that_fails_or_is_cancelled_ends_a_wait_without_raising(until: float | None) -> None:
    loop = asyncio.get_running_loop()
    moment = None if until is None else now() + until
    failing, cancelled = loop.create_future(), loop.create_future()
    loop.call_later(1.0, failing.set_exception, ValueError("not ours"))
    loop.call_later(1.0, cancelled.cancel)
    assert await wait_until(failing, moment) is True
    assert await wait_until(cancelled, moment) is True
    assert isinstance(failing.exception(), ValueError)
