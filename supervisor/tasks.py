"""How tasks are started, and how an operation is awaited to its end though its caller is cancelled."""

import asyncio
import gc
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, Union

if TYPE_CHECKING:
    from collections.abc import Coroutine as Pending
else:
    # The class of every coroutine: to ask for the abstract one costs several times as much.
    from types import CoroutineType as Pending

__all__ = [
    "Now",
    "Pending",
    "StartTask",
    "context_of",
    "settled",
    "start_eager",
    "start_plain",
    "to_the_end",
    "wait_until",
]

T = TypeVar("T")

Now = Union[T, "Pending[Any, Any, T]"]
"""What a step returns: its answer where it has it at once, else a coroutine that will have it.

A successful call passes a dozen steps, and hardly one of them has to wait: a coroutine for each would cost as much as
all that they do.
"""

StartTask = Callable[[Coroutine[Any, Any, T]], "asyncio.Task[T]"]
"""How the engine starts every task of its own: handed in, so that a simulation decides the order."""


def start_plain(work: Coroutine[Any, Any, T], context: Context | None = None) -> "asyncio.Task[T]":
    """Start a task whose first step runs in the loop's next round; without a context in a copy of the caller's."""
    return asyncio.get_running_loop().create_task(work, context=context)


if sys.version_info >= (3, 12):
    _Task, _running_loop = asyncio.Task, asyncio.get_running_loop  # looked up once: this is asked for on each call

    def start_eager(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task whose first step runs at once; where the work never suspends, it is done on return.

        KeyboardInterrupt and SystemExit of that first step come out of this call.
        """
        return _Task(work, eager_start=True, loop=_running_loop())

    def context_of(task: "asyncio.Task[Any]") -> Context:
        """Return the context that a task runs in: itself, not a copy."""
        return task.get_context()

else:
    start_eager = start_plain

    def context_of(task: "asyncio.Task[Any]") -> Context:
        """Return the context that a task runs in: itself, not a copy. Python 3.11 has it, and no method that tells."""
        return next(held for held in gc.get_referents(task) if isinstance(held, Context))


@types.coroutine
def _carry_on(operation: Coroutine[Any, Any, T], pending: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine whose first step was driven by somebody else, and who waits for `pending`.

    `await operation` would not do: it refuses a coroutine that is suspended already.
    """
    while True:
        thrown = None
        try:
            answer = yield pending
        except GeneratorExit:
            operation.close()
            raise
        except BaseException as error:
            thrown = error
        try:
            pending = operation.send(answer) if thrown is None else operation.throw(thrown)
        except StopIteration as ended:
            result: T = ended.value
            return result


async def to_the_end(operation: Coroutine[Any, Any, T], noted: Callable[[asyncio.CancelledError], None]) -> T:
    """Await an operation that must not be cut short; tell `noted` of each cancellation that came meanwhile.

    The first step runs in the caller's task: an operation that never suspends costs no task. It must not start an
    `asyncio.timeout` in that step (the timeout would belong to the caller's task).
    """
    try:
        pending = operation.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    task = start_plain(_carried(operation, pending))
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            noted(error)
    return task.result()


async def settled(answer: Now[T], noted: Callable[[asyncio.CancelledError], None]) -> T:
    """Return an answer that is there, or await it to its end."""
    if isinstance(answer, Pending):
        return await to_the_end(answer, noted)
    return answer


async def _carried(operation: Coroutine[Any, Any, T], pending: Any) -> T:
    return await _carry_on(operation, pending)


async def wait_until(future: "asyncio.Future[Any]", until: float | None) -> bool:
    """Wait for a future until a moment of the loop's clock, and say whether it is done. Does not cancel it in time."""
    if future.done() or until is None:
        if not future.done():
            await _done(future)
        return True
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    timer = loop.call_at(until, _wake, woken, context=Context())  # it would keep the caller's until it was due
    future.add_done_callback(lambda _: _wake(woken))
    try:
        await woken
    finally:
        timer.cancel()
    return future.done()


async def _done(future: "asyncio.Future[Any]") -> None:
    """Wait for a future without cancelling it when the waiter is cancelled, and without raising what it holds."""
    woken = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: _wake(woken))
    await woken


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
