"""Children of an attempt: under its budget and deadline, and never outliving it."""

import asyncio
from typing import Any

import pytest

from policies.failure import Kind
from supervisor import Attempt, RunFailed, RunRefused, RunReport, Status, Supervisor, Unknown
from supervisor.testing import ScriptedWork, fails, hangs, succeeds
from tests.supervisor.rules import now, rules, tokens_spent

ONCE = rules(attempts=1)


async def test_children_run_at_once_up_to_the_limit_and_are_waited_for(supervisor: Supervisor) -> None:
    work = ScriptedWork(succeeds("child", after=2.0))

    async def parent(attempt: Attempt) -> list[Any]:
        async with attempt.subagents(limit=2) as children:
            handles = [children.spawn(f"child {number}", work) for number in range(4)]
        assert all(handle.done for handle in handles)
        return [(await handle).value for handle in handles]

    report = await supervisor.run("parent", parent, policy=rules())
    assert report.value == ["child"] * 4
    assert report.duration_s == 4.0


async def test_a_child_has_its_parents_policy_unless_another_is_named() -> None:
    async def parent(attempt: Attempt) -> list[str]:
        async with attempt.subagents() as children:
            own = children.spawn("a", ScriptedWork(succeeds()))
            named = children.spawn("b", ScriptedWork(succeeds()), policy="subagent")
        return [(await own).policy, (await named).policy]

    async with Supervisor(policies={"subagent": rules(name="subagent")}) as supervisor:
        report = await supervisor.run("parent", parent, policy=rules(name="parent"))
        assert report.value == ["parent", "subagent"]


async def test_failures_that_nobody_awaited_come_out_together(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        async with attempt.subagents() as children:
            children.spawn("a", ScriptedWork(fails("overloaded")))
            children.spawn("b", ScriptedWork(fails("auth")))
            children.spawn("c", ScriptedWork(succeeds()))

    report = await supervisor.run_report("parent", parent, policy=ONCE)
    [attempt] = report.attempts
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.AUTH  # the least retryable of them speaks
    assert "2 of 3 subagents failed" in attempt.failure.message


async def test_a_failure_that_was_awaited_was_dealt_with(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> str:
        async with attempt.subagents() as children:
            child = children.spawn("a", ScriptedWork(fails("overloaded")))
            try:
                await child
            except RunFailed as error:
                return f"went on without: {error.report.attempts[-1].failure}"
        raise AssertionError

    report = await supervisor.run("parent", parent, policy=ONCE)
    assert "scripted: overloaded" in report.value


@pytest.mark.parametrize("kind", [Kind.RATE_LIMITED, Kind.AUTH, Kind.INVALID, Kind.TIMEOUT])
async def test_a_childs_failure_counts_in_its_parent_as_its_last_kind(supervisor: Supervisor, kind: Kind) -> None:
    async def parent(attempt: Attempt) -> None:
        await supervisor.run("child", ScriptedWork(fails(kind)), policy=ONCE)

    report = await supervisor.run_report("parent", parent, policy=ONCE)
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is kind
    assert f"scripted: {kind}" in report.attempts[0].failure.message


async def test_a_childs_refusal_counts_in_its_parent_as_an_error(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        await supervisor.run("parent", ScriptedWork(succeeds()), policy=ONCE)

    report = await supervisor.run_report("parent", parent, policy=ONCE)
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.ERROR


async def test_a_retry_after_of_a_child_is_its_parents_too(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        if attempt.number == 1:
            await supervisor.run("child", ScriptedWork(fails("rate_limited", retry_after=33.0)), policy=ONCE)

    report = await supervisor.run("parent", parent, policy=rules(backoff_s=1.0))
    assert report.duration_s == 33.0


async def test_when_the_body_raises_the_children_are_cancelled_first(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())

    async def parent(attempt: Attempt) -> None:
        async with attempt.subagents() as children:
            children.spawn("a", work)
            children.spawn("b", work)
            await asyncio.sleep(1.0)
            raise ValueError("the parent's own")

    report = await supervisor.run_report("parent", parent, policy=ONCE)
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.message == "ValueError: the parent's own"
    assert [fact.ended for fact in work.attempts] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("where", ["in the body", "on leaving"])
async def test_a_parent_that_times_out_takes_its_children_with_it(supervisor: Supervisor, where: str) -> None:
    work = ScriptedWork(hangs())

    async def parent(attempt: Attempt) -> None:
        async with attempt.subagents() as children:
            children.spawn("a", work)
            if where == "in the body":
                await asyncio.sleep(1000.0)

    began = now()
    report = await supervisor.run_report("parent", parent, policy=rules(attempts=1, timeout_s=10.0))
    assert report.attempts[0].failure is not None
    assert (report.attempts[0].failure.kind, now() - began) == (Kind.TIMEOUT, 10.0)
    assert work.alive("a") == 0


async def test_a_cancelled_child_is_no_failure_of_its_parent(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> str:
        async with attempt.subagents() as children:
            child = children.spawn("a", ScriptedWork(hangs()))
            await asyncio.sleep(1.0)
            child.cancel()
        return "went on"

    assert (await supervisor.run("parent", parent, policy=ONCE)).value == "went on"


async def test_who_waits_for_a_child_may_give_up_waiting(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> Any:
        async with attempt.subagents() as children:
            child = children.spawn("a", ScriptedWork(succeeds("late", after=5.0)))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await child
            return (await child).value

    assert (await supervisor.run("parent", parent, policy=ONCE)).value == "late"


async def test_children_may_not_be_nested_too_deep(supervisor: Supervisor) -> None:
    deepest: list[int] = []

    def nested(depth: int) -> Any:
        async def work(attempt: Attempt) -> None:
            deepest.append(depth)
            async with attempt.subagents(max_depth=3) as children:
                children.spawn(f"level {depth + 1}", nested(depth + 1))

        return work

    report = await supervisor.run_report("level 0", nested(0), policy=ONCE)
    assert deepest == [0, 1, 2, 3]
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.INVALID


async def test_children_are_spawned_only_inside(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        children = attempt.subagents()
        with pytest.raises(RuntimeError, match="async with"):
            children.spawn("a", ScriptedWork(succeeds()))
        async with children:
            pass
        with pytest.raises(RuntimeError, match="async with"):
            children.spawn("a", ScriptedWork(succeeds()))
        for wrong in ({"limit": 0}, {"max_depth": 0}):
            with pytest.raises(ValueError, match=">= 1"):
                attempt.subagents(**wrong)

    await supervisor.run("parent", parent, policy=ONCE)


async def test_a_mistake_in_a_child_comes_out_of_it(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        async with attempt.subagents() as children:
            children.spawn("", ScriptedWork(succeeds()))

    report = await supervisor.run_report("parent", parent, policy=ONCE)
    assert "1 of 1 subagents failed" in str(report.attempts[0].failure)


async def test_a_child_ends_at_its_parents_deadline(supervisor: Supervisor) -> None:
    seen: list[float | None] = []

    async def child(attempt: Attempt) -> None:
        seen.append(attempt.remaining())

    async def parent(attempt: Attempt) -> None:
        await asyncio.sleep(5.0)
        await supervisor.run("child", child, policy=rules(deadline_s=None, timeout_s=None))
        await supervisor.run("child", child, policy=rules(deadline_s=3.0, timeout_s=None))

    await supervisor.run("parent", parent, policy=rules(deadline_s=20.0, timeout_s=None))
    assert seen == [15.0, 3.0]


async def test_retries_in_a_tree_take_from_every_run_above(supervisor: Supervisor) -> None:
    """A parent with three attempts has two retries: its children use them up, in whatever nesting."""
    work = ScriptedWork(fails("overloaded"))
    reports: list[RunReport] = []

    async def middle(attempt: Attempt) -> None:
        reports.append(await supervisor.run_report("leaf", work, policy=rules(attempts=9)))

    async def parent(attempt: Attempt) -> None:
        await supervisor.run("middle", middle, policy=rules(attempts=9))
        raise ConnectionError

    report = await supervisor.run_report("parent", parent, policy=rules(attempts=3))
    assert (len(work.attempts), reports[0].reason) == (3, "parent_budget")
    assert (len(report.attempts), report.reason) == (1, "attempts")


async def test_the_first_attempts_of_children_are_free(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        for number in range(10):
            await supervisor.run_report(f"child {number}", ScriptedWork(fails("overloaded")), policy=ONCE)
        if attempt.number < 3:
            raise ConnectionError

    report = await supervisor.run("parent", parent, policy=rules(attempts=3))
    assert len(report.attempts) == 3


async def test_a_childs_retry_that_is_not_launched_comes_back_to_its_parent(supervisor: Supervisor) -> None:
    async def parent(attempt: Attempt) -> None:
        if attempt.number == 1:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await supervisor.run("child", ScriptedWork(fails("overloaded")), policy=rules(backoff_s=5.0))
        if attempt.number < 3:
            raise ConnectionError

    report = await supervisor.run("parent", parent, policy=rules(attempts=3))
    assert len(report.attempts) == 3
    assert tokens_spent(supervisor, "child") == 0.0


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_child_that_may_still_live_makes_its_parents_attempt_unconfirmed(
    supervisor: Supervisor, *, deep: bool, swallowed: bool
) -> None:
    stubborn = ScriptedWork(hangs(ignoring_cancellation_for=100.0))
    short = rules(attempts=1, timeout_s=2.0, grace_s=1.0)

    async def child(attempt: Attempt) -> None:
        await supervisor.run("grandchild", stubborn, policy=short)

    async def parent(attempt: Attempt) -> str:
        try:
            await supervisor.run("child", child if deep else stubborn, policy=ONCE if deep else short)
        except RunFailed:
            if not swallowed:
                raise
        return "does not know"

    report = await supervisor.run_report("parent", parent, policy=rules(attempts=3))
    assert (report.status, report.reason, len(report.attempts)) == (Status.QUARANTINED, "unconfirmed", 1)
    receipt = report.attempts[0].released
    assert isinstance(receipt, Unknown)
    assert "session 'child', a child" in receipt.alive[0]
    assert "ignores its cancellation" in receipt.alive[0]
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.UNCONFIRMED
    sessions = ("parent", "child", "grandchild") if deep else ("parent", "child")
    for session in sessions:
        with pytest.raises(RunRefused, match="quarantined"):
            await supervisor.run(session, ScriptedWork(succeeds()), policy=rules())
    await asyncio.sleep(120.0)
    for session in sessions:
        await supervisor.run(session, ScriptedWork(succeeds()), policy=rules())


async def test_a_parent_given_up_before_its_children_were_is_free_only_once_they_have_ended(
    supervisor: Supervisor,
) -> None:
    """Both ignore their cancellation; the child for longer. The parent's quarantine waits for it as well."""
    stubborn = ScriptedWork(hangs(ignoring_cancellation_for=100.0))

    async def parent(attempt: Attempt) -> None:
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError:
            await supervisor.run_report("child", stubborn, policy=rules(attempts=1, timeout_s=5.0, grace_s=5.0))

    report = await supervisor.run_report("parent", parent, policy=rules(attempts=1, grace_s=1.0))
    assert report.status is Status.QUARANTINED
    await asyncio.sleep(30.0)
    assert stubborn.alive("child") == 1
    assert (await supervisor.run_report("parent", ScriptedWork(succeeds()), policy=rules())).reason == "quarantined"
    await asyncio.sleep(120.0)
    assert (await supervisor.run_report("parent", ScriptedWork(succeeds()), policy=rules())).status is Status.SUCCEEDED


async def test_a_child_that_waits_for_a_place_when_its_parent_ends_never_starts(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())

    async def parent(attempt: Attempt) -> None:
        async with attempt.subagents(limit=1) as children:
            children.spawn("a", work)
            children.spawn("b", work)
            await asyncio.sleep(1.0)
            raise ValueError

    await supervisor.run_report("parent", parent, policy=ONCE)
    assert [fact.session for fact in work.attempts] == ["a"]
