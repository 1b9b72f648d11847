"""Into the session: the look, the line, and what is passed on when somebody leaves it."""

import asyncio

import pytest

from policies.gate import Overlap
from supervisor import Attempt, RunReport, Status, Supervisor
from supervisor.events import RunQueued
from supervisor.settings.values import Limits, Settings
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, never_awaits, succeeds
from supervisor.testing.cancelling import WOKEN, cancelled_at
from tests.supervisor.rules import assert_at_rest, block, failures_counted, now, rules, store_of, tokens_spent


def held(supervisor: Supervisor, seconds: float, session: str = "a") -> "asyncio.Task[RunReport]":
    """Occupy a session for so many seconds."""
    return asyncio.create_task(supervisor.run(session, ScriptedWork(succeeds(after=seconds)), policy=rules()))


async def test_a_line_is_served_first_come_first_served(supervisor: Supervisor, recorded: Recorded) -> None:
    order: list[int] = []

    async def turn(place: int) -> None:
        async def work(attempt: Attempt) -> None:
            order.append(place)
            await asyncio.sleep(1.0)

        await supervisor.run("a", work, policy=rules())

    async with asyncio.TaskGroup() as group:
        for place in range(5):
            group.create_task(turn(place))
    assert order == [0, 1, 2, 3, 4]
    assert [event.line for event in recorded.of(RunQueued)] == ["gate"] * 4


async def test_as_many_attempts_run_at_once_as_there_are_permits_and_no_more(supervisor: Supervisor) -> None:
    work = ScriptedWork(succeeds(after=3.0))
    began = now()
    async with asyncio.TaskGroup() as group:
        for _ in range(7):
            group.create_task(supervisor.run("a", work, policy=rules(permits=3)))
    assert (work.overlap("a"), now() - began) == (3, 9.0)


async def test_a_wait_in_line_is_bounded(supervisor: Supervisor) -> None:
    holding = held(supervisor, 9.0)
    await asyncio.sleep(1.0)
    report = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules(wait_s=3.0))
    assert (report.status, report.reason, report.duration_s) == (Status.REFUSED, "wait_over", 3.0)
    await holding


async def test_a_deadline_shorter_than_the_wait_is_the_reason(supervisor: Supervisor) -> None:
    holding = held(supervisor, 9.0)
    await asyncio.sleep(1.0)
    report = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules(wait_s=60.0, deadline_s=3.0))
    assert (report.status, report.reason, report.duration_s) == (Status.REFUSED, "deadline", 3.0)
    await holding


async def test_a_cancellation_in_line_leaves_it_to_the_others(supervisor: Supervisor) -> None:
    holding = held(supervisor, 9.0)
    await asyncio.sleep(1.0)
    leaver = held(supervisor, 1.0)
    await asyncio.sleep(1.0)
    stayer = held(supervisor, 1.0)
    await asyncio.sleep(1.0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert not holding.done()
    assert (await stayer).duration_s == 8.0


async def test_what_was_granted_in_the_instant_of_a_cancellation_is_passed_on(supervisor: Supervisor) -> None:
    work = ScriptedWork(succeeds(after=1.0))

    async def unlucky() -> None:
        await cancelled_at(supervisor.run("a", work, policy=rules()), {1: WOKEN})

    holding = held(supervisor, 5.0)
    await asyncio.sleep(1.0)
    first = asyncio.create_task(unlucky())
    await asyncio.sleep(1.0)
    next_one = held(supervisor, 1.0)
    await holding
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.attempts == []
    assert (await next_one).duration_s == 4.0


async def test_a_slot_of_the_host_granted_in_the_instant_of_a_cancellation_is_passed_on() -> None:
    async with Supervisor(Settings(limits=Limits(running=1))) as supervisor:
        holding = held(supervisor, 5.0, "a")
        await asyncio.sleep(1.0)
        work = ScriptedWork(succeeds())

        async def unlucky() -> None:
            await cancelled_at(supervisor.run("b", work, policy=rules()), {1: WOKEN})

        first = asyncio.create_task(unlucky())
        await asyncio.sleep(1.0)
        next_one = held(supervisor, 1.0, "c")
        await holding
        with pytest.raises(asyncio.CancelledError):
            await first
        assert work.attempts == []
        assert (await next_one).duration_s == 4.0
        assert_at_rest(supervisor)


async def test_a_cancellation_in_the_hosts_line_gives_the_permit_back() -> None:
    async with Supervisor(Settings(limits=Limits(running=1))) as supervisor:
        holding = held(supervisor, 9.0, "a")
        await asyncio.sleep(1.0)
        waiting = held(supervisor, 1.0, "b")
        await asyncio.sleep(1.0)
        assert store_of(supervisor)._lines["b"].running == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert "b" not in store_of(supervisor)._lines
        await holding
        assert_at_rest(supervisor)


async def test_a_refusal_by_the_host_gives_the_permit_back() -> None:
    async with Supervisor(Settings(limits=Limits(running=1))) as supervisor:
        holding = held(supervisor, 9.0, "a")
        await asyncio.sleep(1.0)
        report = await supervisor.run_report("b", ScriptedWork(succeeds()), policy=rules(deadline_s=2.0))
        assert (report.status, report.reason) == (Status.REFUSED, "host_full")
        assert "b" not in store_of(supervisor)._lines
        await holding
        assert_at_rest(supervisor)


async def test_a_retry_that_gets_no_slot_before_its_deadline_fails_with_its_last_failure() -> None:
    async with Supervisor(Settings(limits=Limits(running=1))) as supervisor:
        work = ScriptedWork(fails("overloaded", after=1.0))
        task = asyncio.create_task(supervisor.run_report("b", work, policy=rules(deadline_s=5.0, backoff_s=2.0)))
        await asyncio.sleep(2.0)
        holding = held(supervisor, 9.0, "a")
        report = await task
        assert (report.status, report.reason, report.duration_s) == (Status.FAILED, "deadline", 5.0)
        assert len(report.attempts) == 1
        await holding
        assert_at_rest(supervisor)


async def test_an_open_breaker_refuses_at_once_and_those_in_line_too(supervisor: Supervisor) -> None:
    policy = rules(attempts=1, failures=1, cooldown_s=60.0)
    failing = asyncio.create_task(
        supervisor.run_report("a", ScriptedWork(fails("overloaded", after=2.0)), policy=policy)
    )
    await asyncio.sleep(1.0)
    work = ScriptedWork(succeeds())
    in_line = await supervisor.run_report("a", work, policy=policy)
    assert (in_line.status, in_line.reason, in_line.duration_s) == (Status.REFUSED, "breaker_open", 1.0)
    late = await supervisor.run_report("a", work, policy=policy)
    assert (late.status, late.reason, late.duration_s) == (Status.REFUSED, "breaker_open", 0.0)
    assert work.attempts == []
    assert (await failing).status is Status.FAILED


async def test_one_trial_at_a_time_whoever_finds_no_place_is_refused(supervisor: Supervisor) -> None:
    policy = rules(attempts=1, failures=1, cooldown_s=10.0, permits=50)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
    await asyncio.sleep(12.0)
    work = ScriptedWork(succeeds(after=1.0))
    reports = await asyncio.gather(*(supervisor.run_report("a", work, policy=policy) for _ in range(50)))
    assert [report.status for report in reports].count(Status.SUCCEEDED) == len(work.attempts) == 1
    assert {report.reason for report in reports if report.status is Status.REFUSED} == {"breaker_open"}


@pytest.mark.parametrize("how", ["cancelled", "uncounted", "busy", "unconfirmed", "timeout"])
async def test_the_place_of_a_trial_comes_back_on_every_path(supervisor: Supervisor, how: str) -> None:
    policy = rules(attempts=1, failures=1, cooldown_s=10.0)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
    await asyncio.sleep(12.0)
    script = {
        "cancelled": hangs(),
        "uncounted": fails("invalid"),
        "busy": fails("busy"),
        "unconfirmed": hangs(ignoring_cancellation_for=30.0),
        "timeout": hangs(),
    }
    trial = asyncio.create_task(supervisor.run_report("a", ScriptedWork(script[how]), policy=policy))
    await asyncio.sleep(1.0)
    if how == "cancelled":
        trial.cancel()
    await asyncio.wait([trial])
    if not trial.cancelled():
        await trial
    await asyncio.sleep(100.0)
    assert (await supervisor.run("a", ScriptedWork(never_awaits("healed")), policy=policy)).value == "healed"


async def test_a_run_on_a_session_that_an_ancestor_holds_is_refused_at_once(supervisor: Supervisor) -> None:
    reports: list[RunReport] = []

    async def inner(attempt: Attempt) -> None:
        reports.append(await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules()))
        reports.append(await supervisor.run_report("b", ScriptedWork(succeeds()), policy=rules()))

    async def outer(attempt: Attempt) -> None:
        await supervisor.run("b", inner, policy=rules())

    outermost = await supervisor.run("a", outer, policy=rules())
    assert [(report.status, report.reason) for report in reports] == [(Status.REFUSED, "ancestor")] * 2
    assert outermost.run_id in reports[0].detail


async def test_a_nested_run_uses_its_ancestors_slot() -> None:
    """Else as many parents as there are slots would wait for ever."""

    async def parent(attempt: Attempt) -> None:
        await asyncio.sleep(1.0)
        await supervisor.run(f"child of {attempt.session}", ScriptedWork(succeeds(after=1.0)), policy=rules())

    async with Supervisor(Settings(limits=Limits(running=2))) as supervisor:
        began = now()
        await asyncio.gather(*(supervisor.run(name, parent, policy=rules()) for name in ("a", "b", "c", "d")))
        assert now() - began == 4.0


async def test_coalesced_runs_leave_one_that_waits_the_newest(supervisor: Supervisor) -> None:
    policy = rules(overlap=Overlap.COALESCE)
    works = [ScriptedWork(succeeds(after=3.0)) for _ in range(4)]
    tasks = []
    for work in works:
        tasks.append(asyncio.create_task(supervisor.run_report("a", work, policy=policy)))
        await asyncio.sleep(0.5)
    reports = [await task for task in tasks]
    assert [report.reason or "ran" for report in reports] == ["ran", "overlap", "overlap", "ran"]
    assert [len(work.attempts) for work in works] == [1, 0, 0, 1]


async def test_a_child_whose_deadline_has_passed_is_refused_and_counts_for_nothing(supervisor: Supervisor) -> None:
    children: list[RunReport] = []
    late = ScriptedWork(succeeds())
    older = held(supervisor, 8.0, "replaced")

    async def parent(_: Attempt) -> None:
        try:
            await asyncio.sleep(10.0)
        finally:  # its deadline is past: so is that of each run that it starts now
            for overlap, session in ((Overlap.QUEUE, "b"), (Overlap.REPLACE, "replaced")):
                children.append(await supervisor.run_report(session, late, policy=rules(overlap=overlap)))

    await supervisor.run_report("a", parent, policy=rules(attempts=1, deadline_s=3.0))
    assert [(child.status, child.reason) for child in children] == [(Status.REFUSED, "deadline")] * 2
    assert "deadline had passed before it could start" in children[0].detail
    assert (late.attempts, failures_counted(supervisor, "b")) == ([], 0)
    assert (await older).status is Status.SUCCEEDED


async def test_a_retry_whose_deadline_passes_while_the_loop_is_blocked_fails_with_its_last_failure(
    supervisor: Supervisor,
) -> None:
    work = ScriptedWork(fails("overloaded"))
    task = asyncio.create_task(supervisor.run_report("a", work, policy=rules(backoff_s=2.0, deadline_s=5.0)))
    await asyncio.sleep(1.0)
    block(60.0)
    report = await task
    assert (report.status, report.reason, len(work.attempts)) == (Status.FAILED, "deadline", 1)
    assert report.attempts[-1].failure is not None
    assert report.attempts[-1].failure.message == "scripted: overloaded"
    assert (tokens_spent(supervisor, "a"), failures_counted(supervisor, "a")) == (0.0, 1)


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_turn_that_comes_after_the_deadline_is_too_late(supervisor: Supervisor, failures: int) -> None:
    work = ScriptedWork(*([fails("overloaded")] * failures), succeeds())

    async def blocks(_: Attempt) -> None:
        await asyncio.sleep(5.0)
        block(60.0)

    if failures:
        task = asyncio.create_task(supervisor.run_report("a", work, policy=rules(backoff_s=2.0, deadline_s=10.0)))
        await asyncio.sleep(1.0)
    holding = asyncio.create_task(supervisor.run("a", blocks, policy=rules(timeout_s=None)))
    if not failures:
        await asyncio.sleep(1.0)
        task = asyncio.create_task(supervisor.run_report("a", work, policy=rules(deadline_s=10.0)))
    report = await task
    status = Status.FAILED if failures else Status.REFUSED
    assert (report.status, report.reason, len(work.attempts)) == (status, "deadline", failures)
    assert (tokens_spent(supervisor, "a"), failures_counted(supervisor, "a")) == (0.0, 0)
    await holding


async def test_a_run_without_time_does_not_start(supervisor: Supervisor) -> None:
    report = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules(deadline_s=0.0))
    assert (report.status, report.reason) == (Status.REFUSED, "deadline")
