"""A caller that is cancelled, or its process struck, at a place: where that happens finds more than when."""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

WOKEN: Final = -1
"""In `places`: strike as the task is woken, in the instant between what it waited for and its own next step."""


def cancelled_at(
    operation: Coroutine[Any, Any, T], places: Mapping[int, int], on_cancel: Callable[[], None] | None = None
) -> Coroutine[Any, Any, T]:
    """Await an operation, and cancel the running task at given places of it. `on_cancel` is told of each cancellation.

    See `struck_at` for the places.
    """
    task = asyncio.current_task()
    assert task is not None, "an operation is awaited in a task"

    def strike() -> None:
        if on_cancel is not None:
            on_cancel()
        task.cancel()

    return struck_at(operation, places, strike)


def struck_at(
    operation: Coroutine[Any, Any, T], places: Mapping[int, int], strike: Callable[[], None]
) -> Coroutine[Any, Any, T]:
    """Await an operation, and do something at given places of it.

    `places` goes from the number of a suspension (from 1, counted in this operation) to how many rounds of the loop
    after its beginning it is struck; WOKEN: when it is about to go on. A place that is never reached, or an operation
    that is over by then, is not struck.
    """
    struck: Any = _struck(operation, places, _Striking(strike))  # what types.coroutine makes is one where it counts
    coroutine: Coroutine[Any, Any, T] = struck
    return coroutine


@types.coroutine
def _struck(
    operation: Coroutine[Any, Any, T], places: Mapping[int, int], striking: "_Striking"
) -> Generator[Any, Any, T]:
    step: Callable[[Any], Any] = operation.send
    given: list[Any] = [None]  # popped into each step: nothing here may keep an exception alive
    nth = 0
    try:
        while True:
            pending = step(given.pop())
            nth += 1
            if nth in places:
                striking.arrange(pending, places[nth])
            try:
                given.append((yield pending))
                step = operation.send
            except GeneratorExit:
                operation.close()
                raise
            except BaseException as error:
                given.append(error)
                step = operation.throw
    except StopIteration as ended:
        result: T = ended.value
        return result
    finally:
        striking.over = True


class _Striking:
    def __init__(self, blow: Callable[[], None]) -> None:
        self.blow = blow
        self.loop = asyncio.get_running_loop()
        self.over = False

    def arrange(self, pending: Any, rounds: int) -> None:
        """Strike so many rounds from now; or as `pending` wakes the task: callbacks are called in order, ours first."""
        if rounds != WOKEN:
            self._later(rounds)
        elif pending is None:
            self.loop.call_soon(self.strike)
        else:
            pending.add_done_callback(lambda _: self.strike())

    def _later(self, rounds: int) -> None:
        if rounds <= 0:
            self.strike()
        else:
            self.loop.call_soon(self._later, rounds - 1)

    def strike(self) -> None:
        if not self.over:
            self.blow()
