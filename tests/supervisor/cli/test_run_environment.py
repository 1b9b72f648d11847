"""What a command is told of its run, and what a `turnkeeper run` within it makes of that."""

import json
import os
import re
import shlex
import sys
from datetime import datetime
from typing import Any

import pytest

from supervisor.lock.life_file import Death, read_life
from supervisor.owner import this_process
from tests.supervisor.cli.running import SESSION, Turnkeeper, log_of, sh

pytestmark = pytest.mark.processes

TELL = "env -0 > told.$TURNKEEPER_ATTEMPT.tmp; mv told.$TURNKEEPER_ATTEMPT.tmp told.$TURNKEEPER_ATTEMPT"
INNER = "agent:main:reports:child"


def told(turnkeeper: Turnkeeper, attempt: int = 1) -> dict[str, str]:
    """Return the variables of ours that a command was started with, which has run TELL."""
    variables = (turnkeeper.folder / f"told.{attempt}").read_text().split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable.startswith("TURNKEEPER_"))


def seconds_until(deadline: str, started_at: str) -> float:
    return (datetime.fromisoformat(deadline) - datetime.fromisoformat(started_at)).total_seconds()


def nested(*options: str, session: str = INNER, command: str = "true") -> str:
    """Return a line of shell that is a run of its own, with inner.json for a report, and inner.log."""
    argv = [sys.executable, "-m", "supervisor.cli.main", "run", "--session", session, "--report", "inner.json"]
    return shlex.join([*argv, "--log", "json", *options, "--", *sh(command)]) + " 2>inner.log"


def inner(turnkeeper: Turnkeeper) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((turnkeeper.folder / "inner.json").read_text())
    return report


def inner_log(turnkeeper: Turnkeeper) -> str:
    return (turnkeeper.folder / "inner.log").read_text()


def test_a_command_is_told_its_run_session_attempt_key_deadline_and_ancestors(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(
        "budget.attempts = 2", 'attempt.timeout = "100s"', 'budget.deadline = "30s"', 'backoff.base = "0s"'
    )
    process = turnkeeper.start(sh(f"{TELL}; exit 1"), KEPT="as it was")
    turnkeeper.end(process)
    report = turnkeeper.report
    for number in (1, 2):
        mine = told(turnkeeper, number)
        parent, deadline = json.loads(mine.pop("TURNKEEPER_PARENT")), mine.pop("TURNKEEPER_DEADLINE")
        assert mine == {
            "TURNKEEPER_RUN_ID": report["run_id"],
            "TURNKEEPER_SESSION": SESSION,
            "TURNKEEPER_ATTEMPT": str(number),
            "TURNKEEPER_IDEMPOTENCY_KEY": f"{report['run_id']}-{number}",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", deadline)
        assert seconds_until(deadline, report["started_at"]) == pytest.approx(
            30.0, abs=0.01
        )  # the run's: it is earlier
        assert parent["runs"] == [{"run_id": report["run_id"], "session": SESSION}]
        assert (parent["supervisor"]["pid"], parent["supervisor"]["bootId"]) == (process.pid, this_process().boot_id)
    assert "KEPT=as it was" in (turnkeeper.folder / "told.1").read_text().split("\0")


def test_a_nested_run_has_one_attempt_and_its_parents_deadline(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 1", 'attempt.timeout = "20s"', 'backoff.base = "0s"')
    (turnkeeper.folder / "inner.toml").write_text('[policies.default]\nattempt.timeout = "off"\nbackoff.base = "0s"\n')
    outer = turnkeeper.run(sh(nested("--settings", "inner.toml", command=f"{TELL}; exit 7")))
    assert (outer.status, turnkeeper.report["status"]) == (7, "failed")
    report = inner(turnkeeper)
    assert (report["session"], report["reason"], len(report["attempts"])) == (INNER, "parent_budget", 1)
    mine = told(turnkeeper)
    assert json.loads(mine["TURNKEEPER_PARENT"])["runs"] == [
        {"run_id": turnkeeper.report["run_id"], "session": SESSION},
        {"run_id": report["run_id"], "session": INNER},
    ]
    started = turnkeeper.report["attempts"][0]["started_at"]
    assert seconds_until(mine["TURNKEEPER_DEADLINE"], started) == pytest.approx(20.0, abs=0.05)
    assert "warning" not in [json.loads(line)["event"] for line in inner_log(turnkeeper).splitlines()]


def test_a_run_on_the_session_of_one_above_it_is_refused_at_once(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 1")
    innermost = nested(session=SESSION).replace("inner.", "innermost.")
    assert turnkeeper.run(sh(nested(command=innermost))).status == 75
    report = json.loads((turnkeeper.folder / "innermost.json").read_text())
    assert (report["status"], report["reason"], report["attempts"]) == ("refused", "ancestor", [])
    assert turnkeeper.report["run_id"] in (turnkeeper.folder / "innermost.log").read_text()


STUBBORN = "trap '' TERM; echo > runs; while :; do sleep 1; done"


@pytest.mark.parametrize(("outer_s", "inner_s"), [(10.0, 0.1), (0.1, 10.0)])
def test_a_nested_run_ends_with_the_attempt_that_it_is_in(
    turnkeeper: Turnkeeper, outer_s: float, inner_s: float
) -> None:
    turnkeeper.rules("budget.attempts = 1", 'attempt.timeout = "5s"', f'attempt.grace = "{outer_s:g}s"')
    (turnkeeper.folder / "inner.toml").write_text(f'[policies.default]\nattempt.grace = "{inner_s:g}s"\n')
    ended = turnkeeper.run(sh(nested("--settings", "inner.toml", "--lock", "inner.jsonl", command=STUBBORN)))
    assert ended.status == 124
    assert (turnkeeper.folder / "runs").exists()
    assert not (turnkeeper.folder / "inner.jsonl.lock").exists()
    if outer_s > inner_s:
        assert inner(turnkeeper)["status"] == "cancelled"
    else:  # it was killed before it could tell
        assert not (turnkeeper.folder / "inner.json").exists()
        for draft in turnkeeper.folder.glob(".turnkeeper-report.*"):
            draft.unlink()
        for life in turnkeeper.alive.iterdir():  # its warden had ended, and it had not removed that yet
            assert read_life(life)[0] is Death.GONE
            life.unlink()


def supervisor_of_tests() -> dict[str, Any]:
    """Return what a supervisor would say that is this very process: an ancestor of all that it starts."""
    me = this_process()
    return {"pid": os.getpid(), "starttime": me.starttime, "bootId": me.boot_id}


RUNS = [{"run_id": "run-1", "session": "agent:main:other"}]


@pytest.mark.parametrize(
    ("parent", "deadline", "says"),
    [
        ("{}", None, "does not say what a supervisor says there"),
        ("[" * 100_000, None, "does not say what a supervisor says there"),
        (json.dumps({"runs": [{"run_id": 1, "session": None}], "supervisor": {}}), None, "does not say"),
        (json.dumps({"runs": RUNS, "supervisor": supervisor_of_tests()}), "soon", "does not say"),
        (json.dumps({"runs": RUNS, "supervisor": supervisor_of_tests()}), "0001-01-01T00:00:00", "does not say"),
        (json.dumps({"runs": [], "supervisor": supervisor_of_tests()}), None, "does not run under"),
        (
            json.dumps({"runs": RUNS, "supervisor": {**supervisor_of_tests(), "starttime": 1}}),
            None,
            "does not run under",
        ),
        (json.dumps({"runs": RUNS, "supervisor": {**supervisor_of_tests(), "bootId": ""}}), None, "does not run under"),
        (
            json.dumps({"runs": RUNS, "supervisor": supervisor_of_tests()}),
            "2020-01-01T00:00:00.000Z",
            "the time of run run-1, which TURNKEEPER_PARENT names, is over",
        ),
    ],
    ids=["nothing", "deep", "types", "no date", "odd date", "no runs", "start", "boot", "over"],
)
def test_a_forged_or_stale_parent_is_warned_of_and_the_run_is_one_of_its_own(
    turnkeeper: Turnkeeper, parent: str, deadline: str | None, says: str
) -> None:
    environ: dict[str, Any] = {"TURNKEEPER_PARENT": parent} | (
        {} if deadline is None else {"TURNKEEPER_DEADLINE": deadline}
    )
    ended = turnkeeper.run(sh(TELL), "--log", "json", "--quiet", session="agent:main:other", **environ)
    assert ended.status == 0
    [warning] = log_of(ended)
    assert (warning["level"], says in warning["message"]) == ("warning", True)
    report = turnkeeper.report
    assert json.loads(told(turnkeeper)["TURNKEEPER_PARENT"])["runs"] == [
        {"run_id": report["run_id"], "session": "agent:main:other"}
    ]


def test_a_parent_that_is_an_ancestor_is_believed(turnkeeper: Turnkeeper) -> None:
    parent = json.dumps({"runs": RUNS, "supervisor": supervisor_of_tests()})
    ended = turnkeeper.run(["true"], session="agent:main:other", TURNKEEPER_PARENT=parent)
    assert (ended.status, turnkeeper.report["reason"]) == (75, "ancestor")
