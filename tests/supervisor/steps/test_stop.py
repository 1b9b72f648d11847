"""Ask, then force: timeout, idleness, deadline, grace; only the first cause counts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Kind
from supervisor import Attempt, SessionLocked, Status, Supervisor
from supervisor.events import AttemptStopping
from supervisor.tasks import start_eager, start_plain
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, heartbeats, never_awaits, succeeds
from supervisor.testing.launcher import Ending
from tests.supervisor.rules import block, now, rules


async def test_an_attempt_past_its_timeout_is_stopped_and_fails_as_timeout(
    supervisor: Supervisor, recorded: Recorded
) -> None:
    work = ScriptedWork(hangs(), succeeds("second"))
    report = await supervisor.run("a", work, policy=rules(timeout_s=10.0))
    first = report.attempts[0]
    assert first.failure is not None
    assert (first.failure.kind, first.failure.message) == (Kind.TIMEOUT, "timed out after 10 s")
    assert work.attempts[0].ended is Ending.CANCELLED
    [stopping] = recorded.of(AttemptStopping)
    assert (stopping.number, stopping.cause, stopping.grace_s) == (1, "timeout", 2.0)


async def test_the_deadline_of_the_run_stops_an_attempt_too(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())
    report = await supervisor.run_report("a", work, policy=rules(timeout_s=None, deadline_s=7.0))
    assert (report.status, report.reason, report.duration_s) == (Status.FAILED, "deadline", 7.0)
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.TIMEOUT


async def test_a_retry_near_the_deadline_gets_the_time_that_is_left(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())
    report = await supervisor.run_report("a", work, policy=rules(timeout_s=10.0, deadline_s=15.0, backoff_s=1.0))
    assert (report.reason, report.duration_s) == ("deadline", 15.0)
    assert [attempt.duration_s for attempt in report.attempts] == [10.0, 4.0]


async def test_without_any_limit_an_attempt_may_take_a_week(supervisor: Supervisor) -> None:
    week = 7 * 86400.0
    report = await supervisor.run(
        "a", ScriptedWork(succeeds("late", after=week)), policy=rules(timeout_s=None, deadline_s=None)
    )
    assert (report.value, report.duration_s) == ("late", week)


async def test_an_idle_attempt_is_stopped_and_heartbeats_keep_it_going(supervisor: Supervisor) -> None:
    work = ScriptedWork(heartbeats(every=4.0, times=5, then=hangs()))
    report = await supervisor.run_report("a", work, policy=rules(attempts=1, idle_s=5.0, timeout_s=100.0))
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert (attempt.failure.kind, attempt.duration_s) == (Kind.IDLE, 25.0)
    assert attempt.failure.message == "no heartbeat for 5 s, after 25 s"


async def test_heartbeats_do_not_outlast_the_timeout(supervisor: Supervisor) -> None:
    work = ScriptedWork(heartbeats(every=1.0, times=1000))
    report = await supervisor.run_report("a", work, policy=rules(attempts=1, idle_s=5.0, timeout_s=9.5))
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert (attempt.failure.kind, attempt.duration_s) == (Kind.TIMEOUT, 9.5)


async def test_the_work_may_clean_up_within_the_grace(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs(ignoring_cancellation_for=1.9))
    report = await supervisor.run_report("a", work, policy=rules(attempts=1, timeout_s=10.0, grace_s=2.0))
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.TIMEOUT
    assert attempt.duration_s == pytest.approx(11.9)
    assert attempt.released.seconds == pytest.approx(1.9)
    assert len(work.attempts[0].cancelled_at) == 1  # it is asked once: a second would cut its cleaning short


async def test_what_the_work_raises_while_it_is_stopped_is_told_beside_the_cause(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> None:
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            raise ValueError("cleaning up failed") from None

    report = await supervisor.run_report("a", work, policy=rules(attempts=1))
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.TIMEOUT
    assert report.attempts[0].failure.message == "timed out after 10 s; it then raised ValueError: cleaning up failed"


async def test_only_the_first_cause_counts(supervisor: Supervisor, recorded: Recorded) -> None:
    """Its caller is cancelled while it cleans up after its timeout."""
    work = ScriptedWork(hangs(ignoring_cancellation_for=1.5))
    task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    await asyncio.sleep(11.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event.cause for event in recorded.of(AttemptStopping)] == ["timeout"]
    assert len(work.attempts[0].cancelled_at) == 1


async def test_an_attempt_cancelled_in_its_first_round_ends_in_that_moment(supervisor: Supervisor) -> None:
    """The caller is cancelled in the round in which the attempt's task was made."""
    work = ScriptedWork(succeeds())
    task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    await asyncio.sleep(0)
    task.cancel()
    began = now()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), work.attempts[0].ended) == (began, Ending.CANCELLED)


async def test_a_result_in_the_instant_of_the_timeout_is_not_lost_or_doubled(supervisor: Supervisor) -> None:
    work = ScriptedWork(succeeds("just", after=10.0), succeeds("again"))
    report = await supervisor.run("a", work, policy=rules(timeout_s=10.0))
    assert len(work.attempts) == len(report.attempts)
    assert work.overlap("a") == 1


async def test_many_attempts_of_one_timeout_are_each_stopped_at_theirs(supervisor: Supervisor) -> None:
    began = now()
    ended: dict[str, float] = {}

    async def one(name: str, delay: float, timeout_s: float) -> None:
        await asyncio.sleep(delay)
        await supervisor.run_report(name, ScriptedWork(hangs()), policy=rules(attempts=1, timeout_s=timeout_s))
        ended[name] = now() - began

    async with asyncio.TaskGroup() as group:
        for name, delay, timeout_s in (("a", 0.0, 10.0), ("b", 3.0, 10.0), ("c", 3.0, 5.0), ("d", 11.0, 10.0)):
            group.create_task(one(name, delay, timeout_s))
    assert ended == {"a": 10.0, "b": 13.0, "c": 8.0, "d": 21.0}


async def test_work_that_cancels_itself_is_no_cancellation_of_its_caller(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if attempt.session == "awaits":
            await asyncio.sleep(1.0)
        return "returned all the same"

    report = await supervisor.run_report("awaits", work, policy=rules())
    assert (report.status, len(report.attempts)) == (Status.CANCELLED, 1)
    assert (await supervisor.run("does not", work, policy=rules())).value == "returned all the same"


async def test_a_failure_of_its_own_is_not_overdue(supervisor: Supervisor) -> None:
    report = await supervisor.run_report("a", ScriptedWork(fails("network", after=9.9)), policy=rules(attempts=1))
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.NETWORK
    assert (await supervisor.run("a", ScriptedWork(never_awaits(1)), policy=rules())).value == 1


# --- where the loop was blocked when the alarm should have rung


async def blocks_at_once(_: Attempt) -> str:
    block(30.0)
    return "late"


async def blocks_later(_: Attempt) -> str:
    await asyncio.sleep(1.0)
    block(30.0)
    return "late"


async def blocks_and_goes_on(attempt: Attempt) -> str:
    await blocks_later(attempt)
    await asyncio.sleep(0)
    return "late"


async def blocks_and_raises(attempt: Attempt) -> str:
    raise ConnectionError(await blocks_later(attempt))


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("own_time", [{"timeout_s": 10.0}, {"timeout_s": None, "deadline_s": 10.0}], ids=str)
@pytest.mark.parametrize("work", [blocks_at_once, blocks_later, blocks_and_goes_on, blocks_and_raises])
async def test_work_that_ends_after_its_time_has_timed_out_though_it_was_never_told(
    work: Any, own_time: dict[str, float | None], start_task: Any
) -> None:
    async with Supervisor(start_task=start_task) as supervisor:
        report = await supervisor.run_report("a", work, policy=rules(attempts=1, **own_time))  # type: ignore[arg-type]
    failure = report.attempts[0].failure
    assert failure is not None
    assert (report.status, failure.kind, report.value) == (Status.FAILED, Kind.TIMEOUT, None)
    assert "blocked the event loop" in failure.message
    assert ("it then raised ConnectionError: late" in failure.message) is (work is blocks_and_raises)


async def test_work_that_ended_in_time_has_not_timed_out_because_its_end_was_seen_late(supervisor: Supervisor) -> None:
    async def ends_in_time(_: Attempt) -> str:
        await asyncio.sleep(1.0)
        asyncio.get_running_loop().call_soon(block, 30.0)  # somebody else, before the run is woken
        return "in time"

    report = await supervisor.run("a", ends_in_time, policy=rules(timeout_s=10.0))
    assert report.value == "in time"


async def test_work_that_ends_at_the_very_end_of_its_time_has_not_timed_out(supervisor: Supervisor) -> None:
    async def ends_with_it(_: Attempt) -> str:
        block(10.0)
        return "just so"

    assert (await supervisor.run("a", ends_with_it, policy=rules(timeout_s=10.0))).value == "just so"


async def test_a_busy_lock_that_is_told_late_is_busy(supervisor: Supervisor) -> None:
    async def locked(_: Attempt) -> str:
        block(30.0)
        raise SessionLocked(Path("a.lock"), "somebody", 7, 1.0, "wait", holder_alive=True)

    report = await supervisor.run_report("a", locked, policy=rules(timeout_s=10.0))
    assert (report.status, report.reason) == (Status.REFUSED, "busy")
