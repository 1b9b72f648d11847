"""`turnkeeper jobs` and what is below it, alone and beside a real `turnkeeper serve`."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from supervisor.cli.exit_status import ExitStatus
from supervisor.store.sqlite import ticks
from tests.supervisor.cli.running import Ended, Turnkeeper
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]

SETTINGS = """
[policies.once]
budget.attempts = 1
gate.overlap = "skip"
attempt.grace = "200ms"
[[jobs]]
name = "each"
every = "1s"
policy = "once"
command = ["sh", "-c", "echo out; echo err >&2; echo x >> ran"]
[[jobs]]
name = "never"
at = "2001-01-01"
policy = "once"
overdue = "off"
command = ["sh", "-c", "exit 7"]
[[jobs]]
name = "sleeps"
cron = "0 0 1 1 *"
tz = "Europe/Berlin"
policy = "once"
command = ["sh", "-c", "echo > started; exec sleep 60"]
"""


@pytest.fixture
def jobs(turnkeeper: Turnkeeper) -> Turnkeeper:
    (turnkeeper.folder / "settings.toml").write_text(SETTINGS)
    return turnkeeper


def told(jobs: Turnkeeper, *arguments: str) -> Any:
    ended = jobs.run_as_it_is("jobs", *arguments, "--json")
    assert (ended.status, ended.stderr) == (0, ""), ended
    return json.loads(ended.stdout)


def ledger(jobs: Turnkeeper, name: str = "each") -> list[tuple[str, str | None, str | None]]:
    """Return outcome, reason and its run's status of each tick, the oldest first."""
    return [(tick["outcome"], tick["reason"], tick["status"]) for tick in told(jobs, "ticks", name)][::-1]


def end(jobs: Turnkeeper, serve: "subprocess.Popen[bytes]") -> Ended:
    serve.send_signal(signal.SIGTERM)
    ended = jobs.end(serve)
    assert ended.status == 0, ended.stderr
    return ended


# --- the list


def test_jobs_are_listed_before_any_serve_and_no_state_is_made(jobs: Turnkeeper) -> None:
    rows = {row["name"]: row for row in told(jobs)}
    assert [*rows] == ["each", "never", "sleeps"]
    assert rows["never"]["next_at"] is None
    assert rows["sleeps"]["next_at"].endswith("-12-31T23:00:00.000Z")
    assert rows["sleeps"]["schedule"] == "cron 0 0 1 1 * (Europe/Berlin)"
    each = rows["each"]
    assert (each["session"], each["policy"], each["last"], each["succeeded_at"]) == ("job:each", "once", None, None)
    assert (each["paused"], each["overdue"]) == (False, False)
    assert each["last_day"] == {"started": 0, "skipped": 0, "expired": 0, "open": 0}
    table = jobs.run_as_it_is("jobs").stdout.decode().splitlines()
    assert table[0].split() == ["JOB", "SCHEDULE", "POLICY", "NEXT", "LAST", "STARTED/SKIPPED/EXPIRED", "IS"]
    assert len(table) == 4
    assert not (jobs.folder / "state").exists()


def test_where_there_are_none_the_list_is_empty(turnkeeper: Turnkeeper) -> None:
    assert told(turnkeeper) == []
    ended = turnkeeper.run_as_it_is("jobs")
    assert (ended.status, ended.stdout, ended.stderr) == (
        0,
        b"",
        "turnkeeper: there are no jobs in built-in defaults\n",
    )


def test_options_of_a_subcommand_stand_behind_it(jobs: Turnkeeper) -> None:
    (jobs.folder / "settings.toml").rename(jobs.folder / "other.toml")
    assert [row["name"] for row in told(jobs, "--settings", "other.toml")] == ["each", "never", "sleeps"]
    ended = jobs.run_as_it_is("jobs", "run", "each", "--settings", "other.toml")
    assert (ended.status, ended.stdout) == (0, b"out\n")
    ended = jobs.run_as_it_is("jobs", "--settings", "other.toml", "run", "each")
    assert ended.status == ExitStatus.USAGE
    assert "options of `jobs run` stand behind it" in ended.stderr


@pytest.mark.parametrize("command", ["run", "pause", "resume", "ticks"])
def test_a_name_that_no_job_has_is_wrong_usage_with_the_nearest_one(jobs: Turnkeeper, command: str) -> None:
    ended = jobs.run_as_it_is("jobs", command, "eahc")
    assert ended.status == ExitStatus.USAGE
    assert ended.stderr.startswith("turnkeeper: no job 'eahc' in settings.toml; did you mean each?\n")


@pytest.mark.parametrize("command", [[], ["run", "each"], ["pause", "each"], ["resume", "each"], ["ticks", "each"]])
def test_a_state_that_is_none_is_69_in_one_line(jobs: Turnkeeper, command: list[str]) -> None:
    (jobs.folder / "state.db").write_bytes(b"not a database" * 100)
    ended = jobs.run_as_it_is("jobs", *command, "--state", "state.db")
    assert (ended.status, ended.stdout) == (ExitStatus.UNAVAILABLE, b"")
    assert ended.stderr.startswith("turnkeeper: ")
    assert ended.stderr.count("\n") == 1


def test_a_state_that_nobody_else_sees_is_wrong_usage(jobs: Turnkeeper) -> None:
    for command in (["jobs"], ["jobs", "run", "each"], ["serve"]):
        ended = jobs.run_as_it_is(*command, "--state", "memory")
        assert ended.status == ExitStatus.USAGE
        assert "such a state is seen by no other process" in ended.stderr


# --- one run, now


def test_a_job_is_run_now_and_what_it_prints_is_passed_on(jobs: Turnkeeper) -> None:
    ended = jobs.run_as_it_is("jobs", "run", "each", "--quiet", "--report", "report.json")
    assert (ended.status, ended.stdout, ended.stderr) == (0, b"out\n", "err\n")
    assert (jobs.report["session"], jobs.report["status"]) == ("job:each", "succeeded")
    [run] = json.loads(jobs.run_as_it_is("runs", "--json").stdout)
    assert (run["run_id"], run["job"]) == (jobs.report["run_id"], None)
    assert told(jobs, "ticks", "each") == []  # no tick asked for it


def test_the_exit_status_is_that_of_its_command(jobs: Turnkeeper) -> None:
    assert jobs.run_as_it_is("jobs", "run", "never").status == 7


@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("./settings.toml", 126)])
def test_a_command_that_cannot_be_started_says_which(jobs: Turnkeeper, program: str, status: int) -> None:
    (jobs.folder / "settings.toml").write_text(f"[[jobs]]\nname = 'a'\nevery = '1h'\ncommand = ['{program}']\n")
    ended = jobs.run_as_it_is("jobs", "run", "a", "--quiet")
    assert (ended.status, ended.stdout) == (status, b"")
    assert program in ended.stderr


def test_with_json_the_report_alone_is_printed(jobs: Turnkeeper) -> None:
    ended = jobs.run_as_it_is("jobs", "run", "never", "--json", "--log", "json", "--report", "report.json")
    assert ended.status == 7
    report = json.loads(ended.stdout)
    assert (report["status"], report["attempts"][0]["failure"]["exit_code"]) == ("failed", 7)
    assert jobs.report == report
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()][-1] == "run_ended"


def test_ctrl_c_stops_it_and_proves_it_gone(jobs: Turnkeeper) -> None:
    process = jobs.begin("jobs", "run", "sleeps", "--json")
    jobs.wait_for("started")
    process.send_signal(signal.SIGINT)
    ended = jobs.end(process)
    assert ended.status == ExitStatus.INTERRUPTED
    report = json.loads(ended.stdout)
    assert (report["status"], report["attempts"][0]["released"]["receipt"]) == ("cancelled", "gone")


def test_one_whose_session_is_busy_is_refused(jobs: Turnkeeper) -> None:
    first = jobs.begin("jobs", "run", "sleeps")
    jobs.wait_for("started")
    second = jobs.run_as_it_is("jobs", "run", "sleeps", "--json")
    assert second.status == ExitStatus.REFUSED
    assert json.loads(second.stdout)["status"] == "refused"
    first.send_signal(signal.SIGTERM)
    assert jobs.end(first).status == 143


def test_a_paused_one_can_be_run(jobs: Turnkeeper) -> None:
    assert told(jobs, "pause", "each") == [{"job": "each", "paused": True, "changed": True}]
    assert jobs.run_as_it_is("jobs", "run", "each").status == 0


def test_one_that_its_breaker_refuses_says_how_that_is_closed(jobs: Turnkeeper) -> None:
    breaker = "[policies.once]\nbreaker.failures = 1\n"
    (jobs.folder / "settings.toml").write_text(SETTINGS.replace("[policies.once]\n", breaker))
    assert jobs.run_as_it_is("jobs", "run", "never").status == 7
    ended = jobs.run_as_it_is("jobs", "run", "never")
    assert ended.status == ExitStatus.REFUSED
    assert "its breaker is open; `turnkeeper reset job:never` closes it" in ended.stderr
    assert jobs.run_as_it_is("reset", "job:never").status == 0
    assert jobs.run_as_it_is("jobs", "run", "never").status == 7


def test_its_relative_lock_is_of_the_folder_of_the_settings_file(jobs: Turnkeeper) -> None:
    keys = "name = 'a'\nevery = '1h'\nlock = 'a.jsonl'\ncommand = ['sh', '-c', 'ls $FOLDER; pwd']\n"
    jobs.folder.joinpath("settings.toml").write_text(f"[[jobs]]\nenv = {{ FOLDER = '{jobs.folder}' }}\n{keys}")
    elsewhere = jobs.folder / "elsewhere"
    elsewhere.mkdir()
    settings = {"TURNKEEPER_SETTINGS": "../settings.toml"}
    ended = subprocess.run(
        [sys.executable, "-m", "supervisor.cli.main", "jobs", "run", "a", "--quiet"],
        cwd=elsewhere,
        env={**jobs.env, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert "a.jsonl.lock" in ended.stdout.decode().split()
    assert ended.stdout.decode().splitlines()[-1] == str(elsewhere)


# --- pause and resume


def test_a_job_whose_session_is_paused_is_marked(jobs: Turnkeeper) -> None:
    assert [row["session_paused"] for row in told(jobs)] == [False] * 3
    jobs.run_as_it_is("pause", "job:each")
    assert [(row["paused"], row["session_paused"]) for row in told(jobs)] == [(False, True), *[(False, False)] * 2]
    jobs.run_as_it_is("pause", "--all")
    assert all(row["session_paused"] for row in told(jobs))
    assert jobs.run_as_it_is("jobs").stdout.decode().count("session paused") == 3


def test_a_job_is_paused_before_any_serve_and_told_once(jobs: Turnkeeper) -> None:
    assert told(jobs, "resume", "each") == [{"job": "each", "paused": False, "changed": False}]
    assert told(jobs, "pause", "each") == [{"job": "each", "paused": True, "changed": True}]
    assert told(jobs, "pause", "each") == [{"job": "each", "paused": True, "changed": False}]
    assert [row["paused"] for row in told(jobs)] == [True, False, False]
    ended = jobs.run_as_it_is("jobs", "resume", "each")
    assert ended.stdout == b"job each is resumed\n"
    assert jobs.run_as_it_is("jobs", "resume", "each").stdout == b"job each is not paused\n"


def test_ticks_of_a_paused_job_are_skipped_while_serve_runs_until_it_is_resumed(jobs: Turnkeeper) -> None:
    serve = jobs.begin("serve", "--quiet")
    until(lambda: ("started", None, "succeeded") in ledger(jobs), "a tick has succeeded")
    told(jobs, "pause", "each")
    until(lambda: ledger(jobs)[-1] == ("skipped", "paused", None), "a tick is skipped")
    told(jobs, "resume", "each")
    until(lambda: ledger(jobs)[-1][0] == "started", "ticks are started again")
    end(jobs, serve)
    outcomes = [outcome for outcome, _, _ in ledger(jobs)]
    changes = [after for before, after in zip([None, *outcomes], outcomes, strict=False) if before != after]
    assert changes == ["started", "skipped", "started"]
    each = told(jobs)[0]
    assert each["last_day"]["started"] == outcomes.count("started")
    assert each["last_day"]["skipped"] == outcomes.count("skipped")
    assert each["succeeded_at"] is not None
    assert "started" in jobs.run_as_it_is("jobs", "ticks", "each").stdout.decode()


def test_what_was_due_while_it_was_paused_is_not_caught_up_after_resume(jobs: Turnkeeper) -> None:
    """Nobody looked meanwhile: the ledger says so all the same, and `resume` means from the next tick on."""
    told(jobs, "pause", "each")
    with database(jobs) as rows:  # as if that were ten minutes ago
        rows.execute("UPDATE jobs SET decided_wall = decided_wall - 600, known_wall = known_wall - 600")
    told(jobs, "resume", "each")
    outcomes = ledger(jobs)
    assert outcomes[-1] == ("skipped", "paused", None)
    assert {outcome for outcome, _, _ in outcomes[:-1]} == {"expired"}
    assert len(outcomes) == 50  # the newest, unless --limit says more
    assert len(told(jobs, "ticks", "each", "--limit", "1000")) >= 599


# --- the ledger


@contextmanager
def database(jobs: Turnkeeper) -> Iterator[sqlite3.Connection]:
    """Give the state's rows, to be changed as if time had passed."""
    path = jobs.folder / "state" / "turnkeeper" / "state.db"
    with closing(sqlite3.connect(path, timeout=30.0)) as rows, rows:
        yield rows


def test_the_ledger_has_each_outcome_in_its_words(jobs: Turnkeeper) -> None:
    told(jobs, "pause", "each")
    with database(jobs) as rows:
        ticks._add(rows, "each", 100.0, 1.0, "expired", first=50.0)
        ticks._add(rows, "each", 200.0, 1.0, "skipped", "overlap")
        ticks._add(rows, "each", 300.5, 1.0, None, run_id="tick-1", owner="nobody")
    newest, skipped, span = told(jobs, "ticks", "each")
    assert (newest["outcome"], newest["tick_at"], newest["run_id"]) == ("open", "1970-01-01T00:05:00.500Z", "tick-1")
    assert (skipped["outcome"], skipped["reason"], skipped["run_id"]) == ("skipped", "overlap", None)
    assert (span["outcome"], span["first_at"], span["tick_at"]) == (
        "expired",
        "1970-01-01T00:00:50.000Z",
        "1970-01-01T00:01:40.000Z",
    )
    table = jobs.run_as_it_is("jobs", "ticks", "each").stdout.decode()
    assert "1970-01-01T00:00:50.000Z to 1970-01-01T00:01:40.000Z  expired" in table
    assert [tick["outcome"] for tick in told(jobs, "ticks", "each", "--limit", "1")] == ["open"]


def test_a_job_that_is_gone_has_its_ledger_still(jobs: Turnkeeper) -> None:
    told(jobs, "pause", "each")
    with database(jobs) as rows:
        ticks._add(rows, "gone", 100.0, 1.0, "skipped", "removed")
    assert ledger(jobs, "gone") == [("skipped", "removed", None)]


def test_a_job_that_was_never_due_says_so(jobs: Turnkeeper) -> None:
    ended = jobs.run_as_it_is("jobs", "ticks", "never")
    assert (ended.status, ended.stdout, ended.stderr) == (0, b"", "turnkeeper: no tick of never was due yet\n")


def test_a_tick_s_run_is_shown_like_any_other(jobs: Turnkeeper) -> None:
    serve = jobs.begin("serve", "--log", "json")
    until(lambda: ("started", None, "succeeded") in ledger(jobs), "a tick has succeeded")
    assert jobs.run_as_it_is("status").status == 0
    assert jobs.run_as_it_is("status", "--healthy").status == 0
    end(jobs, serve)
    tick = next(tick for tick in told(jobs, "ticks", "each") if tick["status"] == "succeeded")
    run = json.loads(jobs.run_as_it_is("show", tick["run_id"], "--json").stdout)
    assert (run["run_id"], run["session"], run["status"]) == (tick["run_id"], "job:each", "succeeded")
    assert run["job"] == "each"
    assert "a tick of the job each\n" in jobs.run_as_it_is("show", tick["run_id"]).stdout.decode()
    assert tick["run_id"] in {run["run_id"] for run in json.loads(jobs.run_as_it_is("runs", "--json").stdout)}


# --- overdue


def test_a_run_by_hand_that_succeeds_clears_what_is_overdue(jobs: Turnkeeper) -> None:
    told(jobs, "pause", "each")
    with database(jobs) as rows:
        rows.execute("UPDATE jobs SET known_wall = known_wall - 60, overdue_wall = 5.0")
    assert told(jobs)[0]["overdue"]
    assert "paused, overdue" in jobs.run_as_it_is("jobs").stdout.decode()
    (jobs.folder / "settings.toml").write_text(SETTINGS.replace('every = "1s"', 'every = "1s"\nstagger = "1s"'))
    assert jobs.run_as_it_is("jobs", "run", "each").status == 0
    with database(jobs) as rows:
        assert rows.execute("SELECT overdue_wall, succeeded_wall > 5 FROM jobs").fetchall() == [(None, 1)]


def alert_of_a_job_that_fails(jobs: Turnkeeper, kind: str) -> tuple[dict[str, Any], Ended]:
    """Serve until an alert is told; return it, and how that ended."""
    command = "['sh', '-c', 'cat > told.part; echo >> told.part; mv told.part told']"
    alerts = f"[[alerts]]\non = ['{kind}']\ncommand = {command}\n"
    (jobs.folder / "settings.toml").write_text(alerts + SETTINGS.replace("echo out;", "exit 3;"))
    serve = jobs.begin("serve")
    alert = json.loads(jobs.wait_for("told"))
    return alert, end(jobs, serve)


def test_an_overdue_job_is_an_alert(jobs: Turnkeeper) -> None:
    alert, ended = alert_of_a_job_that_fails(jobs, "overdue")
    assert (alert["kind"], alert["session"], alert["job"]) == ("overdue", "job:each", "each")
    assert "job each is overdue: no success for 3 of its periods" in alert["message"]
    assert ended.stderr.count("is overdue") == 1


def test_an_alert_names_the_job_whose_tick_a_run_is_of(jobs: Turnkeeper) -> None:
    alert, _ = alert_of_a_job_that_fails(jobs, "give_up")
    assert (alert["kind"], alert["session"], alert["job"]) == ("give_up", "job:each", "each")


def test_a_run_by_hand_before_any_serve_is_a_success_of_its_job(jobs: Turnkeeper) -> None:
    assert jobs.run_as_it_is("jobs", "run", "each").status == 0
    assert told(jobs)[0]["succeeded_at"] is not None
