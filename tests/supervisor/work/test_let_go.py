"""What a failed attempt held is dead before its backoff begins, without the cyclic collector; nobody alive is hurt."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from supervisor import Attempt, Supervisor
from supervisor.clock import Clock, clock_of
from supervisor.tasks import start_eager, start_plain
from supervisor.work.let_go import let_go
from tests.supervisor.rules import rules
from tests.supervisor.work.turns import TURNS, UNFORGOTTEN, VARIABLE, Context, Turn, overdue, variables_and_a_timer


class Watch:
    """A clock that looks, whenever a backoff begins, whether every context is dead by then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now, self.boottime, self.wall = clock.now, clock.boottime, clock.wall
        self.draw, self.token = clock.draw, clock.token
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
