"""kill -9 and SIGSTOP of `turnkeeper run`, its warden, both: nothing is left, the lock is free or rightly unknown.

With state in memory: no later run recovers anything, what is left is what the kernel and the warden have left.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from policies.policy import Pids
from supervisor import Status
from supervisor.clock import SystemClock
from supervisor.lock.session_lock import Busy, SystemLockFiles
from tests.supervisor.cli.running import Ended, Turnkeeper
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

SHAPES = str(Path(__file__).with_name("tree_shapes.py"))
IN_MEMORY = ("--state", "memory")
MOMENTS = ["lock_taken", "attempt_started", "running", "attempt_stopping"]


@pytest.fixture
def turnkeeper(tmp_path: Path) -> Iterator[Turnkeeper]:
    turnkeeper = Turnkeeper(tmp_path)
    turnkeeper.rules("budget.attempts = 1", 'attempt.timeout = "1500ms"', 'attempt.grace = "1s"')
    yield turnkeeper
    turnkeeper.assert_nothing_is_left()


class Run(NamedTuple):
    """A run whose command is hard to stop, at some moment of it."""

    turnkeeper: Turnkeeper
    process: "subprocess.Popen[bytes]"
    warden: int

    @property
    def transcript(self) -> Path:
        return self.turnkeeper.folder / "reports.jsonl"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def judge(self) -> Busy | None:
        """Look who has the lock; a free one of the dead is reclaimed."""
        return asyncio.run(SystemLockFiles(SystemClock()).judge(self.transcript, Pids.UNKNOWN))

    def is_gone(self) -> bool:
        return not self.turnkeeper.processes() and not self.transcript.with_name("reports.jsonl.lock").exists()

    def clean_up(self) -> None:
        """Do what an operator does after a warden was killed."""
        self.turnkeeper.kill_what_is_left()
        self.transcript.with_name("reports.jsonl.lock").unlink()
        for life in self.turnkeeper.alive.iterdir():
            life.unlink()
        self.remove_draft()

    def remove_draft(self) -> None:
        """A report that nobody has finished: it is in nobody's way."""
        for draft in self.turnkeeper.folder.glob(".turnkeeper-report.*"):
            draft.unlink()

    def end(self) -> Ended:
        return self.turnkeeper.end(self.process)


def start(turnkeeper: Turnkeeper, moment: str, *shape: str) -> Run:
    """Start a run, and return at a moment of it."""
    command = [sys.executable, "-I", "-S", SHAPES, *(shape or ("ignorers", "5"))]
    process = turnkeeper.start(command, "--lock", "reports.jsonl", *IN_MEMORY, "--log", "json")
    assert process.stdout is not None
    assert process.stderr is not None
    lock = turnkeeper.folder / "reports.jsonl.lock"
    warden = 0
    for line in process.stderr:
        event = json.loads(line)["event"]
        if event == "lock_taken":
            warden = json.loads(lock.read_text())["pid"]
        if event == moment:
            break
        if event == "attempt_started" and moment == "running":
            assert process.stdout.readline() == b"ready\n"
            break
    return Run(turnkeeper, process, warden)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_supervisor_leaves_no_process_no_lock_and_no_life_file(turnkeeper: Turnkeeper, moment: str) -> None:
    run = start(turnkeeper, moment)
    run.kill()
    until(run.is_gone, f"all is gone, killed at {moment}")
    assert not turnkeeper.report_file.exists()
    run.remove_draft()


@pytest.mark.parametrize("shape", ["daemons", "sessions", "leader_obeys", "stopped"])
def test_so_it_is_for_trees_that_are_hard_to_stop(turnkeeper: Turnkeeper, shape: str) -> None:
    run = start(turnkeeper, "running", shape)
    run.kill()
    until(run.is_gone, f"all is gone of {shape}")
    run.remove_draft()


@pytest.mark.parametrize("moment", ["running", "attempt_stopping"])
def test_a_killed_warden_leaves_a_tree_of_which_nobody_says_that_it_is_gone(
    turnkeeper: Turnkeeper, moment: str
) -> None:
    run = start(turnkeeper, moment)
    os.kill(run.warden, signal.SIGKILL)
    assert run.end().status == 70
    assert turnkeeper.report["status"] == Status.QUARANTINED
    assert_unknown(run)


def assert_unknown(run: Run) -> None:
    busy = run.judge()
    assert busy is not None
    assert (busy.pid, busy.alive) == (run.warden, None)
    assert "what it started may still run" in busy.advice
    assert len(run.turnkeeper.processes()) == 6
    assert len(os.listdir(run.turnkeeper.alive)) == 1
    run.clean_up()


def test_both_killed_leave_it_unknown(turnkeeper: Turnkeeper) -> None:
    run = start(turnkeeper, "running")
    run.stop()
    os.kill(run.warden, signal.SIGKILL)
    run.kill()
    until(lambda: len(turnkeeper.processes()) == 6, "the warden is dead")
    assert_unknown(run)


def test_a_stopped_supervisor_keeps_what_it_has_and_goes_on(turnkeeper: Turnkeeper) -> None:
    run = start(turnkeeper, "running")
    run.stop()
    busy = run.judge()
    assert busy is not None
    assert (busy.pid, busy.alive) == (run.warden, True)
    assert len(turnkeeper.processes()) == 8
    run.process.send_signal(signal.SIGCONT)
    assert run.end().status == 124
    assert run.is_gone()


def test_a_stopped_warden_is_not_proved_gone_and_ends_its_tree_when_it_goes_on(turnkeeper: Turnkeeper) -> None:
    run = start(turnkeeper, "attempt_stopping")
    os.kill(run.warden, signal.SIGSTOP)
    assert run.end().status == 70
    assert "then not proved dead" in turnkeeper.report["attempts"][0]["failure"]["message"]
    busy = run.judge()
    assert busy is not None
    assert (busy.pid, busy.alive) == (run.warden, True)
    os.kill(run.warden, signal.SIGCONT)
    until(run.is_gone, "the warden found its supervisor dead")


def test_a_supervisor_killed_over_a_stopped_warden_keeps_the_lock_until_that_goes_on(turnkeeper: Turnkeeper) -> None:
    run = start(turnkeeper, "running")
    os.kill(run.warden, signal.SIGSTOP)
    run.kill()
    busy = run.judge()
    assert busy is not None
    assert busy.alive is True
    os.kill(run.warden, signal.SIGCONT)
    until(run.is_gone, "the warden found its supervisor dead")
    run.remove_draft()


def test_the_next_run_waits_for_the_tree_of_a_killed_one(turnkeeper: Turnkeeper) -> None:
    run = start(turnkeeper, "running")
    os.kill(run.warden, signal.SIGSTOP)
    run.kill()
    run.remove_draft()
    next_one = turnkeeper.start(["cat", "reports.jsonl.lock"], "--lock", "reports.jsonl", *IN_MEMORY, "--log", "json")
    assert next_one.stderr is not None
    assert json.loads(next_one.stderr.readline())["event"] == "lock_waiting"
    os.kill(run.warden, signal.SIGCONT)
    ended = turnkeeper.end(next_one)
    assert ended.status == 0
    assert json.loads(ended.stdout)["pid"] != run.warden
    assert turnkeeper.processes() == []
