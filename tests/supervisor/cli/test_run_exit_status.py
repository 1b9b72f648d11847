"""Each exit status of `turnkeeper run`, from a run that comes to it."""

import os
import sys
from pathlib import Path

import pytest

from supervisor.clock import SystemClock
from supervisor.lock.session_lock import SystemLockFiles
from tests.supervisor.cli.running import Turnkeeper, sh

pytestmark = pytest.mark.processes

ONE_ATTEMPT = "budget.attempts = 1"
AT_ONCE = 'backoff.base = "0s"'


def test_a_success_ends_with_0(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(sh("echo out; echo err >&2"), "--quiet")
    assert ended == (0, b"out\n", "err\n")
    assert turnkeeper.report["status"] == "succeeded"


def test_a_success_after_a_failure_ends_with_0(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(AT_ONCE)
    assert turnkeeper.run(sh("[ $TURNKEEPER_ATTEMPT = 3 ]")).status == 0
    assert [attempt["outcome"] for attempt in turnkeeper.report["attempts"]] == ["failed", "failed", "succeeded"]


def test_a_failure_ends_with_the_last_status_of_the_command(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 2", AT_ONCE)
    assert turnkeeper.run(sh("exit 4$TURNKEEPER_ATTEMPT")).status == 42
    assert [attempt["failure"]["exit_code"] for attempt in turnkeeper.report["attempts"]] == [41, 42]
    assert turnkeeper.report["reason"] == "attempts"


def test_status_0_that_a_rule_calls_a_failure_ends_with_1(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(
        ONE_ATTEMPT, failures='[[failures]]\nmatch = { exit_code = 0, output = "(?i)sorry" }\nkind = "server_error"'
    )
    assert turnkeeper.run(["echo", "Sorry, no"]).status == 1
    failure = turnkeeper.report["attempts"][0]["failure"]
    assert (failure["kind"], failure["exit_code"]) == ("server_error", 0)


def test_a_usage_error_of_the_command_is_its_own_and_not_retried(turnkeeper: Turnkeeper) -> None:
    assert turnkeeper.run(sh("exit 64")).status == 64
    assert turnkeeper.report["attempts"][0]["failure"]["kind"] == "invalid"
    assert turnkeeper.report["reason"] == "not_retried"


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
def test_a_command_that_takes_too_long_ends_with_124(turnkeeper: Turnkeeper, limit: str) -> None:
    turnkeeper.rules(ONE_ATTEMPT, f'attempt.{limit} = "200ms"')
    assert turnkeeper.run(["sleep", "60"]).status == 124
    [attempt] = turnkeeper.report["attempts"]
    assert attempt["failure"]["kind"] == {"timeout": "timeout", "idle_timeout": "idle"}[limit]
    assert attempt["released"]["processes_killed"] == 1


def test_a_timeout_of_a_command_that_then_exits_with_a_status_ends_with_124(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(ONE_ATTEMPT, 'attempt.timeout = "200ms"')
    assert turnkeeper.run(sh("trap 'exit 7' TERM; sleep 60 & wait")).status == 124


def test_a_command_that_holds_too_much_memory_ends_with_137(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(ONE_ATTEMPT, 'attempt.max_rss = "48MiB"')
    greedy = "import time; held = b'x' * 100_000_000; time.sleep(60)"
    assert turnkeeper.run([sys.executable, "-I", "-S", "-c", greedy]).status == 137
    failure = turnkeeper.report["attempts"][0]["failure"]
    assert (failure["kind"], failure["signal"]) == ("memory", None)
    assert "48 MiB allowed (max_rss)" in failure["message"]


@pytest.mark.parametrize(("signal", "status"), [("KILL", 137), ("TERM", 143), ("USR1", 138)])
def test_a_command_that_died_by_a_signal_ends_with_128_and_its_number(
    turnkeeper: Turnkeeper, signal: str, status: int
) -> None:
    turnkeeper.rules(ONE_ATTEMPT)
    assert turnkeeper.run(sh(f"kill -{signal} $$")).status == status
    failure = turnkeeper.report["attempts"][0]["failure"]
    assert (failure["kind"], failure["signal"], failure["exit_code"]) == ("crash", status - 128, None)


@pytest.mark.parametrize("on_refused", [[], ["--on-refused", "0"]])
def test_a_run_that_may_still_live_ends_with_70_whatever_a_refusal_would(
    turnkeeper: Turnkeeper, on_refused: list[str]
) -> None:
    ended = turnkeeper.run(sh("sleep 0.2; kill -9 $PPID; sleep 60"), *on_refused)
    assert ended.status == 70
    assert turnkeeper.report["status"] == "quarantined"
    [attempt] = turnkeeper.report["attempts"]
    assert (attempt["outcome"], attempt["failure"]["kind"]) == ("unconfirmed", "unconfirmed")
    assert attempt["failure"]["message"].endswith("was killed, then not proved dead")
    assert "was killed" in attempt["released"]["alive"][0]
    assert "MAY STILL LIVE" in ended.stderr
    turnkeeper.kill_what_is_left()
    for (
        life
    ) in turnkeeper.alive.iterdir():  # of a tree of which nobody can say that it is gone: an operator's to remove
        life.unlink()


@pytest.mark.parametrize(("on_refused", "status"), [([], 75), (["--on-refused", "0"], 0)])
def test_a_refused_run_ends_with_75_or_as_asked(turnkeeper: Turnkeeper, on_refused: list[str], status: int) -> None:
    turnkeeper.rules('lock.wait = "50ms"')
    lock = SystemLockFiles(SystemClock()).take_now(turnkeeper.folder / "reports.jsonl", 60.0)
    assert lock is not None
    ended = turnkeeper.run(["touch", "started"], "--lock", "reports.jsonl", *on_refused)
    lock.release()
    assert ended.status == status
    assert (turnkeeper.report["status"], turnkeeper.report["reason"]) == ("refused", "busy")
    assert turnkeeper.report["attempts"] == []
    assert f"Turnkeeper's process {os.getpid()}" in ended.stderr
    assert not (turnkeeper.folder / "started").exists()


def test_a_retry_that_is_refused_ends_with_the_status_of_the_last_failure(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('lock.wait = "50ms"', 'backoff = { strategy = "constant", base = "300ms" }')
    process = turnkeeper.start(sh("echo > ran; exit 9"), "--lock", "reports.jsonl", "--on-refused", "0")
    turnkeeper.wait_for("ran")
    locks, lock = SystemLockFiles(SystemClock()), None
    while lock is None:
        lock = locks.take_now(turnkeeper.folder / "reports.jsonl", 60.0)
    ended = turnkeeper.end(process)
    lock.release()
    assert ended.status == 9
    assert (turnkeeper.report["status"], turnkeeper.report["reason"]) == ("failed", "busy")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--session", "s"], "Missing argument"),
        (["--", "true"], "Missing option '--session'"),
        (["--session", "s", "--policy", "defualt", "--", "true"], "no policy 'defualt'"),
        (["--session", "s", "--on-refused", "256", "--", "true"], "256 is not in the range 0<=x<=255"),
        (["--session", "s", "--log", "xml", "--", "true"], "'xml' is not one of 'text', 'json'"),
        (["--session", "s", "--lok", "x", "--", "true"], "No such option"),
        (["--session", "s", "--", ""], "a command needs a program"),
    ],
)
def test_bad_usage_ends_with_64(turnkeeper: Turnkeeper, arguments: list[str], says: str) -> None:
    ended = turnkeeper.run_as_it_is("run", *arguments)
    assert (ended.status, ended.stdout) == (64, b"")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_bad_settings_end_with_78_and_start_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 33")
    ended = turnkeeper.run(["touch", "started"])
    assert (ended.status, ended.stdout) == (78, b"")
    assert "policies.default.budget.attempts" in ended.stderr
    assert not (turnkeeper.folder / "started").exists()


@pytest.mark.parametrize(
    ("command", "status"),
    [("no-such-command", 127), ("./missing", 127), ("./plain", 126), ("./folder", 126), ("./no-interpreter", 127)],
)
def test_a_command_that_cannot_be_started_ends_as_in_a_shell_and_is_not_retried(
    turnkeeper: Turnkeeper, command: str, status: int
) -> None:
    (turnkeeper.folder / "plain").write_text("#!/bin/sh\n")
    (turnkeeper.folder / "folder").mkdir()
    (turnkeeper.folder / "no-interpreter").write_text("#!/no/such/interpreter\n")
    (turnkeeper.folder / "no-interpreter").chmod(0o755)
    ended = turnkeeper.run([command, "secret-argument"])
    assert ended.status == status
    [attempt] = turnkeeper.report["attempts"]
    assert (attempt["failure"]["kind"], attempt["failure"]["exit_code"]) == ("invalid", status)
    assert turnkeeper.report["reason"] == "not_retried"
    assert command in ended.stderr
    assert "secret-argument" not in ended.stderr


def test_a_machine_that_refuses_a_life_file_ends_with_71_and_starts_nothing(
    turnkeeper: Turnkeeper, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("where the state folder should be")
    ended = turnkeeper.run(["touch", "started"], "--state", "memory")
    assert ended.status == 71
    [attempt] = turnkeeper.report["attempts"]
    assert attempt["failure"]["kind"] == "invalid"
    assert "Not a directory" in attempt["failure"]["message"]
    assert not (turnkeeper.folder / "started").exists()
