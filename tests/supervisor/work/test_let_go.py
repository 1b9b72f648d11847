"""What a failed attempt held is dead before its backoff begins, without the cyclic collector; nobody alive is hurt."""

import asyncio
import gc
import sys
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Self

import pytest

from supervisor import Attempt, Supervisor
from supervisor.clock import Clock, clock_of
from supervisor.tasks import start_eager, start_plain
from supervisor.work.let_go import let_go
from tests.supervisor.rules import rules

VARIABLE: ContextVar[Any] = ContextVar("variable")


class Context:
    """What an agent turn builds up: it must not outlive its attempt."""

    def __init__(self) -> None:
        self.itself = "large"


class Watch:
    """A clock that looks, whenever a backoff begins, whether every context is dead by then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now, self.wall, self.draw, self.token = clock.now, clock.wall, clock.draw, clock.token
        self.contexts: list[weakref.ref[Context]] = []
        self.alive_at_backoff: list[int] = []

    def context(self) -> Context:
        context = Context()
        self.contexts.append(weakref.ref(context))
        return context

    async def sleep(self, seconds: float) -> None:
        self.alive_at_backoff.append(sum(context() is not None for context in self.contexts))
        await self._clock.sleep(seconds)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


Turn = Callable[[Attempt, Context], Awaitable[Any]]


async def raising(attempt: Attempt, context: Context) -> None:
    raise ValueError("failed")


async def raising_later(attempt: Attempt, context: Context) -> None:
    await asyncio.sleep(1.0)
    raise ValueError("failed")


async def overdue(attempt: Attempt, context: Context) -> None:
    await asyncio.sleep(1000.0)


async def overdue_in_a_future(attempt: Attempt, context: Context) -> None:
    await asyncio.get_running_loop().create_future()


async def timeout_inside(attempt: Attempt, context: Context) -> None:
    async with asyncio.timeout(1.0):
        await asyncio.sleep(1000.0)


async def wait_for_inside(attempt: Attempt, context: Context) -> None:
    await asyncio.wait_for(asyncio.sleep(1000.0), 1.0)


async def task_group(attempt: Attempt, context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raising_later(attempt, context))
        group.create_task(asyncio.sleep(1000.0))


async def overdue_task_group(attempt: Attempt, context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(overdue(attempt, context))


async def gathered(attempt: Attempt, context: Context) -> None:
    await asyncio.gather(raising_later(attempt, context), asyncio.sleep(2.0))


async def chained(attempt: Attempt, context: Context) -> None:
    try:
        await raising(attempt, context)
    except ValueError as error:
        raise RuntimeError("chained") from error


async def in_a_handler(attempt: Attempt, context: Context) -> None:
    try:
        await raising(attempt, context)
    except ValueError:
        await overdue(attempt, context)


async def grouped(attempt: Attempt, context: Context) -> None:
    errors: list[Exception] = []
    for _ in range(3):
        try:
            await raising(attempt, context)
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("three", errors)


async def stored_last(attempt: Attempt, context: Context) -> None:
    last: Exception | None = None
    for _ in range(3):
        try:
            await raising(attempt, context)
        except ValueError as error:
            last = error
    assert last is not None
    raise last


async def listed(attempt: Attempt, context: Context) -> None:
    errors: list[Exception] = []
    try:
        await raising(attempt, context)
    except ValueError as error:
        errors.append(error)
        raise


async def stored_cancellation(attempt: Attempt, context: Context) -> None:
    kept: list[BaseException] = []
    try:
        await asyncio.sleep(1000.0)
    except asyncio.CancelledError as error:
        kept.append(error)
        raise


async def variables(attempt: Attempt, context: Context) -> None:
    VARIABLE.set((context, attempt))
    await asyncio.sleep(1.0)
    raise ValueError("failed")


async def variables_overdue(attempt: Attempt, context: Context) -> None:
    VARIABLE.set((context, attempt))
    await asyncio.get_running_loop().create_future()


async def value_after_the_timeout(attempt: Attempt, context: Context) -> Context:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(1000.0)
    return context


async def released(attempt: Attempt, context: Context) -> None:
    async def closing(opened: Context) -> None:
        await asyncio.sleep(0.1)

    attempt.callback(closing, context)
    attempt.callback(id, context)
    raise ValueError("failed")


async def released_with_a_failure(attempt: Attempt, context: Context) -> None:
    async def broken_later(opened: Context) -> None:
        last = None
        try:
            await asyncio.sleep(0.1)
            raise OSError("no")  # noqa: TRY301 - it is about the frame that raises
        except OSError as error:
            last = error
        raise last

    def broken(opened: Context) -> None:
        errors = []
        try:
            raise OSError("no")  # noqa: TRY301 - it is about the frame that raises
        except OSError as error:
            errors.append(error)
            raise

    attempt.callback(broken_later, context)
    attempt.callback(broken, context)
    raise ValueError("failed")


async def released_overdue(attempt: Attempt, context: Context) -> None:
    async def stuck(opened: Context) -> None:
        kept = []
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError as error:
            kept.append(error)
            raise

    attempt.callback(stuck, context)
    raise ValueError("failed")


class Client:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.saw: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        self.saw = error


async def entered(attempt: Attempt, context: Context) -> None:
    client = await attempt.enter(Client(context))
    assert client.context is context
    raise ValueError("failed")


async def closed_generator(attempt: Attempt, context: Context) -> None:
    async def numbers() -> AsyncIterator[int]:
        kept = context
        yield id(kept)
        await asyncio.sleep(1000.0)

    generator = numbers()
    try:
        async for _ in generator:
            pass
    finally:
        await generator.aclose()  # type: ignore[attr-defined]


@types.coroutine
def _waiting(context: Context) -> Generator[Any, None, None]:
    kept = []
    future = asyncio.get_running_loop().create_future()
    future._asyncio_future_blocking = True  # what `await future` does itself
    try:
        yield future
    except asyncio.CancelledError as error:
        kept.append(error)
        raise


async def overdue_at_a_yield(attempt: Attempt, context: Context) -> None:
    await _waiting(context)


async def subagents(attempt: Attempt, context: Context) -> None:
    async def child(child_attempt: Attempt) -> None:
        inner = context
        await asyncio.sleep(1.0)
        raise ValueError(f"failed {id(inner)}")

    async with attempt.subagents() as children:
        for name in ("b", "c"):
            children.spawn(name, child, policy="once")


async def subagents_overdue(attempt: Attempt, context: Context) -> None:
    async def child(child_attempt: Attempt) -> None:
        inner = context
        await asyncio.sleep(1000.0 + id(inner))

    async with attempt.subagents() as children:
        handle = children.spawn("b", child, policy="once")
        await handle


async def variables_and_a_timer(attempt: Attempt, context: Context) -> None:
    VARIABLE.set(context)
    await asyncio.sleep(1000.0)


UNFORGOTTEN = pytest.mark.xfail(
    reason="asyncio keeps a cancelled timer until it is due, and with it a copy of the context that it was set in"
)

TURNS: tuple[Turn, ...] = (
    raising,
    raising_later,
    overdue,
    overdue_in_a_future,
    timeout_inside,
    wait_for_inside,
    task_group,
    overdue_task_group,
    gathered,
    chained,
    in_a_handler,
    grouped,
    stored_last,
    listed,
    stored_cancellation,
    variables,
    variables_overdue,
    value_after_the_timeout,
    released,
    released_with_a_failure,
    released_overdue,
    entered,
    closed_generator,
    overdue_at_a_yield,
    subagents,
    subagents_overdue,
)


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize(
    "turn", [*TURNS, pytest.param(variables_and_a_timer, marks=UNFORGOTTEN)], ids=lambda turn: turn.__name__
)
async def test_the_context_of_a_failed_attempt_is_dead_before_its_backoff(turn: Turn, start_task: Any) -> None:
    watch = Watch(clock_of(asyncio.get_running_loop()))

    async def work(attempt: Attempt) -> Any:
        return await turn(attempt, watch.context())

    policy = rules(attempts=3, timeout_s=10.0, grace_s=2.0, capacity=100.0)
    once = rules(attempts=1, timeout_s=1000.0)
    async with Supervisor(clock=watch, start_task=start_task, policies={"once": once}) as supervisor:
        report = await supervisor.run_report("a", work, policy=policy)
        assert (len(report.attempts), report.reason) == (3, "attempts")
        assert len(watch.alive_at_backoff) >= 2
        assert sum(watch.alive_at_backoff) == 0
        assert [context() for context in watch.contexts] == [None] * 3


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
async def test_the_context_of_a_cancelled_run_is_dead_when_its_caller_is_told(start_task: Any) -> None:
    watch = Watch(clock_of(asyncio.get_running_loop()))

    async def work(attempt: Attempt) -> None:
        await overdue(attempt, watch.context())

    async with Supervisor(clock=watch, start_task=start_task) as supervisor:
        task = asyncio.create_task(supervisor.run_report("a", work, policy=rules()))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert [context() for context in watch.contexts] == [None]


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
async def test_the_context_of_work_that_was_given_up_is_dead_once_it_has_ended(start_task: Any) -> None:
    watch = Watch(clock_of(asyncio.get_running_loop()))

    async def work(attempt: Attempt) -> None:
        context, errors = watch.context(), []
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError as error:
            errors.append(error)
            await asyncio.sleep(50.0)
            raise ValueError(f"late {id(context)}") from error

    async with Supervisor(clock=watch, start_task=start_task) as supervisor:
        await supervisor.run_report("a", work, policy=rules())
        assert watch.contexts[0]() is not None
        await asyncio.sleep(100.0)
        assert watch.contexts[0]() is None


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("shape", ["coroutine", "generator"])
async def test_a_live_worker_that_passed_its_exception_on_survives_and_answers(start_task: Any, shape: str) -> None:
    """Its frame is on the traceback, and it is in the middle of serving others: clearing that would end it."""
    asked: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()

    async def worker() -> None:
        state = {"served": 0}
        while True:
            number, answer = await asked.get()
            state["served"] += 1
            try:
                answer.set_result(100 // number)
            except ZeroDivisionError as error:
                answer.set_exception(error)

    async def numbers() -> AsyncIterator[int]:
        while True:
            number, answer = await asked.get()
            try:
                answer.set_result(100 // number)
            except ZeroDivisionError as error:
                answer.set_exception(error)
            yield number

    async def drive() -> None:
        async for _ in numbers():
            pass

    async def ask(number: int) -> int:
        answer = asyncio.get_running_loop().create_future()
        await asked.put((number, answer))
        result: int = await answer
        return result

    async def work(attempt: Attempt) -> int:
        return await ask(attempt.number - 1)

    background = asyncio.create_task(worker() if shape == "coroutine" else drive())
    async with Supervisor(start_task=start_task) as supervisor:
        report = await supervisor.run("a", work, policy=rules())
        assert (report.value, len(report.attempts)) == (100, 2)
        assert await ask(4) == 25
        assert not background.done()
    background.cancel()
    await asyncio.wait([background])


def test_a_plain_generator_that_is_suspended_is_left_alone() -> None:
    def worker() -> Generator[BaseException | None, int, None]:
        failed: BaseException | None = None
        while True:
            number = yield failed
            try:
                failed = None
                1 // number
            except ZeroDivisionError as error:
                failed = error

    generator = worker()
    next(generator)
    error = generator.send(0)
    assert error is not None
    let_go(error)
    assert error.__traceback__ is None
    assert generator.send(1) is None


def test_it_follows_causes_contexts_and_members_and_no_circle_for_ever() -> None:
    def failing(context: Context) -> None:
        raise ValueError(id(context))

    contexts = []
    errors: list[Exception] = []
    for _ in range(4):
        context = Context()
        contexts.append(weakref.ref(context))
        try:
            failing(context)
        except ValueError as error:
            errors.append(error)
    del context
    cause, behind, member, last = errors
    group = ExceptionGroup("group", [member, ExceptionGroup("inner", [last])])
    group.__cause__, group.__context__ = cause, behind
    cause.__context__ = group
    let_go(group)
    assert [context() for context in contexts] == [None] * 4
    assert [error.__traceback__ for error in errors] == [None] * 4


def test_frames_that_are_executing_are_left_alone() -> None:
    here = "still needed"
    try:
        raise ValueError("here")  # noqa: TRY301
    except ValueError as error:
        let_go(error)
    assert here == "still needed"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_the_context_of_work_that_never_suspended_is_dead_too() -> None:
    watch = Watch(clock_of(asyncio.get_running_loop()))

    async def work(attempt: Attempt) -> None:
        context = watch.context()
        VARIABLE.set(context)
        raise ValueError(f"at once {id(context)}")

    async with Supervisor(clock=watch, start_task=start_eager) as supervisor:
        await supervisor.run_report("a", work, policy=rules())
    assert watch.alive_at_backoff == [0, 0]
