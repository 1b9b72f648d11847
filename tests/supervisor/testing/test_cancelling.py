"""A caller that is cancelled at a place."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from supervisor.testing.cancelling import WOKEN, cancelled_at


class Steps:
    """An operation of three suspensions, which writes down how far it came."""

    def __init__(self) -> None:
        self.done: list[int] = []

    async def run(self) -> str:
        for step in (1, 2, 3):
            await asyncio.sleep(step)
            self.done.append(step)
        return "whole"


async def test_an_operation_without_places_is_awaited_to_its_end() -> None:
    steps = Steps()
    assert await cancelled_at(steps.run(), {}) == "whole"
    assert steps.done == [1, 2, 3]


@pytest.mark.parametrize("rounds", [WOKEN, 0, 1, 2])
async def test_it_is_cancelled_in_its_second_suspension(rounds: int) -> None:
    steps = Steps()
    told: list[str] = []
    task = asyncio.create_task(_awaited(steps, {2: rounds}, told))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.done == [1]
    assert told == ["cancelled"]


async def _awaited(steps: Steps, places: dict[int, int], told: list[str]) -> str:
    return await cancelled_at(steps.run(), places, lambda: told.append("cancelled"))


async def test_woken_it_is_cancelled_though_what_it_waited_for_is_there() -> None:
    future = asyncio.get_running_loop().create_future()

    async def waits() -> str:
        try:
            return str(await future)
        except asyncio.CancelledError:
            assert future.done()
            assert not future.cancelled()
            raise

    task = asyncio.create_task(_carried(waits(), {1: WOKEN}))
    await asyncio.sleep(1)
    future.set_result("there")
    with pytest.raises(asyncio.CancelledError):
        await task


async def _carried(operation: Coroutine[Any, Any, str], places: dict[int, int]) -> str:
    return await cancelled_at(operation, places)


async def test_a_place_that_is_not_reached_cancels_nothing() -> None:
    told: list[str] = []
    assert await asyncio.create_task(_awaited(Steps(), {9: WOKEN}, told)) == "whole"
    assert told == []


async def test_what_the_operation_raises_comes_out() -> None:
    async def raises() -> None:
        await asyncio.sleep(1)
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        await cancelled_at(raises(), {5: 0})
