"""The report of a run, and its JSON: the shape that `--report` writes."""

import json
from typing import Any

from policies.failure import Failed, Gone, Kind, Outcome, Refusal, Unknown
from policies.verdict import FINISH, GiveUp, Quarantine, Reason, Retry
from supervisor import AttemptReport, RunReport, Status, Supervisor
from supervisor.report import describe_attempt, receipt_json, verdict_json
from supervisor.testing import ScriptedWork, fails, succeeds
from tests.supervisor.rules import rules

WALL = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def attempt(**changes: Any) -> AttemptReport:
    fields: dict[str, Any] = {
        "number": 1,
        "started_unix": WALL,
        "duration_s": 1.5,
        "outcome": Outcome.FAILED,
        "failure": Failed(Kind.OVERLOADED, "busy", 3.0, 75, None, "a traceback", "last words"),
        "released": Gone(("task ended",), 0.25, 2, lock_reclaimed=True),
        "verdict": Retry(1009.0, 3.0, 1.0, Gone()),
    }
    return AttemptReport(**(fields | changes))


def report(*attempts: AttemptReport, **changes: Any) -> RunReport:
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "session": "agent:main:reports",
        "policy": "cron",
        "policy_hash": "0123456789ab",
        "status": Status.FAILED,
        "reason": "attempts",
        "started_unix": WALL,
        "duration_s": 61.5,
        "attempts": attempts,
    }
    return RunReport(**(fields | changes))


def test_the_json_of_a_run_has_exactly_the_shape_of_report() -> None:
    shape = report(attempt()).as_json()
    assert shape == {
        "run_id": "run-1",
        "session": "agent:main:reports",
        "policy": "cron",
        "policy_hash": "0123456789ab",
        "status": "failed",
        "reason": "attempts",
        "started_at": "2026-01-01T00:00:00.000Z",
        "ended_at": "2026-01-01T00:01:01.500Z",
        "duration_s": 61.5,
        "attempts": [
            {
                "number": 1,
                "started_at": "2026-01-01T00:00:00.000Z",
                "duration_s": 1.5,
                "outcome": "failed",
                "failure": {
                    "kind": "overloaded",
                    "message": "busy",
                    "exit_code": 75,
                    "signal": None,
                    "retry_after_s": 3.0,
                    "output_tail": "last words",
                },
                "released": {
                    "receipt": "gone",
                    "seconds": 0.25,
                    "processes_killed": 2,
                    "lock_reclaimed": True,
                    "steps": ["task ended"],
                },
                "verdict": {"action": "retry", "delay_s": 3.0, "reason": None},
            }
        ],
    }
    assert json.loads(json.dumps(shape)) == shape


def test_an_unknown_receipt_also_names_what_may_live() -> None:
    shape = receipt_json(Unknown(("a task",), ("closed Client",), 1.0))
    assert (shape["receipt"], shape["alive"], shape["steps"]) == ("unknown", ["a task"], ["closed Client"])


def test_each_verdict_has_its_json() -> None:
    assert verdict_json(FINISH) == {"action": "finish", "delay_s": None, "reason": None}
    assert verdict_json(GiveUp(Reason.ATTEMPTS)) == {"action": "give_up", "delay_s": None, "reason": "attempts"}
    assert verdict_json(GiveUp(Refusal.DEADLINE)) == {"action": "give_up", "delay_s": None, "reason": "deadline"}
    assert verdict_json(Quarantine(("a", "b"))) == {"action": "quarantine", "delay_s": None, "reason": "a, b"}


def test_a_success_has_no_failure_and_no_reason() -> None:
    shape = report(attempt(outcome=Outcome.SUCCEEDED, failure=None, verdict=FINISH), reason=None).as_json()
    assert shape["reason"] is None
    assert shape["attempts"][0]["failure"] is None


def test_the_value_is_in_no_json_and_in_no_repr() -> None:
    whole = report(status=Status.SUCCEEDED, value="a secret answer")
    assert "secret" not in json.dumps(whole.as_json())
    assert "secret" not in repr(whole)


def test_moments_are_aware_and_the_end_is_never_before_the_start() -> None:
    whole = report(attempt())
    assert whole.started_wall.utcoffset() is not None
    assert (whole.ended_wall - whole.started_wall).total_seconds() == 61.5
    assert whole.attempts[0].started_wall == whole.started_wall


def test_an_attempt_in_words() -> None:
    assert describe_attempt(attempt()) == "attempt 1: overloaded: busy"
    assert describe_attempt(attempt(failure=None)) == "attempt 1: succeeded"
    assert describe_attempt(attempt(released=Unknown(("a task", "a step")))) == (
        "attempt 1: overloaded: busy; may still live: a task, a step"
    )


async def test_a_stepped_wall_clock_leaves_the_durations_alone(supervisor: Supervisor) -> None:
    from asyncio import get_running_loop

    clock: Any = get_running_loop().turnkeeper_clock  # type: ignore[attr-defined]
    get_running_loop().call_later(1.0, clock.step_wall, -3600.0)
    work = ScriptedWork(fails("overloaded", after=2.0), succeeds(after=1.0))
    whole = await supervisor.run("a", work, policy=rules(backoff_s=4.0))
    shape = whole.as_json()
    assert (shape["duration_s"], [one["duration_s"] for one in shape["attempts"]]) == (7.0, [2.0, 1.0])
    assert [one["started_at"] for one in shape["attempts"]] == ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:06.000Z"]
    assert shape["ended_at"] == "2026-01-01T00:00:07.000Z"
