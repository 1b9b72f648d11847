"""Signals to `turnkeeper run`: the tree is gone before it ends; a second one skips the grace."""

import os
import signal
import subprocess
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from supervisor.clock import SystemClock
from supervisor.lock.session_lock import SystemLockFiles
from tests.supervisor.cli.running import Ended, Turnkeeper, sh
from tests.supervisor.tree.trees import until

pytestmark = pytest.mark.processes

OBEDIENT = "trap 'echo told > told; exit 5' TERM; sh -c 'echo > runs; exec sleep 60' & wait"
STUBBORN = "trap '' TERM; sleep 60 & echo > runs; while :; do sleep 60; done"
LONG_GRACE = 'attempt.grace = "15s"'


def start(turnkeeper: Turnkeeper, script: str, *options: str) -> "subprocess.Popen[bytes]":
    process = turnkeeper.start(sh(script), "--lock", "reports.jsonl", *options)
    turnkeeper.wait_for("runs")
    return process


def assert_cancelled(turnkeeper: Turnkeeper, ended: Ended, number: int) -> None:
    assert ended.status == 128 + number
    assert turnkeeper.processes() == []
    assert not (turnkeeper.folder / "reports.jsonl.lock").exists()
    assert (turnkeeper.report["status"], turnkeeper.report["reason"]) == ("cancelled", "cancelled")
    [attempt] = turnkeeper.report["attempts"]
    assert (attempt["outcome"], attempt["failure"]["kind"]) == ("cancelled", "cancelled")
    assert attempt["released"]["receipt"] == "gone"


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_one_stops_the_tree_first_and_the_report_says_so(turnkeeper: Turnkeeper, number: int) -> None:
    process = start(turnkeeper, OBEDIENT)
    process.send_signal(number)
    ended = turnkeeper.end(process)
    assert (turnkeeper.folder / "told").read_text() == "told\n"
    assert_cancelled(turnkeeper, ended, number)
    assert turnkeeper.report["attempts"][0]["released"]["steps"][1].startswith("SIGTERM: 2")


@pytest.mark.parametrize("second", [SIGINT, SIGTERM])
def test_a_second_one_skips_the_grace_and_the_first_is_the_status(turnkeeper: Turnkeeper, second: int) -> None:
    turnkeeper.rules(LONG_GRACE)
    process = start(turnkeeper, STUBBORN, "--log", "json")
    process.send_signal(SIGINT)
    log = process.stderr
    assert log is not None
    until(lambda: b"attempt_stopping" in log.readline(), "it is told to end")
    process.send_signal(second)
    ended = turnkeeper.end(process)
    assert_cancelled(turnkeeper, ended, SIGINT)
    assert turnkeeper.report["duration_s"] < 15.0
    assert "SIGKILL" in turnkeeper.report["attempts"][0]["released"]["steps"][1]


def test_two_at_once_skip_the_grace_too(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(LONG_GRACE)
    process = start(turnkeeper, STUBBORN)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    process.send_signal(SIGINT)
    process.send_signal(SIGTERM)
    process.send_signal(signal.SIGCONT)
    ended = turnkeeper.end(process)
    assert ended.status in (130, 143)
    assert_cancelled(turnkeeper, ended, ended.status - 128)
    assert turnkeeper.report["duration_s"] < 15.0


@pytest.mark.parametrize("number", [SIGINT, SIGHUP])
def test_one_that_is_ignored_stays_ignored(turnkeeper: Turnkeeper, number: int) -> None:
    process = turnkeeper.start(
        sh("echo > runs; read line"), through=f"trap '' {number:d}; exec \"$@\"", stdin=subprocess.PIPE
    )
    turnkeeper.wait_for("runs")
    process.send_signal(number)
    assert turnkeeper.end(process, b"go on\n").status == 0


def test_one_during_the_backoff_ends_the_wait(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('backoff = { strategy = "constant", base = "2m" }')
    process = turnkeeper.start(["false"], "--log", "json", "--quiet")
    assert process.stderr is not None
    assert b"attempt_ended" in process.stderr.readline()
    process.send_signal(SIGTERM)
    assert turnkeeper.end(process).status == 143
    assert turnkeeper.report["status"] == "cancelled"
    assert [attempt["outcome"] for attempt in turnkeeper.report["attempts"]] == ["failed"]


def test_one_while_it_waits_for_the_lock_starts_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('lock.wait = "20m"')
    lock = SystemLockFiles(SystemClock()).take_now(turnkeeper.folder / "reports.jsonl", 60.0)
    assert lock is not None
    process = turnkeeper.start(["touch", "started"], "--lock", "reports.jsonl", "--log", "json")
    assert process.stderr is not None
    assert b"lock_waiting" in process.stderr.readline()
    process.send_signal(SIGTERM)
    assert turnkeeper.end(process).status == 143
    lock.release()
    assert (turnkeeper.report["status"], turnkeeper.report["attempts"]) == ("cancelled", [])
    assert not (turnkeeper.folder / "started").exists()
