"""What was not proved gone is said, keeps its session from everybody, and is waited for."""

import asyncio
from pathlib import Path

import pytest

from policies.failure import Kind
from supervisor import Attempt, RunFailed, RunRefused, Status, Supervisor, Unknown
from supervisor.events import QuarantineLifted, SessionQuarantined
from supervisor.testing import Recorded, ScriptedWork, hangs, never_awaits, succeeds
from tests.supervisor.rules import now, rules, store_of


async def test_a_step_that_runs_on_makes_the_attempt_unconfirmed_until_it_ends(
    supervisor: Supervisor, recorded: Recorded
) -> None:
    called: list[str] = []

    async def stubborn() -> None:
        until = now() + 30.0
        while (left := until - now()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                called.append("asked")

    async def work(attempt: Attempt) -> str:
        attempt.callback(called.append, "rest")
        attempt.callback(stubborn)
        return "done"

    began = now()
    with pytest.raises(RunFailed) as caught:
        await supervisor.run("a", work, policy=rules(grace_s=2.0))
    assert now() - began <= 2 * 2.0 + 1.0
    report = caught.value.report
    assert (report.status, called) == (Status.QUARANTINED, ["rest", "asked"])
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.UNCONFIRMED
    assert report.attempts[0].failure.message == "it had succeeded, then not proved dead"
    assert isinstance(report.attempts[0].released, Unknown)
    assert "called stubborn" in report.attempts[0].released.alive[0]
    await asyncio.sleep(began + 29.0 - now())
    with pytest.raises(RunRefused):
        await supervisor.run("a", ScriptedWork(never_awaits()), policy=rules())
    await asyncio.sleep(2.0)
    await supervisor.run("a", ScriptedWork(never_awaits()), policy=rules())
    await asyncio.sleep(0)
    assert (len(recorded.of(SessionQuarantined)), len(recorded.of(QuarantineLifted))) == (1, 1)


async def test_work_that_ignores_its_cancellation_is_unconfirmed_and_its_session_quarantined_until_it_ends(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    transcript = tmp_path / "reports.jsonl"
    lock = tmp_path / "reports.jsonl.lock"
    work = ScriptedWork(hangs(ignoring_cancellation_for=100.0), succeeds())
    began = now()
    with pytest.raises(RunFailed) as caught:
        await supervisor.run("a", work, policy=rules(timeout_s=10.0, grace_s=2.0), lock=transcript)
    assert now() - began == 12.0  # the grace, and not a moment of release more
    report = caught.value.report
    assert (report.status, report.reason) == (Status.QUARANTINED, "unconfirmed")
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert attempt.failure.message == "timed out after 10 s, then not proved dead"
    assert isinstance(attempt.released, Unknown)
    assert "ignores its cancellation" in attempt.released.alive[0]
    assert "stays until that has ended" in attempt.released.steps[-1]
    assert lock.exists()

    await asyncio.sleep(90.0)
    refused = await supervisor.run_report("a", ScriptedWork(never_awaits()), policy=rules())
    assert (refused.status, refused.reason) == (Status.REFUSED, "quarantined")
    assert "ignores its cancellation" in refused.detail
    assert lock.exists()

    await asyncio.sleep(10.0)
    assert work.alive("a") == 0
    assert not lock.exists()
    assert (await supervisor.run("a", ScriptedWork(never_awaits("free")), policy=rules())).value == "free"
    assert len(work.attempts) == 1


async def test_nothing_is_retried_on_top_of_an_attempt_that_was_not_proved_dead(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs(ignoring_cancellation_for=3.0))
    report = await supervisor.run_report("a", work, policy=rules(attempts=5, timeout_s=10.0, grace_s=2.0))
    await asyncio.sleep(600.0)
    assert (len(report.attempts), len(work.attempts), work.overlap("a")) == (1, 1, 1)


async def test_what_the_work_opened_is_released_though_it_lives_on(supervisor: Supervisor) -> None:
    called: list[str] = []

    async def work(attempt: Attempt) -> None:
        attempt.callback(called.append, "released")
        await ScriptedWork(hangs(ignoring_cancellation_for=50.0))(attempt)

    await supervisor.run_report("a", work, policy=rules())
    assert called == ["released"]
    await asyncio.sleep(100.0)


async def test_a_cancelled_caller_of_stubborn_work_is_told_so_and_its_session_is_quarantined(
    supervisor: Supervisor,
) -> None:
    work = ScriptedWork(hangs(ignoring_cancellation_for=100.0))
    task = asyncio.create_task(supervisor.run("a", work, policy=rules(grace_s=2.0)))
    await asyncio.sleep(1.0)
    began = now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() - began == 2.0
    assert (await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules())).reason == "quarantined"
    await asyncio.sleep(100.0)
    assert (await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules())).status is Status.SUCCEEDED


async def test_the_session_is_free_at_most_two_graces_and_a_second_after_it_was_told_to_end(
    supervisor: Supervisor,
) -> None:
    """The worst of both: work that uses up its grace, and then steps that use up theirs."""

    async def stuck() -> None:
        await asyncio.sleep(1000.0)

    async def work(attempt: Attempt) -> None:
        for _ in range(5):
            attempt.callback(stuck)
        await ScriptedWork(hangs(ignoring_cancellation_for=2.9))(attempt)

    task = asyncio.create_task(supervisor.run("a", work, policy=rules(grace_s=3.0)))
    await asyncio.sleep(1.0)
    began = now()
    task.cancel()
    await asyncio.wait([task])
    assert 2.9 + 2.5 < now() - began <= 2 * 3.0 + 1.0
    assert not store_of(supervisor)._quarantines


async def test_what_is_entered_too_late_is_left_again(supervisor: Supervisor) -> None:
    """Work that lived on after it was given up may be in the middle of opening something."""
    order: list[str] = []

    class Slow:
        async def __aenter__(self) -> None:
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                await asyncio.sleep(50.0)
            order.append("opened")

        async def __aexit__(self, *_: object) -> None:
            order.append("closed")

    async def work(attempt: Attempt) -> None:
        attempt.callback(order.append, "released")
        await attempt.enter(Slow())
        order.append("went on")

    report = await supervisor.run_report("a", work, policy=rules())
    assert report.status is Status.QUARANTINED
    await asyncio.sleep(100.0)
    assert order == ["released", "opened", "closed"]
