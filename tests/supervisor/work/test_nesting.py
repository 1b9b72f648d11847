"""What a command is told of its run, and what a supervisor within it believes of that."""

import json
import os
from typing import Any

import pytest

from policies.verdict import Reason
from supervisor import Attempt, Refusal, Status, Supervisor, current_attempt
from supervisor.clock import iso_utc
from supervisor.owner import starttime_of, this_process
from supervisor.work.nesting import Ignored, OuterRun, outer_run, variables_of
from tests.supervisor.rules import now, rules

WALL = 1_767_225_600.0
NOW = 1000.0
RUNS = [{"run_id": "run-1", "session": "outermost"}, {"run_id": "run-2", "session": "inner"}]


def above() -> dict[str, Any]:
    """Return the identity of this process's parent: a supervisor that it runs under."""
    return {"pid": os.getppid(), "starttime": starttime_of(os.getppid()), "bootId": this_process().boot_id}


def environ(supervisor: dict[str, Any] | None = None, **more: str) -> dict[str, str]:
    return {"TURNKEEPER_PARENT": json.dumps({"runs": RUNS, "supervisor": supervisor or above()}), **more}


def believed(environ: dict[str, str]) -> OuterRun:
    outer = outer_run(environ, NOW, WALL)
    assert isinstance(outer, OuterRun)
    return outer


@pytest.mark.parametrize("variables", [{}, {"TURNKEEPER_PARENT": ""}, {"TURNKEEPER_DEADLINE": iso_utc(WALL + 5.0)}])
def test_where_no_parent_is_named_there_is_none(variables: dict[str, str]) -> None:
    assert outer_run(variables, NOW, WALL) is None


def test_the_innermost_run_is_the_parent_and_leads_to_the_others() -> None:
    outer = believed(environ(TURNKEEPER_DEADLINE=iso_utc(WALL + 30.0)))
    assert (outer.run_id, outer.session, outer.deadline) == ("run-2", "inner", NOW + 30.0)
    assert outer.parent is not None
    assert (outer.parent.run_id, outer.parent.session, outer.parent.deadline) == ("run-1", "outermost", NOW + 30.0)
    assert outer.parent.parent is None


def test_its_budget_is_in_another_process_so_it_has_no_retry_to_give() -> None:
    assert believed(environ()).retries_left() == 0
    assert believed(environ()).deadline is None


def test_it_is_not_ours_to_end() -> None:
    with pytest.raises(AssertionError, match="run run-2 belongs to another process"):
        believed(environ()).interrupt(Reason.REPLACED)


@pytest.mark.parametrize(
    "supervisor",
    [
        {"pid": os.getpid(), "starttime": starttime_of(os.getpid())},
        {"starttime": 1},
        {"starttime": None},
        {"starttime": str(starttime_of(os.getppid()))},
        {"pid": 2**22},
        {"pid": -1},
        {"pid": None},
        {"bootId": "another"},
        {"bootId": None},
    ],
    ids=str,
)
def test_only_a_supervisor_that_is_an_ancestor_is_believed(supervisor: dict[str, Any]) -> None:
    outer = outer_run(environ({**above(), **supervisor}), NOW, WALL)
    assert outer == Ignored("TURNKEEPER_PARENT names a supervisor that this process does not run under (any more)")


@pytest.mark.parametrize(
    "parent",
    [
        "no JSON",
        "[]",
        "null",
        "7",
        "{}",
        '{"runs": {}, "supervisor": {}}',
        '{"runs": [1], "supervisor": {}}',
        '{"runs": [{"run_id": 1, "session": "s"}], "supervisor": {}}',
        '{"runs": [], "supervisor": []}',
        '{"runs": [], "supervisor": {"pid": 1}}',
        "1" * 5000,
        "[" * 100_000,
        "\udcff",
    ],
    ids=lambda parent: parent[:40].encode("unicode_escape").decode(),
)
def test_what_no_supervisor_says_is_ignored(parent: str) -> None:
    outer = outer_run({"TURNKEEPER_PARENT": parent}, NOW, WALL)
    assert isinstance(outer, Ignored)
    assert outer.why == "TURNKEEPER_PARENT or TURNKEEPER_DEADLINE does not say what a supervisor says there"


@pytest.mark.parametrize("deadline", ["soon", "12", "2026-13-01T00:00:00Z", "\0"])
def test_a_deadline_that_is_none_is_ignored_with_all_the_rest(deadline: str) -> None:
    outer = outer_run(environ(TURNKEEPER_DEADLINE=deadline), NOW, WALL)
    assert isinstance(outer, Ignored)


@pytest.mark.parametrize("late_s", [0.0, 0.001, 1e9])
def test_a_run_whose_time_is_over_is_no_parent(late_s: float) -> None:
    outer = outer_run(environ(TURNKEEPER_DEADLINE=iso_utc(WALL - late_s)), NOW, WALL)
    assert outer == Ignored("the time of run run-2, which TURNKEEPER_PARENT names, is over")


async def test_variables_say_what_the_attempt_is() -> None:
    async def tell(attempt: Attempt) -> dict[str, str]:
        return variables_of(attempt)

    async with Supervisor() as supervisor:
        report = await supervisor.run("s", tell, policy=rules(timeout_s=10.0, deadline_s=600.0))
        assert supervisor._effects is not None
        deadline = iso_utc(supervisor._effects.clock.wall() + 10.0)
        assert (
            "TURNKEEPER_DEADLINE"
            not in (await supervisor.run("s", tell, policy=rules(timeout_s=None, deadline_s=None))).value
        )
    parent = json.loads(report.value.pop("TURNKEEPER_PARENT"))
    assert report.value == {
        "TURNKEEPER_RUN_ID": report.run_id,
        "TURNKEEPER_SESSION": "s",
        "TURNKEEPER_ATTEMPT": "1",
        "TURNKEEPER_IDEMPOTENCY_KEY": f"{report.run_id}-1",
        "TURNKEEPER_DEADLINE": deadline,
    }
    me = this_process()
    assert parent == {
        "runs": [{"run_id": report.run_id, "session": "s"}],
        "supervisor": {"pid": me.pid, "starttime": me.starttime, "bootId": me.boot_id},
    }


async def test_variables_name_every_run_above_those_of_other_processes_first() -> None:
    async def tell(attempt: Attempt) -> list[dict[str, str]]:
        runs: list[dict[str, str]] = json.loads(variables_of(attempt)["TURNKEEPER_PARENT"])["runs"]
        return runs

    async def parent(attempt: Attempt) -> list[dict[str, str]]:
        async with attempt.subagents() as children:
            runs: list[dict[str, str]] = (await children.spawn("child", tell)).value
        return runs

    async with Supervisor(outer=believed(environ())) as supervisor:
        report = await supervisor.run("parent", parent)
    assert [run["session"] for run in report.value] == ["outermost", "inner", "parent", "child"]
    assert report.value[:2] == RUNS


async def test_a_nested_run_has_one_attempt() -> None:
    async def fail(attempt: Attempt) -> None:
        raise ValueError

    async with Supervisor(outer=believed(environ())) as supervisor:
        report = await supervisor.run_report("s", fail, policy=rules(attempts=3))
    assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, Reason.PARENT_BUDGET, 1)


@pytest.mark.parametrize(("outer_s", "own_s", "least_s"), [(5.0, 600.0, 5.0), (600.0, 5.0, 5.0)])
async def test_a_nested_run_has_its_parents_deadline_where_that_is_earlier(
    outer_s: float, own_s: float, least_s: float
) -> None:
    async def remaining(attempt: Attempt) -> float | None:
        mine = current_attempt()
        assert mine is not None
        return mine.remaining()

    outer = outer_run(environ(TURNKEEPER_DEADLINE=iso_utc(WALL + outer_s)), now(), WALL)
    assert isinstance(outer, OuterRun)
    async with Supervisor(outer=outer) as supervisor:
        report = await supervisor.run("s", remaining, policy=rules(timeout_s=None, deadline_s=own_s))
    assert report.value == pytest.approx(least_s)


@pytest.mark.parametrize(("session", "holder"), [("outermost", "run-1"), ("inner", "run-2")])
async def test_a_nested_run_on_a_session_above_it_is_refused(session: str, holder: str) -> None:
    async def work(attempt: Attempt) -> None:
        raise AssertionError("it was started")

    async with Supervisor(outer=believed(environ())) as supervisor:
        report = await supervisor.run_report(session, work, policy=rules())
    assert (report.status, report.reason, report.attempts) == (Status.REFUSED, Refusal.ANCESTOR, ())
    assert report.detail == f"{holder}, within which it was started, is on that session itself"
