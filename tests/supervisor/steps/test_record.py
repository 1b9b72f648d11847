"""What an attempt came to: text and numbers, with the first cause in front."""

import asyncio

import pytest

from policies.failure import Effect, Kind, Outcome
from policies.gate import Overlap
from supervisor import Attempt, Status, Supervisor
from supervisor.events import AttemptEnded, BreakerClosed, BreakerHalfOpened, BreakerOpened
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, succeeds
from tests.supervisor.rules import failures_counted, rules, tokens_spent


@pytest.mark.parametrize(
    ("step", "outcome", "message"),
    [
        (succeeds(), Outcome.SUCCEEDED, None),
        (fails("network"), Outcome.FAILED, "scripted: network"),
        (hangs(), Outcome.FAILED, "timed out after 10 s"),
        (fails(asyncio.CancelledError), Outcome.CANCELLED, "CancelledError"),
        (hangs(ignoring_cancellation_for=9.0), Outcome.UNCONFIRMED, "timed out after 10 s, then not proved dead"),
    ],
)
async def test_each_outcome_has_its_message(
    supervisor: Supervisor, step: object, outcome: Outcome, message: str | None
) -> None:
    report = await supervisor.run_report("a", ScriptedWork(step), policy=rules(attempts=1))  # type: ignore[arg-type]
    [attempt] = report.attempts
    assert (attempt.outcome, attempt.failure and attempt.failure.message) == (outcome, message)
    await asyncio.sleep(20.0)


async def test_a_cancelled_attempt_says_by_whom(supervisor: Supervisor, recorded: Recorded) -> None:
    by_caller = asyncio.create_task(supervisor.run("a", ScriptedWork(hangs()), policy=rules()))
    await asyncio.sleep(1.0)
    by_caller.cancel()
    await asyncio.wait([by_caller])
    replaced = asyncio.create_task(supervisor.run_report("b", ScriptedWork(hangs()), policy=rules()))
    await asyncio.sleep(1.0)
    await supervisor.run("b", ScriptedWork(succeeds()), policy=rules(overlap=Overlap.REPLACE))
    await replaced
    messages = [event.attempt.failure.message for event in recorded.of(AttemptEnded) if event.attempt.failure]
    assert messages == ["cancelled by its caller", "replaced by a newer run of its session"]


@pytest.mark.parametrize(
    ("kind", "counted", "spent"),
    [
        (Kind.OVERLOADED, 1, 1.0),
        (Kind.TIMEOUT, 1, 2.0),
        (Kind.RATE_LIMITED, 0, 1.0),
        (Kind.INVALID, 0, 0.0),
        (Kind.AUTH, 1, 0.0),
        (Kind.BUSY, 0, 0.0),
    ],
)
async def test_each_kind_counts_and_costs_what_its_table_says(
    supervisor: Supervisor, kind: Kind, counted: int, spent: float
) -> None:
    work = ScriptedWork(fails(kind), fails(Kind.INVALID))
    await supervisor.run_report("a", work, policy=rules(attempts=2))
    assert (failures_counted(supervisor, "a"), tokens_spent(supervisor, "a")) == (counted, spent)


async def test_a_policy_may_say_otherwise(supervisor: Supervisor) -> None:
    kinds = {Kind.TIMEOUT: Effect(retried=False, counts=False, tokens=7.0)}
    report = await supervisor.run_report("a", ScriptedWork(fails("timeout")), policy=rules(kinds=kinds))
    assert (len(report.attempts), report.reason) == (1, "not_retried")
    assert failures_counted(supervisor, "a") == 0


async def test_an_attempt_that_was_not_proved_dead_counts_for_the_breaker(supervisor: Supervisor) -> None:
    await supervisor.run_report("a", ScriptedWork(hangs(ignoring_cancellation_for=9.0)), policy=rules())
    await asyncio.sleep(20.0)
    assert failures_counted(supervisor, "a") == 1


async def test_a_breaker_that_opens_and_heals_tells_each_step(supervisor: Supervisor, recorded: Recorded) -> None:
    policy = rules(failures=2, attempts=2, backoff_s=0.0, cooldown_s=60.0)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
    await asyncio.sleep(75.0)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=rules(failures=2, attempts=1))
    await asyncio.sleep(150.0)
    await supervisor.run("a", ScriptedWork(succeeds()), policy=policy)
    await asyncio.sleep(0)
    told = [event for event in recorded if type(event).__name__.startswith("Breaker")]
    assert [type(event) for event in told] == [
        BreakerOpened,
        BreakerHalfOpened,
        BreakerOpened,
        BreakerHalfOpened,
        BreakerClosed,
    ]
    opened = recorded.of(BreakerOpened)
    assert [event.trips for event in opened] == [0, 1]
    assert 60.0 <= opened[0].cooldown_s <= 72.0
    assert 120.0 <= opened[1].cooldown_s <= 144.0


async def test_a_late_result_from_before_the_breaker_opened_changes_nothing(supervisor: Supervisor) -> None:
    """Two attempts at once: the second fails and opens it, the first succeeds afterwards."""
    policy = rules(attempts=1, failures=1, permits=2, cooldown_s=60.0)
    slow = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds(after=5.0)), policy=policy))
    await asyncio.sleep(1.0)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
    await slow
    refused = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=policy)
    assert (refused.status, refused.reason) == (Status.REFUSED, "breaker_open")


async def test_the_traceback_is_kept_as_text_without_the_values(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> None:
        secret = "hunter" + "2"
        raise ValueError(len(secret))

    report = await supervisor.run_report("a", work, policy=rules(attempts=1))
    assert report.attempts[0].failure is not None
    traceback = report.attempts[0].failure.traceback
    assert "test_record.py" in traceback
    assert "hunter2" not in traceback
    assert len(traceback) <= 8192
