"""`turnkeeper status`, `runs` and `show`: only read, also where there is nothing yet; and the health check."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest

from tests.supervisor.cli.running import SESSION, Turnkeeper, sh
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]

OPENS = ("budget.attempts = 2", "breaker.failures = 2", 'backoff.base = "0s"')


def database(turnkeeper: Turnkeeper) -> sqlite3.Connection:
    """Open the state as no process of ours does."""
    connection = sqlite3.connect(turnkeeper.folder / "state" / "turnkeeper" / "state.db", isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def without_times(value: Any) -> Any:
    """What stands in a report but for its moments and lengths: those of the state are read a little apart."""
    if isinstance(value, list):
        return [without_times(one) for one in value]
    if not isinstance(value, dict):
        return value
    times = ("started_at", "ended_at", "duration_s")
    return {key: key if key in times and one else without_times(one) for key, one in value.items()}


def printed(turnkeeper: Turnkeeper, *arguments: str) -> Any:
    ended = turnkeeper.run_as_it_is(*arguments, "--json")
    assert ended.status == 0, ended
    return json.loads(ended.stdout)


def test_where_there_is_no_state_nothing_is_made_and_all_is_well(turnkeeper: Turnkeeper) -> None:
    assert turnkeeper.run_as_it_is("status").stdout == b"Every session is at rest.\n"
    assert turnkeeper.run_as_it_is("status", "--healthy") == (0, b"", "")
    assert printed(turnkeeper, "status")["sessions"] == []
    assert printed(turnkeeper, "runs") == []
    assert turnkeeper.run_as_it_is("show", "run-1").status == 66
    assert not (turnkeeper.folder / "state").exists()


def test_reading_leaves_no_owner_behind_and_no_life_file(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    for command in (("status",), ("runs",), ("status", "--healthy")):
        turnkeeper.run_as_it_is(*command)
    with closing(database(turnkeeper)) as connection:
        assert connection.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    assert list(turnkeeper.alive.iterdir()) == []


def test_what_looks_like_a_credential_is_hidden_in_the_state_and_in_the_report_it_is_not(
    turnkeeper: Turnkeeper,
) -> None:
    script = "echo 'Authorization: Bearer abc.topsecret'; echo password=topsecret >&2; exit 3"
    turnkeeper.run(sh(script))
    with closing(database(turnkeeper)) as connection:
        rows = "\n".join(connection.iterdump())
    assert "topsecret" not in rows
    assert "password=***" in rows
    [run] = printed(turnkeeper, "runs")
    assert "password=***" in run["attempts"][0]["failure"]["output_tail"]
    assert "password=topsecret" in turnkeeper.report["attempts"][0]["failure"]["output_tail"]


def test_runs_says_why_one_is_in_backoff_and_cuts_a_key_that_fills_the_line(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('backoff = { base = "60s", strategy = "constant" }')
    process = turnkeeper.start(sh("exit 3"), session="s" * 512)
    until(lambda: [run["status"] for run in printed(turnkeeper, "runs")] == ["backoff"], "it waits to try again")
    for command in ("runs", "status"):
        row = turnkeeper.run_as_it_is(command).stdout.decode().splitlines()[1]
        assert f" {'s' * 79}…  " in f" {row}"
        if command == "runs":
            assert row.endswith("  error, sh exited with status 3")
    process.terminate()
    turnkeeper.end(process)


def test_a_run_without_a_name_is_wrong_usage(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    assert turnkeeper.run_as_it_is("show", "").status == 64


def test_status_shows_what_runs_and_who_has_it(turnkeeper: Turnkeeper) -> None:
    process = turnkeeper.start(sh("echo $PPID > runs; until [ -e go ]; do sleep 0.05; done"))
    warden = int(turnkeeper.wait_for("runs"))
    [session] = printed(turnkeeper, "status")["sessions"]
    assert (session["session"], session["is"]) == (SESSION, ["running"])
    [run] = session["runs"]
    assert (run["status"], run["attempt"], run["process"], run["warden_pid"]) == ("running", 1, "alive", warden)
    assert run["pid"] == process.pid
    line = turnkeeper.run_as_it_is("status").stdout.decode().splitlines()[1]
    assert line.startswith(f"{SESSION}  running")
    assert f"process {process.pid}, warden {warden}" in line
    (turnkeeper.folder / "go").touch()
    turnkeeper.end(process)
    assert printed(turnkeeper, "status")["sessions"] == []


def test_status_says_of_a_process_that_stands_still_for_how_long_it_was_silent(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "settings.toml").write_text(
        '[state]\nlease = "3s"\n[policies.default]\nattempt.grace = "1s"\n'
    )
    process = turnkeeper.start(sh("echo > runs; until [ -e go ]; do sleep 0.05; done"))
    turnkeeper.wait_for("runs")

    def silence() -> float | None:
        [session] = printed(turnkeeper, "status")["sessions"]
        [run] = session["runs"]
        assert run["process"] == "alive"
        silent_s: float | None = run["silent_s"]
        return silent_s

    assert silence() is None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        until(lambda: silence() is not None, "it is silent for longer than a third of its lease")
        line = turnkeeper.run_as_it_is("status").stdout.decode().splitlines()[1]
        assert f"process {process.pid} (silent for " in line
    finally:
        os.kill(process.pid, signal.SIGCONT)
    until(lambda: silence() is None, "it is heard again")
    (turnkeeper.folder / "go").touch()
    turnkeeper.end(process)


def test_status_shows_an_open_breaker_and_the_tokens(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(*OPENS)
    turnkeeper.run(sh("exit 3"))
    [session] = printed(turnkeeper, "status")["sessions"]
    assert session["is"] == ["open"]
    assert session["breaker"]["state"] == "open"
    assert 9.0 <= session["tokens"]["left"] < 10.0
    assert b"opened once; a trial may be made in " in turnkeeper.run_as_it_is("status").stdout


def test_what_a_session_is_called_reaches_no_terminal_raw(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    turnkeeper.run_as_it_is("pause", "a")
    with closing(database(turnkeeper)) as connection:
        connection.execute("UPDATE runs SET session = 'x' || char(27) || '[2J' || char(10) || 'y'")
        connection.execute("UPDATE pauses SET session = 'p' || char(27) || '[2J'")
    [run] = printed(turnkeeper, "runs")
    for command in (("status",), ("status", "--json"), ("runs",), ("runs", "--json"), ("show", run["run_id"])):
        ended = turnkeeper.run_as_it_is(*command)
        assert b"\x1b" not in ended.stdout
        assert b"[2J" in ended.stdout


# --- health


def test_a_quarantine_that_is_older_than_its_alarm_is_not_well(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    with closing(database(turnkeeper)) as connection:
        connection.execute(
            "INSERT INTO quarantines(session, run_id, owner, tasks, elsewhere, receipt, since_wall, known_at)"
            " VALUES ('a', 'r', 'x', 0, 1, '{\"alive\": [\"process 7\"]}', 0, 0)"
        )
    ended = turnkeeper.run_as_it_is("status", "--healthy")
    assert ended.status == 1
    assert ended.stdout.startswith(b"session 'a' has been quarantined for ")
    assert b"by run r; may still live: process 7\n" in ended.stdout
    (turnkeeper.folder / "settings.toml").write_text('[state]\nquarantine_alarm = "off"\n')
    assert turnkeeper.run_as_it_is("status", "--healthy") == (0, b"", "")


def test_a_state_in_which_somebody_stands_still_in_a_transaction_is_not_well(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    with closing(database(turnkeeper)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        ended = turnkeeper.run_as_it_is("status", "--healthy")
        assert ended.status == 1
        assert b"was locked for 1 s by process " in ended.stdout
        assert printed(turnkeeper, "status")["sessions"] == [], "who reads waits for nobody"


def test_a_damaged_state_is_69_to_whoever_reads_it_and_not_well(turnkeeper: Turnkeeper) -> None:
    folder = turnkeeper.folder / "state" / "turnkeeper"
    folder.mkdir(parents=True)
    (folder / "state.db").write_bytes(b"no database, " * 100)
    for command in (("status",), ("runs",), ("show", "r"), ("stop", "a")):
        ended = turnkeeper.run_as_it_is(*command)
        assert ended.status == 69
        assert "is not a database: it is left as it is" in ended.stderr
    ended = turnkeeper.run_as_it_is("status", "--healthy")
    assert (ended.status, b"is not a database" in ended.stdout) == (1, True)
    assert (folder / "state.db").read_bytes() == b"no database, " * 100


def test_on_a_full_disk_all_is_read_that_is_there(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"], "--state", "made.db")
    (turnkeeper.folder / "full").mkdir()
    unshare = "unshare --mount" if os.geteuid() == 0 else "unshare --map-root-user --mount"
    mount = "mount -t tmpfs -o size=400k none full"
    if subprocess.run(
        [*unshare.split(), *mount.split()], cwd=turnkeeper.folder, capture_output=True, check=False
    ).returncode:
        pytest.skip("no file system may be mounted here")
    python = f"{sys.executable} -m supervisor.cli.main"
    inside = [mount, "cp made.db full/state.db", "! dd if=/dev/zero of=full/fill bs=1k count=1000"]
    inside += [f"{python} {command} --state full/state.db >&2" for command in ("status", "runs", "show run-")]
    inside += [f"{python} pause a --state full/state.db"]
    process = subprocess.run(
        [*unshare.split(), "sh", "-c", " && ".join(inside)],
        cwd=turnkeeper.folder, env=turnkeeper.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 69, process.stderr
    told = process.stderr.splitlines()
    assert "Every session is at rest." in told
    assert f"run {turnkeeper.report['run_id']} of session '{SESSION}'" in told
    assert told[-1].startswith(f"turnkeeper: the state {turnkeeper.folder}/full/state.db cannot be ")
    assert "the disk is full" in told[-1]


# --- runs and show


def test_runs_lists_them_in_the_shape_of_their_reports(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(*OPENS)
    turnkeeper.run(["true"], session="other")
    turnkeeper.run(sh("echo so >&2; exit 3"))
    [run] = printed(turnkeeper, "runs", "--failed")
    assert without_times(run) == without_times(turnkeeper.report) | {"job": None}
    assert len(printed(turnkeeper, "runs", "--since", "1h")) == 2
    assert printed(turnkeeper, "runs", "--since", "2100-01-01T00:00Z") == []
    assert [one["session"] for one in printed(turnkeeper, "runs", "--session", "other")] == ["other"]
    lines = turnkeeper.run_as_it_is("runs").stdout.decode().splitlines()
    assert lines[0].split() == ["RUN", "SESSION", "POLICY", "STATUS", "STARTED", "TOOK", "ATTEMPTS", "WHY"]
    assert lines[1].endswith("attempts: error, sh exited with status 3")
    assert turnkeeper.run_as_it_is("runs", "--since", "yesterday").status == 64


def test_show_says_why_each_verdict_fell_and_what_proves_the_end(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(*OPENS)
    turnkeeper.run(sh("exit 3"))
    run_id = turnkeeper.report["run_id"]
    ended = turnkeeper.run_as_it_is("show", run_id[:-4])
    assert ended.status == 0
    told = ended.stdout.decode()
    assert told.startswith(f"run {run_id} of session '{SESSION}'\n")
    assert "  verdict  tried again 0 ms later, for 1 token\n" in told
    assert "tokens of the session: 10.0 before, 9.0 after, of 10\n" in told
    assert "  verdict  given up, attempts: all 2 attempts are used\n" in told
    assert "breaker: closed, 1 in a row failed before, open after\n" in told
    assert "  left     nothing: proved" in told
    assert "- no process left\n" in told


def test_show_of_a_run_that_there_is_not_ends_with_66_and_a_likely_one(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    run_id = turnkeeper.report["run_id"]
    ended = turnkeeper.run_as_it_is("show", run_id[:-1] + "7")
    assert ended.status == 66
    assert f"did you mean {run_id}?" in ended.stderr
    turnkeeper.run(["true"])
    ended = turnkeeper.run_as_it_is("show", "run-")
    assert ended.status == 66
    assert "begins the ids of more than one run" in ended.stderr
