"""What may befall the owner of a session: stopped, killed, with its warden or without, in containers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.namespaces import CONTAINER
from tests.chaos.state_files import rows, state_of
from tests.supervisor.cli.running import SESSION, Ended, Turnkeeper, log_of, sh
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

SHAPES = str(Path(__file__).with_name("tree_shapes.py"))
HARD = [sys.executable, "-I", "-S", SHAPES, "ignorers", "5"]
LEASE_S = 2


@pytest.fixture
def turnkeeper(tmp_path: Path) -> Iterator[Turnkeeper]:
    turnkeeper = Turnkeeper(tmp_path)
    turnkeeper.rules("budget.attempts = 1", 'attempt.grace = "500ms"', failures=f'[state]\nlease = "{LEASE_S}s"')
    yield turnkeeper
    turnkeeper.assert_nothing_is_left()


def start(turnkeeper: Turnkeeper, command: list[str], *options: str) -> "subprocess.Popen[bytes]":
    """Start a run, and return when its command has said a line."""
    process = turnkeeper.start(command, *options)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def freeze(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def attempts(turnkeeper: Turnkeeper) -> list[tuple[object, ...]]:
    return rows(state_of(turnkeeper), "SELECT outcome, kind FROM attempts ORDER BY fence")


def warden_of(turnkeeper: Turnkeeper) -> int:
    [[pid]] = rows(state_of(turnkeeper), "SELECT tree_pid FROM attempts WHERE outcome IS NULL")
    assert isinstance(pid, int)
    return pid


def no_draft(turnkeeper: Turnkeeper) -> None:
    """A report that a killed one has not finished: it is in nobody's way."""
    for draft in turnkeeper.folder.glob(".turnkeeper-report.*"):
        draft.unlink()


# --- stopped


def test_a_stopped_owner_keeps_its_session_until_its_lease_is_over(turnkeeper: Turnkeeper) -> None:
    owner = start(turnkeeper, HARD)
    freeze(owner)
    tree = set(turnkeeper.processes())
    next_one = turnkeeper.run(sh("echo runs"), "--report", "next.json", "--log", "json")
    assert (next_one.status, next_one.stdout) == (0, b"runs\n")
    report = json.loads((turnkeeper.folder / "next.json").read_text())
    assert report["attempts"][0]["outcome"] == "succeeded"
    assert len(set(turnkeeper.processes()) & tree) == 1, "of its tree nothing lives: the owner alone is left"
    assert attempts(turnkeeper) == [("failed", "lost"), ("succeeded", None)]
    owner.send_signal(signal.SIGCONT)
    assert_says_that_it_lost(turnkeeper, turnkeeper.end(owner))
    assert attempts(turnkeeper) == [("failed", "lost"), ("succeeded", None)]


def assert_says_that_it_lost(turnkeeper: Turnkeeper, ended: Ended) -> None:
    assert "Traceback" not in ended.stderr
    assert ended.status == 70, ended
    assert (turnkeeper.report["status"], turnkeeper.report["reason"]) == ("failed", "lost")
    assert "lost" in ended.stderr


def test_one_whose_command_had_succeeded_meanwhile_has_lost_its_session_too(turnkeeper: Turnkeeper) -> None:
    """What it came to stands, as the next one has found it: the command has succeeded."""
    owner = start(turnkeeper, sh("echo; exec sleep 0.5"))
    freeze(owner)
    until(lambda: len(turnkeeper.processes()) == 2, "the command has ended: the owner and its warden are left")
    assert turnkeeper.run(["true"], "--report", "next.json").status == 0
    assert attempts(turnkeeper) == [("succeeded", None), ("succeeded", None)]
    owner.send_signal(signal.SIGCONT)
    ended = turnkeeper.end(owner)
    assert "Traceback" not in ended.stderr
    assert turnkeeper.report["reason"] == "lost"
    assert ended.status == 70


def test_a_stopped_owner_that_goes_on_within_its_lease_has_lost_nothing(turnkeeper: Turnkeeper) -> None:
    owner = start(turnkeeper, sh("echo; exec sleep 1.5"))
    freeze(owner)
    next_one = turnkeeper.start(["true"], "--report", "next.json")
    until(lambda: rows(state_of(turnkeeper), "SELECT 1 FROM places") != [], "the next one stands in line")
    owner.send_signal(signal.SIGCONT)
    assert turnkeeper.end(owner).status == 0
    assert turnkeeper.end(next_one).status == 0
    assert attempts(turnkeeper) == [("succeeded", None), ("succeeded", None)]


# --- killed


def test_a_killed_owners_command_that_had_succeeded_is_not_called_lost(turnkeeper: Turnkeeper) -> None:
    owner = start(turnkeeper, sh("echo; exec sleep 0.3"))
    freeze(owner)
    until(lambda: len(turnkeeper.processes()) == 2, "the command has ended: the owner and its warden are left")
    kill(owner)
    no_draft(turnkeeper)
    assert turnkeeper.run(["true"]).status == 0
    assert attempts(turnkeeper) == [("succeeded", None), ("succeeded", None)]
    [[status, reason]] = rows(state_of(turnkeeper), "SELECT status, reason FROM runs WHERE seq = 1")
    assert (status, reason) == ("succeeded", None)


def test_eight_recoverers_at_once_write_one_lost_row(turnkeeper: Turnkeeper) -> None:
    """They are there before its tree ends, for its warden stands still: all of them see that end in one moment."""
    owner = start(turnkeeper, HARD)
    warden = warden_of(turnkeeper)
    os.kill(warden, signal.SIGSTOP)
    kill(owner)
    no_draft(turnkeeper)
    others = [
        turnkeeper.start(
            sh(f"echo >runs.{number}; exec sleep 2"),
            "--report",
            f"{number}.json",
            "--log",
            "json",
            session=f"s{number}",
        )
        for number in range(8)
    ]
    until(lambda: len(list(turnkeeper.folder.glob("runs.*"))) == 8, "all of them run", 60.0)
    os.kill(warden, signal.SIGCONT)
    ended = [turnkeeper.end(process) for process in others]
    assert [each.status for each in ended] == [0] * 8
    assert sorted(attempts(turnkeeper)) == [("failed", "lost"), *[("succeeded", None)] * 8]
    told = [line for each in ended for line in log_of(each) if line["event"] == "attempt_lost"]
    assert len(told) == 1
    [[breaker]] = rows(state_of(turnkeeper), f"SELECT breaker FROM sessions WHERE session = '{SESSION}'")
    assert json.loads(str(breaker))[2] == 1, "it is counted once"


def test_a_warden_killed_with_its_owner_leaves_a_quarantine(turnkeeper: Turnkeeper) -> None:
    owner = start(turnkeeper, HARD)
    warden = warden_of(turnkeeper)
    freeze(owner)
    os.kill(warden, signal.SIGKILL)
    kill(owner)
    no_draft(turnkeeper)
    for _ in range(2):
        ended = turnkeeper.run(["true"], "--log", "json")
        assert ended.status == 75
        assert turnkeeper.report["reason"] == "quarantined"
    assert attempts(turnkeeper) == [("unconfirmed", "unconfirmed")]
    assert turnkeeper.run(["true"], session="another").status == 0
    turnkeeper.kill_what_is_left()
    assert len(os.listdir(turnkeeper.alive)) == 1
    for life in turnkeeper.alive.iterdir():
        life.unlink()


# --- containers


def in_container(turnkeeper: Turnkeeper) -> str:
    """Return the line of shell that runs it in a container: as its init, which is killed with its unshare."""
    unshare = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), *CONTAINER]
    tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"may not make namespaces: {' '.join(unshare)}")
    return f'exec {" ".join(unshare)} "$@"'


def stop_warden_in_container(turnkeeper: Turnkeeper) -> None:
    """Of its init's end a warden may hear, and prove its tree gone, in the instant before it is killed itself."""
    inside = str(warden_of(turnkeeper))
    for line in turnkeeper.processes():
        outside = line.split()[0]
        [numbers] = re.findall(r"^NSpid:(.*)$", Path(f"/proc/{outside}/status").read_text(), re.MULTILINE)
        if len(numbers.split()) > 1 and numbers.split()[-1] == inside:
            os.kill(int(outside), signal.SIGSTOP)
            return
    raise AssertionError(f"no warden with pid {inside} in its container")


def test_a_container_that_starts_again_finds_its_sessions_free(turnkeeper: Turnkeeper) -> None:
    """All of it was killed at once, the warden too: that its init is another one is the proof."""
    through = in_container(turnkeeper)
    first = turnkeeper.start(HARD, through=through)
    assert first.stdout is not None
    assert first.stdout.readline() == b"ready\n"
    kill(first)
    until(lambda: not turnkeeper.processes(), "the container has ended")
    no_draft(turnkeeper)
    again = turnkeeper.run(sh("echo again"), through=through)
    assert (again.status, again.stdout) == (0, b"again\n"), again
    assert attempts(turnkeeper) == [("failed", "lost"), ("succeeded", None)]


def test_the_host_cannot_prove_the_end_of_a_containers_tree(turnkeeper: Turnkeeper) -> None:
    through = in_container(turnkeeper)
    first = turnkeeper.start(HARD, through=through)
    assert first.stdout is not None
    assert first.stdout.readline() == b"ready\n"
    stop_warden_in_container(turnkeeper)
    kill(first)
    until(lambda: not turnkeeper.processes(), "the container has ended")
    no_draft(turnkeeper)
    assert turnkeeper.run(["true"]).status == 75
    assert turnkeeper.report["reason"] == "quarantined"
    again = turnkeeper.run(sh("echo again"), through=through)
    assert (again.status, again.stdout) == (0, b"again\n"), again


def test_a_reboot_frees_all(turnkeeper: Turnkeeper) -> None:
    """As after one: what was written is of another boot."""
    owner = start(turnkeeper, HARD)
    freeze(owner)
    os.kill(warden_of(turnkeeper), signal.SIGKILL)
    kill(owner)
    no_draft(turnkeeper)
    turnkeeper.kill_what_is_left()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for life in turnkeeper.alive.iterdir():
        content = life.read_bytes()
        assert boot.encode() in content
        life.write_bytes(content.replace(boot.encode(), boot[::-1].encode()))
    assert turnkeeper.run(["true"]).status == 0
    assert attempts(turnkeeper) == [("failed", "lost"), ("succeeded", None)]


def test_a_killed_owner_is_recovered_though_the_folder_of_its_lock_is_gone(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "sessions").mkdir()
    process = start(turnkeeper, sh("echo ready; exec sleep 60"), "--lock", "sessions/reports.jsonl")
    kill(process)
    until(lambda: not turnkeeper.processes(), "its tree is gone")
    (turnkeeper.folder / "sessions").rmdir()
    ended = turnkeeper.run(["true"])
    assert (ended.status, "Traceback" in ended.stderr) == (0, False)
    assert attempts(turnkeeper) == [("failed", "lost"), ("succeeded", None)]
    for draft in turnkeeper.folder.glob(".turnkeeper-report.*"):
        draft.unlink()
