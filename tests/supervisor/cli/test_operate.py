"""What an operator does to sessions, across processes: stop, pause, resume, reset. Each end is a proof."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.cli.running import SESSION, Turnkeeper, sh
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]

SLEEPS = "trap 'echo told > told; exit 5' TERM; sh -c 'echo > runs; exec sleep 60' & wait"
STUBBORN = "trap '' TERM; sleep 60 & echo > runs; while :; do sleep 60; done"
SHORT_GRACE = 'attempt.grace = "200ms"'


class Hosts:
    """Programs that use the library, on the state of the commands."""

    def __init__(self, turnkeeper: Turnkeeper) -> None:
        self._turnkeeper = turnkeeper
        self.started: list[subprocess.Popen[bytes]] = []

    def work(self, session: str, *how: str) -> "subprocess.Popen[bytes]":
        """Start one whose work is in its own process, and see it begin."""
        host = Path(__file__).with_name("working_host.py")
        state = self._turnkeeper.folder / "state" / "turnkeeper" / "state.db"
        process = subprocess.Popen(
            [sys.executable, host, state, session, *how], env=self._turnkeeper.env, stdout=subprocess.PIPE
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        return process


@pytest.fixture
def hosts(turnkeeper: Turnkeeper) -> Iterator[Hosts]:
    hosts = Hosts(turnkeeper)
    yield hosts
    for process in hosts.started:
        process.kill()
        process.communicate()


def started(turnkeeper: Turnkeeper, script: str, *options: str, session: str = SESSION) -> "subprocess.Popen[bytes]":
    process = turnkeeper.start(sh(script), *options, session=session)
    turnkeeper.wait_for("runs")
    (turnkeeper.folder / "runs").unlink()
    return process


def told(turnkeeper: Turnkeeper, *arguments: str, status: int = 0) -> Any:
    """Run a command with --json; return what it printed."""
    ended = turnkeeper.run_as_it_is(*arguments, "--json")
    assert ended.status == status, ended
    return json.loads(ended.stdout)


# --- stop


def test_stop_ends_a_command_of_another_process_and_shows_the_proof(turnkeeper: Turnkeeper) -> None:
    process = started(turnkeeper, SLEEPS)
    [run] = told(turnkeeper, "stop", SESSION)
    assert (run["status"], run["reason"]) == ("cancelled", "stopped")
    assert run["attempts"][0]["released"]["receipt"] == "gone"
    assert (turnkeeper.folder / "told").read_text() == "told\n"
    assert turnkeeper.end(process).status == 128 + signal.SIGTERM
    assert turnkeeper.report["reason"] == "stopped"
    assert turnkeeper.processes() == []


def test_stop_ends_work_that_is_in_another_process_and_that_process_lives_on(
    turnkeeper: Turnkeeper, hosts: Hosts
) -> None:
    host = hosts.work(SESSION)
    [run] = told(turnkeeper, "stop", SESSION)
    assert (run["status"], run["reason"]) == ("cancelled", "stopped")
    assert host.communicate(timeout=20)[0] == b"cancelled stopped\n"
    assert host.returncode == 0


def test_stop_says_for_a_person_what_is_left(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(SHORT_GRACE)
    process = started(turnkeeper, STUBBORN)
    ended = turnkeeper.run_as_it_is("stop", SESSION)
    assert ended.status == 0
    lines = ended.stdout.decode().splitlines()
    assert lines[0].endswith(f"of session '{SESSION}' is over: cancelled (stopped)")
    assert lines[1].startswith("  left     nothing: proved, ")
    assert turnkeeper.end(process).status == 143


def test_stop_ends_those_who_wait_too_and_nobody_elses(turnkeeper: Turnkeeper) -> None:
    running = started(turnkeeper, SLEEPS)
    waiting = turnkeeper.start(sh("echo never > never"), "--report", "waiting.json")
    other = started(turnkeeper, SLEEPS, "--report", "other.json", session="other")
    until(lambda: len(told(turnkeeper, "runs", "--session", SESSION)) == 2, "the second run waits")
    assert {run["reason"] for run in told(turnkeeper, "stop", SESSION)} == {"stopped"}
    assert turnkeeper.end(running).status == turnkeeper.end(waiting).status == 143
    assert not (turnkeeper.folder / "never").exists()
    assert other.poll() is None
    told(turnkeeper, "stop", "other")
    turnkeeper.end(other)


def test_stop_where_nothing_is_under_way_says_so(turnkeeper: Turnkeeper) -> None:
    assert turnkeeper.run_as_it_is("stop", SESSION).stdout == (
        b"nothing is known of session 'agent:main:reports': there is no state yet\n"
    )
    assert not (turnkeeper.folder / "state").exists(), "it has made nothing"
    turnkeeper.run(["true"])
    assert turnkeeper.run_as_it_is("stop", SESSION).stdout == (
        b"nothing of session 'agent:main:reports' is under way\n"
    )
    assert told(turnkeeper, "stop", SESSION) == []


def test_stop_ends_what_a_killed_process_had_under_way(turnkeeper: Turnkeeper, hosts: Hosts) -> None:
    host = hosts.work(SESSION)
    host.kill()
    host.wait()
    assert turnkeeper.run_as_it_is("status", "--healthy").status == 1
    [run] = told(turnkeeper, "stop", SESSION)
    assert (run["status"], run["reason"]) == ("cancelled", "stopped")
    assert run["attempts"][0]["released"]["steps"] == ["its process is dead"]
    assert turnkeeper.run_as_it_is("status", "--healthy").status == 0


def test_stop_takes_the_command_of_a_process_that_stands_still_by_its_wardens_proof(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(SHORT_GRACE)
    process = started(turnkeeper, "sh -c 'echo > runs; exec sleep 60' & wait")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        [run] = told(turnkeeper, "stop", SESSION)
        assert (run["status"], run["reason"]) == ("cancelled", "stopped")
        assert run["attempts"][0]["released"]["steps"] == [
            "its supervisor did not answer when it was told to stop",
            "its warden says that the tree is gone",
        ]
        assert [int(line.split()[0]) for line in turnkeeper.processes()] == [process.pid]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    turnkeeper.end(process)
    assert turnkeeper.report["reason"] == "lost", "when it woke, its attempt was not its own any more"


def test_who_wakes_after_its_command_has_succeeded_ends_as_lost_and_says_so(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules(SHORT_GRACE)
    process = started(turnkeeper, "echo > runs; until [ -e go ]; do sleep 0.05; done")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        (turnkeeper.folder / "go").touch()
        [run] = told(turnkeeper, "stop", SESSION)
        assert (run["status"], run["attempts"][0]["failure"]) == ("succeeded", None)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    ended = turnkeeper.end(process)
    assert "Traceback" not in ended.stderr
    assert "and its session was taken from it" in ended.stderr
    assert (ended.status, turnkeeper.report["reason"]) == (70, "lost")


def test_stop_ends_with_70_where_work_is_in_a_process_that_stands_still(turnkeeper: Turnkeeper, hosts: Hosts) -> None:
    turnkeeper.rules(SHORT_GRACE)
    host = hosts.work(SESSION)
    os.kill(host.pid, signal.SIGSTOP)
    try:
        ended = turnkeeper.run_as_it_is("stop", SESSION)
        assert ended.status == 70
        assert f"goes on: process {host.pid} lives and does not answer" in ended.stdout.decode()
    finally:
        os.kill(host.pid, signal.SIGCONT)
    assert host.communicate(timeout=20)[0] == b"cancelled stopped\n", "it heard of it when it woke"


def quarantined(turnkeeper: Turnkeeper) -> int:
    """Have a run end whose warden is killed, and its tree lives on; return the pid of what lives."""
    script = "(trap '' TERM; echo $PPID $$ > runs; exec sleep 61) & wait"
    process = turnkeeper.start(sh(script), "--lock", "reports.jsonl")
    warden, alive = map(int, turnkeeper.wait_for("runs").split())
    os.kill(warden, signal.SIGKILL)
    assert turnkeeper.end(process).status == 70
    return alive


@pytest.mark.parametrize("command", [("stop", SESSION), ("pause", SESSION, "--now"), ("pause", "--all", "--now")])
def test_over_what_may_still_live_nobody_says_that_all_is_quiet(
    turnkeeper: Turnkeeper, command: tuple[str, ...]
) -> None:
    quarantined(turnkeeper)
    try:
        [run] = told(turnkeeper, *command, status=70)
        if command[0] == "pause":
            [run] = run["stopped"]
        assert (run["run_id"], run["status"]) == (turnkeeper.report["run_id"], "quarantined")
        [alive] = run["attempts"][0]["released"]["alive"]
        ended = turnkeeper.run_as_it_is(*command)
        assert ended.status == 70
        said = ended.stdout.decode()
        assert alive in said
        assert "nothing of" not in said
        refused = turnkeeper.run(["true"], "--report", "refused.json")
        assert refused.status == 75
        way_out = f"look for it, end it, and then `turnkeeper reset {SESSION}`"
        assert command[0] == "pause" or way_out in refused.stderr
        for look in (("status",), ("show", turnkeeper.report["run_id"])):
            assert way_out in turnkeeper.run_as_it_is(*look).stdout.decode()
        reset = turnkeeper.run_as_it_is("reset", SESSION)
        assert (reset.status, alive in reset.stdout.decode()) == (0, True)
        assert f"its lock file stays: {turnkeeper.folder / 'reports.jsonl.lock'}; remove it" in reset.stdout.decode()
        assert turnkeeper.run_as_it_is("stop", SESSION).status == 0
    finally:
        turnkeeper.kill_what_is_left()
        _forget_life_files(turnkeeper)


def test_stop_says_so_each_time_until_work_that_ignores_its_cancellation_is_dead(
    turnkeeper: Turnkeeper, hosts: Hosts
) -> None:
    host = hosts.work(SESSION, "deaf")
    for _ in range(2):
        [run] = told(turnkeeper, "stop", SESSION, status=70)
        assert (run["status"], run["attempts"][0]["released"]["receipt"]) == ("quarantined", "unknown")
    host.kill()
    host.wait()
    assert told(turnkeeper, "stop", SESSION) == []
    assert turnkeeper.run(["true"]).status == 0


@pytest.mark.parametrize("command", [("stop", SESSION), ("pause", SESSION, "--now"), ("pause", "--all", "--now")])
def test_interrupted_while_it_waits_it_says_that_the_runs_go_on_being_stopped(
    turnkeeper: Turnkeeper, command: tuple[str, ...]
) -> None:
    process = started(
        turnkeeper, "trap 'echo > told; until [ -e go ]; do sleep 0.05; done' TERM; echo > runs; sleep 60"
    )
    argv = [sys.executable, "-m", "supervisor.cli.main", *command]
    operator = subprocess.Popen(argv, cwd=turnkeeper.folder, env=turnkeeper.env, stderr=subprocess.PIPE)
    turnkeeper.wait_for("told")
    operator.send_signal(signal.SIGINT)
    _, said = operator.communicate(timeout=20)
    assert operator.returncode == 130
    whose = "all runs" if "--all" in command else f"the runs of session '{SESSION}'"
    assert said.decode() == (
        f"turnkeeper: {whose} were told to end, and go on being stopped without this command: "
        "`turnkeeper status` shows them\n"
    )
    (turnkeeper.folder / "go").touch()
    assert turnkeeper.end(process).status == (143 if command[0] == "stop" else 75)


def _forget_life_files(turnkeeper: Turnkeeper) -> None:
    for life in turnkeeper.alive.iterdir():  # of a killed warden: a sweep takes it after an hour
        life.unlink()


# --- pause and resume


def test_what_is_paused_is_refused_with_75_until_it_is_resumed(turnkeeper: Turnkeeper) -> None:
    assert told(turnkeeper, "resume", SESSION) == [], "there is no state yet"
    for was_paused in (False, True):
        [paused] = told(turnkeeper, "pause", SESSION)
        assert paused == {"session": SESSION, "was_paused": was_paused, "stopped": []}
    assert turnkeeper.run(["true"]).status == 75
    assert (turnkeeper.report["status"], turnkeeper.report["reason"]) == ("refused", "paused")
    assert turnkeeper.run(["true"], session="other").status == 0
    for was_paused in (True, False):
        resumed = {"session": SESSION, "was_paused": was_paused, "still_paused": []}
        assert told(turnkeeper, "resume", SESSION) == [resumed]
    assert turnkeeper.run(["true"]).status == 0


def test_a_pause_of_all_is_one_of_its_own(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run_as_it_is("pause", "--all")
    turnkeeper.run_as_it_is("pause", SESSION)
    assert turnkeeper.run(["true"], session="never seen before").status == 75
    assert told(turnkeeper, "resume", "--all") == [{"session": None, "was_paused": True, "still_paused": [SESSION]}]
    assert turnkeeper.run(["true"], session="never seen before").status == 0
    assert turnkeeper.run(["true"]).status == 75


def test_who_waits_in_line_is_refused_at_once_by_a_pause(turnkeeper: Turnkeeper) -> None:
    running = started(turnkeeper, "echo > runs; until [ -e go ]; do sleep 0.05; done")
    waiting = turnkeeper.start(["true"], "--report", "waiting.json")
    until(lambda: len(told(turnkeeper, "runs")) == 2, "the second run waits")
    told(turnkeeper, "pause", SESSION)
    assert turnkeeper.end(waiting).status == 75
    (turnkeeper.folder / "go").touch()
    assert turnkeeper.end(running).status == 0


def test_what_runs_is_finished_in_a_pause(turnkeeper: Turnkeeper) -> None:
    process = started(turnkeeper, "echo > runs; until [ -e go ]; do sleep 0.05; done")
    [paused] = told(turnkeeper, "pause", SESSION)
    assert paused["stopped"] == []
    (turnkeeper.folder / "go").touch()
    assert turnkeeper.end(process).status == 0


def test_pause_now_stops_what_runs_and_proves_it_uncharged(turnkeeper: Turnkeeper) -> None:
    process = started(turnkeeper, SLEEPS)
    [paused] = told(turnkeeper, "pause", "--all", "--now")
    assert paused["session"] is None
    [run] = paused["stopped"]
    assert (run["status"], run["reason"]) == ("cancelled", "paused")
    assert run["attempts"][0]["released"]["receipt"] == "gone"
    assert run["attempts"][0]["why"]["session_spent"] == [0.0, 0.0]
    assert turnkeeper.end(process).status == 75
    assert turnkeeper.processes() == []


def test_a_pause_is_of_one_session_or_of_all(turnkeeper: Turnkeeper) -> None:
    for arguments in (("pause",), ("pause", SESSION, "--all"), ("resume",), ("stop", "a\nb"), ("reset", "")):
        assert turnkeeper.run_as_it_is(*arguments).status == 64


# --- reset


def test_reset_forgets_breaker_and_tokens_and_says_what_they_were(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 2", "breaker.failures = 2", 'backoff.base = "0s"')
    turnkeeper.run(sh("exit 3"))
    assert turnkeeper.run(["true"]).status == 75
    [was] = told(turnkeeper, "reset", SESSION)
    assert (was["session"], was["breaker"]) == (SESSION, {"state": "open", "opened_in_a_row": 1})
    assert (was["alive"], 0.9 < was["tokens_spent"] <= 1.0) == ([], True)
    assert turnkeeper.run(["true"]).status == 0


def test_of_a_session_that_is_not_known_they_say_so(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"])
    for command in ("stop", "reset"):
        assert turnkeeper.run_as_it_is(command, "x") == (0, b"nothing is known of session 'x'\n", "")
        assert told(turnkeeper, command, "x") == []


def test_settings_that_cannot_be_used_keep_no_operator_from_a_state_that_is_named(turnkeeper: Turnkeeper) -> None:
    turnkeeper.run(["true"], "--state", "state.db")
    turnkeeper.rules("budget.attempts = 0")
    commands = [("pause", SESSION), ("resume", SESSION), ("stop", SESSION), ("reset", SESSION), ("status",), ("runs",)]
    for command in [*commands, ("show", turnkeeper.report["run_id"])]:
        ended = turnkeeper.run_as_it_is(*command, "--state", "state.db")
        assert ended.status == 0, ended
        assert "settings.toml" in ended.stderr
        assert "budget.attempts" in ended.stderr
        assert "the defaults are used" in ended.stderr
        assert turnkeeper.run_as_it_is(*command).status == 78
    assert turnkeeper.run(["true"], "--state", "state.db").status == 78


def test_none_of_them_can_do_anything_about_a_state_in_memory(turnkeeper: Turnkeeper) -> None:
    for command in (("status",), ("runs",), ("stop", "a"), ("pause", "a")):
        ended = turnkeeper.run_as_it_is(*command, "--state", "memory")
        assert ended.status == 64
        assert "such a state is seen by no other process" in ended.stderr
