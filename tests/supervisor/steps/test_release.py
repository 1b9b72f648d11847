"""Release: in reverse order, on every exit, each step bounded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from supervisor import Alive, Attempt, Gone, Status, Stopped, Supervisor, Unknown
from supervisor.events import AttemptEnded
from supervisor.store.contract import Standing
from supervisor.store.memory import MemoryStore
from supervisor.tasks import start_eager, start_plain
from supervisor.testing import Recorded, ScriptedWork, succeeds
from tests.supervisor.rules import rules


async def steps_of(supervisor: Supervisor, work: Any, **limits: Any) -> tuple[str, ...]:
    report = await supervisor.run_report("a", work, policy=rules(attempts=1, **limits))
    return report.attempts[0].released.steps


@pytest.mark.parametrize("ending", ["success", "failure", "timeout", "cancelled"])
async def test_everything_is_released_in_reverse_order_on_every_exit(supervisor: Supervisor, ending: str) -> None:
    order: list[str] = []

    @contextmanager
    def plain() -> Iterator[str]:
        try:
            yield "plain"
        finally:
            order.append("plain")

    @asynccontextmanager
    async def slow() -> AsyncIterator[str]:
        try:
            yield "slow"
        finally:
            await asyncio.sleep(0.5)
            order.append("slow")

    async def later(text: str) -> None:
        await asyncio.sleep(0.1)
        order.append(text)

    async def work(attempt: Attempt) -> None:
        attempt.callback(order.append, "first")
        assert await attempt.enter(plain()) == "plain"
        assert await attempt.enter(slow()) == "slow"
        attempt.callback(later, text="last")
        if ending in ("timeout", "cancelled"):
            await asyncio.sleep(100.0)
        if ending == "failure":
            raise ConnectionError

    task = asyncio.create_task(supervisor.run_report("a", work, policy=rules(attempts=1)))
    await asyncio.sleep(1.0)
    if ending == "cancelled":
        task.cancel()
    await asyncio.wait([task])
    assert order == ["last", "slow", "plain", "first"]
    assert task.cancelled() == (ending == "cancelled")


async def test_the_receipt_names_what_was_released(supervisor: Supervisor) -> None:
    class Client:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

    def put_back() -> str:
        return "put the book back"

    def forget() -> None:
        pass

    async def work(attempt: Attempt) -> None:
        await attempt.enter(Client())
        attempt.callback(put_back)
        attempt.callback(forget)

    assert await steps_of(supervisor, work) == (
        "task ended",
        "called forget",
        "called put_back",
        "closed Client",
    )


async def test_what_a_step_says_is_bounded_and_what_it_returns_is_not_told(supervisor: Supervisor) -> None:
    class Client:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> str:
            return "the transcript"

    async def answers() -> str:
        return "the transcript"

    def broken() -> None:
        raise ValueError("x" * 10_000_000)

    async def broken_later() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("x" * 10_000_000)

    async def work(attempt: Attempt) -> None:
        await attempt.enter(Client())
        for function in (lambda: "the transcript", answers, broken, broken_later):
            attempt.callback(function)

    steps = await steps_of(supervisor, work)
    assert "the transcript" not in str(steps)
    assert [len(step) < 600 for step in steps] == [True] * 6
    assert f"called broken: ValueError: {'x' * 400}" in steps[2]


async def test_what_the_far_end_says_is_bounded(supervisor: Supervisor) -> None:
    class Remote:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        async def start(self, _: Attempt) -> None: ...

        async def confirm_stopped(self, _: Attempt) -> Any:
            return self.answer

    report = await supervisor.run("a", Remote(Stopped("x" * 10_000)), policy=rules())
    assert len(report.attempts[0].released.steps[1]) == 500
    report = await supervisor.run_report("b", Remote(Alive("x" * 10_000)), policy=rules())
    receipt = report.attempts[0].released
    assert isinstance(receipt, Unknown)
    assert len(receipt.alive[0]) == 500


async def test_an_attempt_that_was_never_launched_does_not_say_that_its_task_has_ended(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    report = await supervisor.run_report(
        "a", ScriptedWork(succeeds()), policy=rules(), lock=tmp_path / "missing" / "a.jsonl"
    )
    assert report.attempts[0].released == Gone(("never started",))


async def test_what_was_made_ready_for_an_attempt_that_was_never_launched_is_released(tmp_path: Path) -> None:
    class Slow(MemoryStore):
        def begin(self, run: Standing) -> Any:
            return self._later(run)

        async def _later(self, run: Standing) -> Any:
            await asyncio.sleep(1.0)
            return super().begin(run)

    recorded = Recorded()
    async with Supervisor(store=Slow()) as supervisor:
        supervisor.on(recorded)
        task = asyncio.create_task(
            supervisor.run("a", ScriptedWork(succeeds()), policy=rules(), lock=tmp_path / "a.jsonl")
        )
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
    [ended] = recorded.of(AttemptEnded)
    assert ended.attempt.released.steps == ("never started", f"lock {tmp_path / 'a.jsonl.lock'} released")


async def test_steps_that_raise_are_on_the_receipt_and_do_not_fail_a_success(supervisor: Supervisor) -> None:
    called: list[str] = []

    def broken() -> None:
        raise ValueError("no")

    async def broken_later() -> None:
        await asyncio.sleep(0.1)
        raise OSError("neither")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def work(attempt: Attempt) -> str:
        attempt.callback(called.append, "the rest")
        for function in (broken, broken_later, cancelled):
            attempt.callback(function)
        return "done"

    report = await supervisor.run("a", work, policy=rules())
    assert report.value == "done"
    assert report.attempts[0].released.steps == (
        "task ended",
        "called cancelled: cancelled",
        "called broken_later: OSError: neither",
        "called broken: ValueError: no",
        "called append",
    )
    assert called == ["the rest"]


class Watcher:
    def __init__(self) -> None:
        self.saw: list[type[BaseException] | None] = []

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.saw.append(kind)
        assert (error is None) == (traceback is None) == (kind is None)
        return True  # which swallows nothing


class AsyncWatcher(Watcher):
    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, traceback)


async def test_context_managers_see_the_failure_and_cannot_swallow_it(supervisor: Supervisor) -> None:
    watchers = (Watcher(), AsyncWatcher())

    async def work(attempt: Attempt) -> None:
        for watcher in watchers:
            await attempt.enter(watcher)
        if attempt.session == "raises":
            raise KeyError("k")
        if attempt.session == "hangs":
            await asyncio.sleep(100.0)

    for session in ("raises", "hangs", "succeeds"):
        report = await supervisor.run_report(session, work, policy=rules(attempts=1))
        assert report.status is (Status.SUCCEEDED if session == "succeeds" else Status.FAILED)
    for watcher in watchers:
        assert watcher.saw == [KeyError, asyncio.CancelledError, None]


async def test_what_is_no_context_manager_cannot_be_entered(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> None:
        await attempt.enter("text")  # type: ignore[arg-type]

    report = await supervisor.run_report("a", work, policy=rules(attempts=1))
    assert "enter() takes a context manager, got str" in str(report.attempts[0].failure)


async def test_an_overdue_step_is_cancelled_and_the_rest_still_run(supervisor: Supervisor) -> None:
    called: list[str] = []

    async def stuck() -> None:
        await asyncio.sleep(1000.0)

    async def quick() -> None:
        await asyncio.sleep(0.1)
        called.append("quick")

    async def work(attempt: Attempt) -> str:
        attempt.callback(called.append, "first")
        attempt.callback(quick)
        attempt.callback(stuck)
        return "done"

    report = await supervisor.run("a", work, policy=rules(grace_s=4.0))
    assert report.value == "done"
    assert called == ["quick", "first"]
    assert report.duration_s <= 4.0 + 1.0
    assert isinstance(report.attempts[0].released, Gone)
    assert "called stuck: overdue, cancelled" in report.attempts[0].released.steps


async def test_every_step_is_begun_even_when_the_time_is_used_up(supervisor: Supervisor) -> None:
    begun: list[int] = []

    async def stuck(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(1000.0)

    async def work(attempt: Attempt) -> None:
        for number in range(20):
            attempt.callback(stuck, number)

    report = await supervisor.run("a", work, policy=rules(grace_s=4.0))
    assert begun == list(reversed(range(20)))
    assert report.duration_s <= 4.0 + 1.0


async def test_a_cancellation_during_release_only_waits_for_it(supervisor: Supervisor) -> None:
    called: list[str] = []

    async def closing() -> None:
        await asyncio.sleep(1.0)
        called.append("closed")

    async def work(attempt: Attempt) -> str:
        attempt.callback(closing)
        return "done"

    task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == ["closed"]


async def test_nothing_more_can_be_opened_once_the_release_has_begun(supervisor: Supervisor) -> None:
    refused: list[str] = []
    kept: list[Attempt] = []

    def late() -> None:
        try:
            kept[0].callback(print)
        except RuntimeError as error:
            refused.append(str(error))

    async def work(attempt: Attempt) -> None:
        kept.append(attempt)
        attempt.callback(late)

    await supervisor.run("a", work, policy=rules())
    late()
    assert len(refused) == 2
    assert "is over: it can open nothing more" in refused[0]


# --- in the attempt's own context

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@contextmanager
def tenant(name: str, closed: list[str]) -> Iterator[None]:
    token = TENANT.set(name)
    try:
        yield
    finally:
        closed.append(TENANT.get())
        TENANT.reset(token)
        closed.append(TENANT.get())


@asynccontextmanager
async def tenant_later(name: str, closed: list[str]) -> AsyncIterator[None]:
    with tenant(name, closed):
        try:
            yield
        finally:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("manager", [tenant, tenant_later])
async def test_a_manager_resets_the_context_variable_that_it_has_set(
    manager: Any, *, suspends: bool, start_task: Any
) -> None:
    closed: list[str] = []

    async def work(attempt: Attempt) -> None:
        await attempt.enter(manager("acme", closed))
        attempt.callback(lambda: closed.append(f"called for {TENANT.get()}"))
        assert TENANT.get() == "acme"
        if suspends:
            await asyncio.sleep(1.0)

    TENANT.set("caller")
    async with Supervisor(start_task=start_task) as supervisor:
        report = await supervisor.run("a", work, policy=rules())
    assert report.attempts[0].released.steps[-1] == f"closed {type(manager('', [])).__name__}"
    assert closed == ["called for acme", "acme", "caller"]
    assert TENANT.get() == "caller"


async def test_a_run_within_a_run_releases_in_a_context_of_its_own(supervisor: Supervisor) -> None:
    closed: list[str] = []

    async def child(attempt: Attempt) -> None:
        await attempt.enter(tenant("child", closed))

    async def parent(attempt: Attempt) -> None:
        await attempt.enter(tenant("parent", closed))
        await supervisor.run("b", child, policy=rules())
        assert TENANT.get() == "parent"

    await supervisor.run("a", parent, policy=rules())
    assert closed == ["child", "parent", "parent", "nobody"]


async def test_what_a_late_release_step_sets_stays_in_its_attempt(supervisor: Supervisor) -> None:
    async def set_late() -> None:
        await asyncio.sleep(0.1)
        TENANT.set("step")

    async def work(attempt: Attempt) -> None:
        attempt.callback(set_late)
        attempt.callback(TENANT.set, "another step")

    await supervisor.run("a", work, policy=rules())
    assert TENANT.get() == "nobody"
