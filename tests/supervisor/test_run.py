"""One supervised run, from admission to report."""

import asyncio
from typing import Any

import pytest

from policies.failure import Kind, Outcome
from supervisor import Attempt, Failure, Gone, RunFailed, RunRefused, Status, Supervisor, current_attempt
from supervisor.events import AttemptEnded, AttemptStarted, RunEnded
from supervisor.tasks import start_eager, start_plain
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, never_awaits, succeeds
from tests.supervisor.rules import assert_at_rest, failures_counted, now, rules, tokens_spent


class OwnError(BaseException):
    """What a test framework or another runtime may raise."""


async def test_a_success_returns_its_value_and_its_receipt(supervisor: Supervisor) -> None:
    report = await supervisor.run("a", ScriptedWork(succeeds("done", after=3.0)), policy=rules())
    assert (report.value, report.status, report.duration_s) == ("done", Status.SUCCEEDED, 3.0)
    assert not report.reason
    [attempt] = report.attempts
    assert (attempt.number, attempt.outcome, attempt.failure, attempt.duration_s) == (1, Outcome.SUCCEEDED, None, 3.0)
    assert attempt.released == Gone(("task ended",))


async def test_a_failed_run_goes_from_attempt_to_release_to_verdict_to_wait_and_again(
    supervisor: Supervisor, recorded: Recorded
) -> None:
    work = ScriptedWork(fails("overloaded", after=2.0), succeeds("done", after=1.0))
    report = await supervisor.run("a", work, policy=rules(backoff_s=5.0))
    await asyncio.sleep(0)
    assert recorded.names() == ["AttemptStarted", "AttemptEnded", "AttemptStarted", "AttemptEnded", "RunEnded"]
    assert [event.unix - recorded.events[0].unix for event in recorded] == [0.0, 2.0, 7.0, 8.0, 8.0]
    first, second = recorded.of(AttemptEnded)
    assert first.attempt.as_json()["verdict"] == {"action": "retry", "delay_s": 5.0, "reason": None}
    assert (first.attempt, second.attempt) == report.attempts
    assert [event.number for event in recorded.of(AttemptStarted)] == [1, 2]
    [ended] = recorded.of(RunEnded)
    assert (ended.status, ended.attempts, ended.duration_s) == (Status.SUCCEEDED, 2, 8.0)


async def test_at_the_verdict_of_an_attempt_its_session_is_free(supervisor: Supervisor) -> None:
    """Nobody is told of an attempt's end before the session could be used by somebody else."""
    free: list[bool] = []

    async def probe(event: object) -> None:
        if isinstance(event, AttemptEnded) and not free:
            free.append(False)
            probed = await supervisor.run_report("a", ScriptedWork(never_awaits()), policy=rules(permits=2, queue=0))
            free[0] = probed.status is Status.SUCCEEDED

    delivery = supervisor.on(probe)
    with pytest.raises(RunFailed):
        await supervisor.run("a", ScriptedWork(fails("overloaded", after=1.0)), policy=rules(attempts=2))
    await delivery.drain(1.0)
    assert free == [True]


async def test_a_run_that_fails_names_every_attempt_and_keeps_the_original_failure(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails(ValueError("the first")), fails("overloaded"), fails(KeyError("the last")))
    with pytest.raises(RunFailed) as caught:
        await supervisor.run("a", work, policy=rules())
    report = caught.value.report
    assert (report.status, report.reason) == (Status.FAILED, "attempts")
    failures = [attempt.failure for attempt in report.attempts]
    assert [failure.message for failure in failures if failure] == [
        "ValueError: the first",
        "scripted: overloaded",
        "KeyError: 'the last'",
    ]
    for part in ("attempt 1: error: ValueError: the first", "attempt 2: overloaded", "attempt 3: error: KeyError"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_run_report_tells_and_does_not_raise(supervisor: Supervisor) -> None:
    report = await supervisor.run_report("a", ScriptedWork(fails("auth")), policy=rules())
    assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, "not_retried", 1)


async def test_a_refused_run_raises_run_refused_and_has_no_attempt(supervisor: Supervisor) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run("a", ScriptedWork(succeeds(after=5.0)), policy=rules()))
        await asyncio.sleep(1.0)
        with pytest.raises(RunRefused) as caught:
            await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(queue=0))
    assert (caught.value.report.status, caught.value.report.reason) == (Status.REFUSED, "queue_full")
    assert caught.value.report.attempts == ()


async def test_attempts_never_exceed_the_budget(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("overloaded"))
    await supervisor.run_report("a", work, policy=rules(attempts=5, capacity=100.0))
    assert [fact.number for fact in work.attempts] == [1, 2, 3, 4, 5]


async def test_retries_of_all_runs_of_a_session_share_its_bucket(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("overloaded"))
    policy = rules(attempts=3, capacity=3.0)
    reasons = [(await supervisor.run_report("a", work, policy=policy)).reason for _ in range(3)]
    assert reasons == ["attempts", "session_budget", "session_budget"]
    assert len(work.attempts) == 3 + 3
    assert tokens_spent(supervisor, "a") == 3.0


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("after", [None, 1.0])
@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [
        (asyncio.CancelledError("its own"), Kind.CANCELLED, 1),
        (GeneratorExit("closed"), Kind.CANCELLED, 1),
        (OwnError("strange"), Kind.ERROR, 2),
    ],
)
async def test_a_base_exception_of_the_work_becomes_its_failure(
    start_task: Any, after: float | None, error: BaseException, kind: Kind, attempts: int
) -> None:
    async def work(attempt: Attempt) -> None:
        if after is not None:
            await asyncio.sleep(after)
        raise type(error)(*error.args)

    async with Supervisor(start_task=start_task) as supervisor:
        report = await supervisor.run_report("a", work, policy=rules(attempts=2))
        assert len(report.attempts) == attempts
        failure = report.attempts[-1].failure
        assert failure is not None
        assert (failure.kind, failure.message) == (kind, f"{type(error).__name__}: {error}")
        assert (await supervisor.run("a", ScriptedWork(never_awaits("free")), policy=rules())).value == "free"
        assert_at_rest(supervisor)


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("after", [None, 1.0])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_comes_out_once_the_session_is_free(
    start_task: Any, after: float | None, error: type[BaseException]
) -> None:
    released: list[str] = []

    async def work(attempt: Attempt) -> None:
        attempt.callback(released.append, "released")
        if after is not None:
            await asyncio.sleep(after)
        raise error("stop it all")

    async with Supervisor(start_task=start_task) as supervisor:
        recorded = Recorded()
        supervisor.on(recorded)
        with pytest.raises(error, match="stop it all"):
            await supervisor.run("a", work, policy=rules())
        assert released == ["released"]
        assert failures_counted(supervisor, "a") == 0
        assert tokens_spent(supervisor, "a") == 0.0
        assert (await supervisor.run("a", ScriptedWork(never_awaits("free")), policy=rules())).value == "free"
        assert_at_rest(supervisor)
    assert recorded.of(RunEnded)[0].status is Status.CANCELLED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("failure", [None, ConnectionError])
async def test_an_interrupt_in_a_release_step_comes_out_too_and_nothing_is_retried_on_it(
    supervisor: Supervisor, error: type[BaseException], failure: type[Exception] | None
) -> None:
    attempts: list[int] = []

    def interrupt() -> None:
        raise error("stop it all")

    async def work(attempt: Attempt) -> None:
        attempts.append(attempt.number)
        attempt.callback(interrupt)
        if failure is not None:
            raise failure

    with pytest.raises(error, match="stop it all"):
        await supervisor.run("a", work, policy=rules())
    assert attempts == [1]
    assert tokens_spent(supervisor, "a") == 0.0
    assert (await supervisor.run("a", ScriptedWork(never_awaits("free")), policy=rules())).value == "free"


async def test_a_busy_child_does_not_make_its_parent_refused(supervisor: Supervisor) -> None:
    """The parent ran: it failed, of the child's kind, and names its attempt."""

    async def child(attempt: Attempt) -> None:
        if attempt.number == 1:
            raise ConnectionError
        raise Failure("busy", "somebody has it")

    async def parent(_: Attempt) -> None:
        await supervisor.run("child", child, policy=rules())

    report = await supervisor.run_report("a", parent, policy=rules())
    assert (report.status, report.reason) == (Status.FAILED, "busy")
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.BUSY


@pytest.mark.parametrize("work", [lambda _: None, lambda _: (_ for _ in ()), lambda _: "text"])
async def test_work_that_gives_back_nothing_to_await_is_invalid_and_not_retried(
    supervisor: Supervisor, work: Any
) -> None:
    report = await supervisor.run_report("a", work, policy=rules())
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.INVALID
    assert "not an awaitable" in attempt.failure.message


async def test_an_async_generator_as_work_is_invalid(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> Any:
        yield 1

    report = await supervisor.run_report("a", work, policy=rules())
    assert report.attempts[0].failure is not None
    assert "async_generator, not an awaitable" in report.attempts[0].failure.message


async def test_work_may_return_any_awaitable(supervisor: Supervisor) -> None:
    def work(attempt: Attempt) -> "asyncio.Future[str]":
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2.0, future.set_result, "from a future")
        return future

    assert (await supervisor.run("a", work, policy=rules())).value == "from a future"


async def test_a_function_that_raises_before_it_returns_an_awaitable_is_a_failure_like_any_other(
    supervisor: Supervisor,
) -> None:
    def work(attempt: Attempt) -> Any:
        raise Failure(Kind.OVERLOADED, "at once")

    report = await supervisor.run_report("a", work, policy=rules(attempts=2))
    assert [attempt.failure.message for attempt in report.attempts if attempt.failure] == ["at once", "at once"]


async def test_a_listener_that_raises_harms_no_run(supervisor: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("broken listener")

    delivery = supervisor.on(broken)
    report = await supervisor.run("a", ScriptedWork(fails("overloaded"), succeeds("done")), policy=rules())
    await asyncio.sleep(1.0)
    assert report.value == "done"
    assert delivery.failed == 5
    assert caplog.text.count("a listener raised RuntimeError") == 1


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def status_code(self) -> int:
        raise RuntimeError("no status")

    @property
    def retry_after(self) -> float:
        raise RuntimeError("no Retry-After")


async def test_an_exception_that_cannot_be_read_is_a_failure_like_any_other(supervisor: Supervisor) -> None:
    async def single(attempt: Attempt) -> None:
        raise Unreadable

    async def grouped(attempt: Attempt) -> None:
        raise ExceptionGroup("several", [Unreadable()])

    async def late(attempt: Attempt) -> None:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            raise Unreadable from None

    for work in (single, grouped, late):
        report = await supervisor.run_report("a", work, policy=rules(attempts=1))
        assert report.status is Status.FAILED
        assert_at_rest(supervisor)


async def test_the_work_finds_its_attempt_without_being_handed_it(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> bool:
        await asyncio.sleep(1.0)
        return current_attempt() is attempt

    assert (await supervisor.run("a", work, policy=rules())).value is True
    assert current_attempt() is None


async def test_what_one_session_waits_for_does_not_hold_up_another(supervisor: Supervisor) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=rules(attempts=1)))
        began = now()
        await supervisor.run("b", ScriptedWork(never_awaits()), policy=rules())
        assert now() == began


async def test_a_refusal_a_busy_lock_and_a_cancellation_spend_no_token_and_do_not_count(supervisor: Supervisor) -> None:
    policy = rules(queue=0)
    running = asyncio.create_task(supervisor.run("a", ScriptedWork(hangs()), policy=policy))
    await asyncio.sleep(1.0)
    assert (await supervisor.run_report("a", ScriptedWork(succeeds()), policy=policy)).reason == "queue_full"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    busy = await supervisor.run_report("a", ScriptedWork(fails("busy")), policy=policy)
    assert (busy.status, busy.reason) == (Status.REFUSED, "busy")
    assert tokens_spent(supervisor, "a") == 0.0
    assert failures_counted(supervisor, "a") == 0
