"""What may befall the state: it says what is wrong, nothing is started that it does not know of, nothing is lost."""

import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.lock.life_file import sweep
from tests.chaos.state_files import APPLICATION, files, rows, state_of, stopped_writer
from tests.supervisor.cli.running import Turnkeeper, sh
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(90)]

GO = sh("echo started; exit 0")


@pytest.fixture
def turnkeeper(tmp_path: Path) -> Iterator[Turnkeeper]:
    turnkeeper = Turnkeeper(tmp_path)
    yield turnkeeper
    turnkeeper.assert_nothing_is_left()


@pytest.fixture
def state(turnkeeper: Turnkeeper) -> Path:
    """A state that has been used."""
    assert turnkeeper.run(["true"]).status == 0
    return state_of(turnkeeper)


def assert_unavailable(turnkeeper: Turnkeeper, *said: str, options: tuple[str, ...] = ()) -> None:
    ended = turnkeeper.run(GO, *options)
    assert (ended.status, ended.stdout) == (69, b"")
    for words in said:
        assert words in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "Traceback" not in ended.stderr


def assert_left_as_it_is(turnkeeper: Turnkeeper, state: Path, *said: str) -> None:
    before = files(state)
    assert_unavailable(turnkeeper, *said)
    after = files(state)
    assert {name: after.get(name) for name in before} == before


# --- a file that is not ours to use


def set_version(state: Path, version: int, application: int) -> None:
    with closing(sqlite3.connect(state)) as database:
        database.execute(f"PRAGMA application_id = {application}")
        database.execute(f"PRAGMA user_version = {version}")


def test_the_state_of_a_newer_turnkeeper_is_left_as_it_is(turnkeeper: Turnkeeper, state: Path) -> None:
    set_version(state, 99, APPLICATION)
    assert_left_as_it_is(turnkeeper, state, "newer Turnkeeper", "99", "install that one")


def test_another_programs_database_is_left_as_it_is(turnkeeper: Turnkeeper) -> None:
    state = state_of(turnkeeper)
    state.parent.mkdir(parents=True)
    with closing(sqlite3.connect(state)) as database:
        database.execute("CREATE TABLE theirs(x)")
    assert_left_as_it_is(turnkeeper, state, "another program's database")
    assert state.read_bytes()[18:20] == b"\x01\x01", "it is still in their journal mode"


@pytest.mark.parametrize("damage", ["text", "short", "head", "zeroes"])
def test_a_damaged_state_is_never_overwritten(turnkeeper: Turnkeeper, state: Path, damage: str) -> None:
    whole = state.read_bytes()
    damaged = {
        "text": b"this is not a database, it is a letter to my aunt\n" * 100,
        "short": whole[:5000],
        "head": whole[:100] + b"\xff" * 3996 + whole[4096:],
        "zeroes": whole[:4096] + bytes(len(whole) - 4096),
    }
    state.write_bytes(damaged[damage])
    assert_left_as_it_is(turnkeeper, state, str(state), "left as it is")


def test_a_file_where_the_folder_should_be(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "file").write_text("")
    assert_unavailable(turnkeeper, "file/state.db", "Not a directory", options=("--state", "file/state.db"))


def test_a_folder_that_is_missing_is_made_for_us_alone(turnkeeper: Turnkeeper) -> None:
    assert turnkeeper.run(GO, "--state", "some/where/state.db").status == 0
    where = turnkeeper.folder / "some" / "where"
    assert where.stat().st_mode & 0o777 == 0o700
    assert (where / "state.db").stat().st_mode & 0o777 == 0o600
    assert os.listdir(where / "alive") == []


# --- disks


def on_a_disk(turnkeeper: Turnkeeper, options: str) -> str:
    """Return the line of shell that runs it where `disk` is a small one of its own, with a state that was used."""
    (turnkeeper.folder / "disk").mkdir()
    unshare = "unshare --mount" if os.geteuid() == 0 else "unshare --map-root-user --mount"
    mount = "mount -t tmpfs -o size=1m none disk"
    tried = subprocess.run(
        shlex.split(f"{unshare} sh -c {shlex.quote(mount)}"), cwd=turnkeeper.folder, capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"needs a small file system of its own: {tried.stderr.decode().strip()}")
    first = shlex.join(map(str, turnkeeper.argv(["true"], "--state", "disk/state.db", "--quiet")))
    return f'exec {unshare} sh -c {shlex.quote(f"{mount} && {first} && {options}")} sh "$@"'


def test_a_disk_that_is_read_only(turnkeeper: Turnkeeper) -> None:
    through = on_a_disk(turnkeeper, 'mount -o remount,ro disk && exec "$@"')
    ended = turnkeeper.run(GO, "--state", "disk/state.db", through=through)
    assert (ended.status, ended.stdout) == (69, b"")
    assert "disk/state.db" in ended.stderr
    assert "may it be written?" in ended.stderr


def test_a_disk_that_is_full_from_the_start(turnkeeper: Turnkeeper) -> None:
    through = on_a_disk(turnkeeper, 'head -c 2m /dev/zero >disk/zeroes 2>/dev/null; exec "$@"')
    ended = turnkeeper.run(GO, "--state", "disk/state.db", through=through)
    assert (ended.status, ended.stdout) == (69, b"")
    assert "full" in ended.stderr or "No space left" in ended.stderr


@pytest.mark.parametrize("status", [0, 5])
def test_a_disk_that_is_full_when_it_ends(turnkeeper: Turnkeeper, status: int) -> None:
    """What the command came to stands. Its end is found by the next run, when there is room again."""
    turnkeeper.rules("budget.attempts = 3")
    again = shlex.join(map(str, turnkeeper.argv(["echo", "again"], "--state", "disk/state.db", "--quiet")))
    dump = f"{sys.executable} -c {shlex.quote(DUMP)}"
    after = f'"$@"; status=$?; rm disk/zeroes; {again} && {dump}; exit $status'
    fill = sh(f"head -c 2m /dev/zero >disk/zeroes 2>/dev/null; echo started; exit {status}")
    ended = turnkeeper.run(fill, "--state", "disk/state.db", through=on_a_disk(turnkeeper, after))
    assert ended.status == status
    assert "cannot be written: the disk is full" in ended.stderr
    said = ended.stdout.decode().splitlines()
    assert said[:2] == ["started", "again"]
    outcome = "('succeeded', None)" if status == 0 else "('failed', 'lost')"
    assert said[2:] == [f"[('succeeded', None), {outcome}, ('succeeded', None)] ok []"]


DUMP = """
import os, sqlite3
database = sqlite3.connect("disk/state.db")
attempts = database.execute("SELECT outcome, kind FROM attempts ORDER BY fence").fetchall()
print(attempts, *database.execute("PRAGMA integrity_check").fetchone(), os.listdir("disk/alive"))
"""


# --- a database that others take away


@pytest.mark.parametrize("how", ["deleted", "replaced", "its folder is deleted"])
def test_a_state_that_goes_while_it_is_in_use(turnkeeper: Turnkeeper, state: Path, how: str) -> None:
    script = {
        "deleted": f"rm {state}",
        "replaced": f"cp {state} {state}.new; mv {state}.new {state}",
        "its folder is deleted": f"rm -r {state.parent}",
    }
    ended = turnkeeper.run(sh(f"{script[how]}; echo started; exit 0"))
    assert (ended.status, ended.stdout) == (0, b"started\n")
    assert "is not written" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert turnkeeper.run(GO).status == 0
    assert rows(state, "PRAGMA integrity_check") == [("ok",)]
    assert_only_the_gone_are_left(turnkeeper)


def test_nothing_is_tried_again_that_cannot_be_counted(turnkeeper: Turnkeeper, state: Path) -> None:
    turnkeeper.rules("budget.attempts = 3", 'backoff.base = "0s"')
    ended = turnkeeper.run(sh(f"rm {state}; echo started; exit 5"))
    assert (ended.status, ended.stdout) == (5, b"started\n")
    assert turnkeeper.report["reason"] == "store_unavailable"
    assert_only_the_gone_are_left(turnkeeper)


def assert_only_the_gone_are_left(turnkeeper: Turnkeeper) -> None:
    """The new state knows nothing of the life files of the old one: a sweep takes them."""
    if turnkeeper.alive.exists():
        sweep(turnkeeper.alive, lambda _: False, time.time(), 0.0)


# --- a writer that stands still


def test_a_writer_that_is_stopped_is_named_after_five_seconds(turnkeeper: Turnkeeper, state: Path) -> None:
    with stopped_writer(state) as writer:
        assert_unavailable(turnkeeper, f"locked for 5 s by process {writer.pid}", "let it go on or end it")
    assert turnkeeper.run(GO).status == 0


def test_a_writer_that_goes_on_in_time_is_waited_for(turnkeeper: Turnkeeper, state: Path) -> None:
    with stopped_writer(state) as writer:
        process = turnkeeper.start(GO)
        threading.Timer(1.0, writer.send_signal, (signal.SIGCONT,)).start()
        assert turnkeeper.end(process).status == 0


def test_an_end_is_written_when_the_writer_goes_on(turnkeeper: Turnkeeper, state: Path) -> None:
    process = turnkeeper.start(sh("echo >runs; read line <go; exit 0"))
    os.mkfifo(turnkeeper.folder / "go")
    until((turnkeeper.folder / "runs").exists, "it runs")
    with stopped_writer(state) as writer:
        (turnkeeper.folder / "go").write_text("\n")
        threading.Timer(6.0, writer.send_signal, (signal.SIGCONT,)).start()
        assert turnkeeper.end(process).status == 0
    assert rows(state, "SELECT outcome, count(*) FROM attempts GROUP BY outcome") == [("succeeded", 2)]
