"""`turnkeeper locks`, over the lock files of real processes that live, were killed, or are removing them too."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.cli.running import LONGEST_S, REPOSITORY, Ended, Turnkeeper, sh
from tests.supervisor.lock.lock_files import NEVER_STARTED, write_foreign, write_ours
from tests.supervisor.tree.trees import until

pytestmark = pytest.mark.processes

CHILD = REPOSITORY / "tests" / "chaos" / "lock_child.py"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of lock_child.py that has its lock by then; all of them are killed at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(CHILD), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(turnkeeper: Turnkeeper) -> Path:
    folder = turnkeeper.folder / "sessions"
    folder.mkdir()
    return folder


def listed(ended: Ended) -> dict[str, dict[str, Any]]:
    """Return what a listing in JSON says of each file, by its name."""
    return {os.path.basename(lock["path"]): lock for lock in json.loads(ended.stdout)}


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def test_the_living_are_left_and_the_killed_one_s_lock_is_reclaimed(
    turnkeeper: Turnkeeper, start: Start, folder: Path
) -> None:
    living, killed = start("hold", folder / "a.jsonl"), start("hold", folder / "b.jsonl")
    kill(killed)
    ended = turnkeeper.run_as_it_is("locks", "sessions", "--json")
    assert (ended.status, ended.stderr) == (0, "")
    assert {name: (lock["state"], lock["pid"]) for name, lock in listed(ended).items()} == {
        "a.jsonl.lock": ("alive", living.pid),
        "b.jsonl.lock": ("dead", killed.pid),
    }
    ended = turnkeeper.run_as_it_is("locks", "sessions", "--json", "--reclaim")
    found = listed(ended)
    assert ended.status == 0
    assert (found["b.jsonl.lock"]["removed"], found["b.jsonl.lock"]["advice"]) == (True, "")
    assert found["b.jsonl.lock"]["proof"] == "the kernel let go of its flock"
    assert not found["a.jsonl.lock"]["removed"]
    assert os.listdir(folder) == ["a.jsonl.lock"]
    assert living.communicate(b"\n")[0].startswith(b'{"said": "lock ')  # it was its own to the end


def test_openclaw_s_are_judged_by_their_process(turnkeeper: Turnkeeper, start: Start, folder: Path) -> None:
    living, killed = (start("hold_foreign", folder / name) for name in ("a.jsonl", "b.jsonl"))
    kill(killed)
    ended = turnkeeper.run_as_it_is("locks", "sessions", "--json", "--reclaim", "--pids", "unknown")
    assert {lock["state"] for lock in listed(ended).values()} == {"unknown"}
    ended = turnkeeper.run_as_it_is("locks", "sessions", "--json", "--reclaim", "--pids", "ours")
    found = {name: (lock["state"], lock["pid"], lock["removed"]) for name, lock in listed(ended).items()}
    assert found == {
        "a.jsonl.lock": ("alive", living.pid, False),
        "b.jsonl.lock": ("dead", killed.pid, True),
    }
    assert os.listdir(folder) == ["a.jsonl.lock"]


def test_a_run_s_lock_is_its_warden_s_and_stays_unknown_when_that_is_killed(
    turnkeeper: Turnkeeper, folder: Path
) -> None:
    process = turnkeeper.start(sh("echo $$ > runs; exec sleep 60"), "--lock", "sessions/a.jsonl")
    command = int(turnkeeper.wait_for("runs"))
    [lock] = listed(turnkeeper.run_as_it_is("locks", "sessions", "--json", "--reclaim")).values()
    assert (lock["state"], lock["owner"], lock["removed"]) == ("alive", "warden", False)
    process.send_signal(signal.SIGSTOP)  # it would see the end of its warden, and say so
    os.kill(lock["pid"], signal.SIGKILL)
    until(lambda: _state(turnkeeper) == "unknown", "the warden is gone")
    assert turnkeeper.run_as_it_is("locks", "sessions", "--reclaim").status == 0
    assert os.listdir(folder) == ["a.jsonl.lock"]
    os.kill(command, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    assert turnkeeper.end(process).status == 70
    for life in turnkeeper.alive.iterdir():
        life.unlink()


def _state(turnkeeper: Turnkeeper) -> str:
    [lock] = listed(turnkeeper.run_as_it_is("locks", "sessions", "--json")).values()
    return str(lock["state"])


@pytest.mark.parametrize("write", [write_ours, lambda path: write_foreign(path, 4_000_000, NEVER_STARTED)])
def test_of_two_that_reclaim_at_once_each_file_is_removed_by_one(
    turnkeeper: Turnkeeper, folder: Path, write: Callable[[Path], Path]
) -> None:
    names = {write(folder / f"{number}").name for number in range(150)}
    argv = [sys.executable, "-m", "supervisor.cli.main", "locks", "sessions", "--json", "--reclaim", "--pids", "ours"]
    both = [subprocess.Popen(argv, cwd=turnkeeper.folder, env=turnkeeper.env, stdout=subprocess.PIPE) for _ in range(2)]
    removed: list[str] = []
    for process in both:
        stdout, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0
        removed += [name for name, lock in listed(Ended(0, stdout, "")).items() if lock["removed"]]
    assert sorted(removed) == sorted(names)
    assert os.listdir(folder) == []


def test_a_table_says_what_was_removed_and_what_was_left_and_why(turnkeeper: Turnkeeper, folder: Path) -> None:
    write_ours(folder / "dead", pid=7)
    write_ours(folder / "warden", pid=8, owner="warden")
    (folder / "poetry.lock").write_text("[[package]]")
    ended = turnkeeper.run_as_it_is("locks", "sessions")
    assert ended.stderr.startswith("turnkeeper: 3 lock files: 1 of the dead, 1 that are no lock")
    assert "--reclaim removes those of the dead" in ended.stderr
    ended = turnkeeper.run_as_it_is("locks", "sessions", "--reclaim")
    assert ended.status == 0
    heading, dead, poetry, warden = ended.stdout.decode().splitlines()
    assert heading.split() == ["LOCK", "HOLDER", "STATE", "AGE", "WHY"]
    assert dead.startswith(f"{folder}/dead.lock")
    assert "Turnkeeper's process 7" in dead
    assert "dead, removed" in dead
    assert dead.endswith("the kernel let go of its flock")
    assert "it is not JSON" in poetry
    assert "what it started may still run" in warden
    assert ended.stderr.startswith("turnkeeper: 3 lock files: 1 removed, 1 that are no lock")
    assert set(os.listdir(folder)) == {"warden.lock", "poetry.lock"}


def test_where_there_is_no_lock_an_empty_array_is_printed(turnkeeper: Turnkeeper, folder: Path) -> None:
    assert turnkeeper.run_as_it_is("locks", "sessions", "--json", "--reclaim") == (0, b"[]\n", "")
    ended = turnkeeper.run_as_it_is("locks", "sessions")
    assert ended == (0, b"", "turnkeeper: no lock file below sessions\n")


@pytest.mark.parametrize(
    ("name", "why"), [("missing", "No such file or directory"), ("settings.toml", "Not a directory")]
)
def test_a_folder_that_cannot_be_read_is_66(turnkeeper: Turnkeeper, name: str, why: str) -> None:
    turnkeeper.rules()
    ended = turnkeeper.run_as_it_is("locks", name, "--json")
    assert ended == (66, b"", f"turnkeeper: {name} cannot be read: {why}\n")


def test_no_folder_is_64_and_not_the_current_one(turnkeeper: Turnkeeper) -> None:
    dead = write_ours(turnkeeper.folder / "dead")
    assert turnkeeper.run_as_it_is("locks", "", "--reclaim").status == 64
    assert turnkeeper.run_as_it_is("locks", "--reclaim").status == 64
    assert turnkeeper.run_as_it_is("locks", ".", "--pids", "mine").status == 64
    assert dead.exists()


def test_a_name_cannot_make_a_terminal_do_anything(turnkeeper: Turnkeeper, folder: Path) -> None:
    for name in ("a\x1b]0;title\x07\n\x9b2J\u202e", b"\xff\xfe".decode(errors="surrogateescape")):
        write_ours(folder / name)
    for options in ((), ("--json",), ("--reclaim",)):
        ended = turnkeeper.run_as_it_is("locks", "sessions", *options)
        text = ended.stdout.decode("ascii") + ended.stderr
        assert text.replace("\n", "").isprintable()
    assert os.listdir(folder) == []


def test_without_a_table_nothing_of_rich_is_loaded(turnkeeper: Turnkeeper, folder: Path) -> None:
    script = (
        "import sys, supervisor; from supervisor.cli.main import main; main(['locks', 'sessions', '--json']);"
        "sys.exit('rich' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=turnkeeper.folder,
        env=turnkeeper.env,
        capture_output=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, b"[]\n")
