"""Life files: made whole, held for life by this process alone, and read by others; the dead ones are swept."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import StoreUnavailable
from supervisor.lock.contents import warden_payload
from supervisor.lock.life_file import Death, Exited, LifeFile, RecordedOwner, owner_death, read_life, sweep
from supervisor.owner import this_process
from tests.supervisor.lock.life_child import WORKERS
from tests.supervisor.tree.trees import until

CHILD = Path(__file__).with_name("life_child.py")
ROOT = CHILD.parents[3]
HOUR = 3600.0
LATER = 4_000_000_000.0
"""Unix seconds, in 2096."""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of life_child.py; all of them are killed at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(CHILD), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def go_on(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def leave(life: Path, **said: object) -> Path:
    """Leave a life file that nobody has: a warden's, or whose it is said to be."""
    content, _ = warden_payload(7, 8, created_unix=0.0, max_hold_s=0.0, nonce="ab12", room_bytes=64)
    shape = json.loads(content)
    shape["turnkeeper"].update(said)
    life.write_text(json.dumps(shape))
    return life


# --- one's own


def test_a_life_file_is_for_its_owner_alone_and_says_whose_it_is(tmp_path: Path) -> None:
    mine = LifeFile.make(tmp_path / "state" / "alive", "ab12", 0.0)
    assert mine.path == tmp_path / "state" / "alive" / "ab12"
    assert mine.path.stat().st_mode & 0o777 == 0o600
    assert mine.path.parent.stat().st_mode & 0o777 == 0o700
    shape = json.loads(mine.path.read_bytes())
    assert (shape["pid"], shape["turnkeeper"]["owner"]) == (os.getpid(), "process")
    assert read_life(mine.path) == (Death.ALIVE, Exited(None, None))
    assert owner_death(RecordedOwner("o", mine.path, 0.0)) is Death.ALIVE
    mine.close()


def test_a_life_file_names_the_cgroup_of_its_process(tmp_path: Path) -> None:
    mine = LifeFile.make(tmp_path, "ab12", 0.0)
    cgroup = this_process().cgroup
    said = json.loads(mine.path.read_bytes())["turnkeeper"].get("cgroup")
    expected = cgroup and {"path": cgroup.path, "inode": cgroup.inode, "namespace": cgroup.namespace}
    assert said == expected
    mine.close()


def test_a_life_file_goes_with_its_owner_once(tmp_path: Path) -> None:
    mine = LifeFile.make(tmp_path, "ab12", 0.0)
    mine.close()
    assert os.listdir(tmp_path) == []
    another = LifeFile.make(tmp_path, "ab12", 0.0)
    mine.close()
    assert read_life(another.path)[0] is Death.ALIVE
    another.close()


def test_a_file_that_took_the_place_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    mine = LifeFile.make(tmp_path, "ab12", 0.0)
    mine.path.unlink()
    mine.path.write_text("another's")
    mine.close()
    assert (tmp_path / "ab12").read_text() == "another's"


def _file_for_a_folder(alive: Path) -> str:
    alive.write_text("")
    return "ab12"


def _name_that_is_taken(alive: Path) -> str:
    alive.mkdir()
    (alive / "ab12").write_text("")
    return "ab12"


def _folder_of_that_name(alive: Path) -> str:
    (alive / "ab12").mkdir(parents=True)
    return "ab12"


def _name_that_is_too_long(alive: Path) -> str:
    return "a" * 300


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (_file_for_a_folder, "File exists"),
        (_name_that_is_taken, "there is a file of that name already"),
        (_folder_of_that_name, "is a folder"),
        (_name_that_is_too_long, "File name too long"),
    ],
)
def test_a_life_file_that_cannot_be_made_says_which_why_and_what_to_do(
    tmp_path: Path, trouble: Callable[[Path], str], why: str
) -> None:
    nonce = trouble(tmp_path / "alive")
    with pytest.raises(StoreUnavailable, match=why) as caught:
        LifeFile.make(tmp_path / "alive", nonce, 0.0)
    assert str(tmp_path / "alive" / nonce) in str(caught.value)
    assert "keep the state in another folder" in str(caught.value)


# --- others'


@pytest.mark.parametrize(
    ("said", "death", "exited"),
    [
        ({"gone": None}, Death.UNKNOWN, Exited(None, None)),
        ({"gone": {"exitCode": 0, "signal": None}}, Death.GONE, Exited(0, None)),
        ({"gone": {"exitCode": None, "signal": 15}}, Death.GONE, Exited(None, 15)),
        ({"gone": {"exitCode": None, "signal": None}}, Death.GONE, Exited(None, None)),
        ({"gone": None, "bootId": "another boot"}, Death.GONE, Exited(None, None)),
        ({"gone": None, "bootId": ""}, Death.UNKNOWN, Exited(None, None)),
        ({"owner": "process"}, Death.GONE, Exited(None, None)),
        ({"owner": "process", "bootId": ""}, Death.GONE, Exited(None, None)),
        ({"owner": "somebody"}, Death.UNKNOWN, Exited(None, None)),
    ],
)
def test_a_free_life_file_is_read(tmp_path: Path, said: dict[str, object], death: Death, exited: Exited) -> None:
    life = leave(tmp_path / "life", **said)
    assert read_life(life) == (death, exited)
    assert owner_death(RecordedOwner("o", life, 0.0)) is death


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 5}'])
def test_a_life_file_that_says_nothing_proves_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "life").write_bytes(content)
    assert read_life(tmp_path / "life") == (Death.UNKNOWN, Exited(None, None))


def test_a_missing_link_fifo_or_folder_proves_nothing_and_is_not_waited_for(tmp_path: Path) -> None:
    leave(tmp_path / "life", owner="process")
    (tmp_path / "link").symlink_to(tmp_path / "life")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder", "missing"):
        assert owner_death(RecordedOwner("o", tmp_path / name, 0.0)) is Death.UNKNOWN


@pytest.mark.processes
def test_an_owner_lives_while_it_is_stopped_and_is_gone_when_it_is_killed(start: Start, tmp_path: Path) -> None:
    owner = start("live", tmp_path / "life")
    said = line(owner)
    recorded = RecordedOwner("o", tmp_path / "life", said["at"])
    assert owner_death(recorded) is Death.ALIVE
    owner.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, owner.pid, os.WSTOPPED | os.WNOWAIT)
    assert owner_death(recorded) is Death.ALIVE
    kill(owner)
    assert owner_death(recorded) is Death.GONE


@pytest.mark.processes
def test_an_owner_that_ends_by_itself_leaves_nothing(start: Start, tmp_path: Path) -> None:
    owner = start("live", tmp_path / "life")
    line(owner)
    go_on(owner)
    assert line(owner) == {"left": False}


@pytest.mark.processes
@pytest.mark.parametrize(("children", "number"), [("live_with_pool", WORKERS), ("live_with_child", 1)])
def test_children_that_outlive_an_owner_do_not_keep_it_alive(
    start: Start, tmp_path: Path, children: str, number: int
) -> None:
    owner = start(children, tmp_path / "life")
    workers: list[int] = [line(owner)["worker"] for _ in range(number)]
    try:
        assert read_life(tmp_path / "life")[0] is Death.ALIVE
        kill(owner)
        # A process that has just been started closes what it may not keep a moment later than its starter goes on.
        until(lambda: read_life(tmp_path / "life")[0] is Death.GONE, "nobody keeps its life file open")
        assert all(lives(worker) for worker in workers)
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # a zombie has none


@pytest.mark.processes
def test_what_a_forked_child_closes_is_not_its_parents(start: Start, tmp_path: Path) -> None:
    owner = start("fork_and_close", tmp_path / "life")
    assert line(owner) == {"after_child": "ALIVE", "left": True}
    go_on(owner)
    assert line(owner) == {"left": False}


@pytest.mark.processes
def test_those_who_look_at_a_free_file_do_not_take_each_other_for_its_owner(start: Start, tmp_path: Path) -> None:
    leave(tmp_path / "life", owner="process")
    lookers = [start("look", tmp_path / "life", 5_000) for _ in range(4)]
    assert [line(looker) for looker in lookers] == [{"ready": True}] * 4
    for looker in lookers:
        go_on(looker)
    assert [line(looker) for looker in lookers] == [{"held": 0}] * 4


# --- sweeping


def nothing(_: Path) -> bool:
    return False


def test_what_is_proved_gone_is_swept_and_the_rest_stays(tmp_path: Path) -> None:
    gone = {"exitCode": 0, "signal": None}
    swept = [
        leave(tmp_path / "a process", owner="process"),
        leave(tmp_path / "a warden that said so", gone=gone),
        leave(tmp_path / "a warden of another boot", bootId="another"),
    ]
    mine = LifeFile.make(tmp_path, "my own", 0.0)
    killed = leave(tmp_path / "a warden that was killed")
    kept = leave(tmp_path / "one that is still wanted", gone=gone)
    unreadable = tmp_path / "one that says nothing"
    unreadable.write_text("{")
    folder, fifo, link = tmp_path / "folder", tmp_path / "fifo", tmp_path / "link"
    folder.mkdir()
    os.mkfifo(fifo)
    link.symlink_to(kept)
    assert sweep(tmp_path, lambda life: life == kept, LATER) == len(swept)
    assert set(tmp_path.iterdir()) == {mine.path, killed, kept, unreadable, folder, fifo, link}
    mine.close()


def test_what_was_written_within_the_hour_stays(tmp_path: Path) -> None:
    life = leave(tmp_path / "life", owner="process")
    os.utime(life, (1000.0, 1000.0))
    assert sweep(tmp_path, nothing, 1000.0 + HOUR) == 0
    assert sweep(tmp_path, nothing, 0.0) == 0  # a clock that was set back
    assert sweep(tmp_path, nothing, 1000.0 + HOUR + 0.1) == 1
    assert os.listdir(tmp_path) == []


def test_where_there_is_no_folder_nothing_is_swept(tmp_path: Path) -> None:
    assert sweep(tmp_path / "alive", nothing, LATER) == 0


@pytest.mark.processes
def test_eight_sweepers_at_once_remove_each_file_once_and_none_of_the_living(start: Start, tmp_path: Path) -> None:
    dead = [leave(tmp_path / f"dead-{number}", owner="process") for number in range(400)]
    others = {leave(tmp_path / f"kept-{number}", owner="process") for number in range(20)}
    others |= {leave(tmp_path / f"unknown-{number}") for number in range(20)}
    for life in (*dead, *others):
        os.utime(life, (0.0, 0.0))
    mine = LifeFile.make(tmp_path, "my-own", 0.0)
    os.utime(mine.path, (0.0, 0.0))
    sweepers = [start("sweep_at_once", tmp_path) for _ in range(8)]
    assert [line(sweeper) for sweeper in sweepers] == [{"ready": True}] * 8
    for sweeper in sweepers:
        go_on(sweeper)
    removed = sum(line(sweeper)["removed"] for sweeper in sweepers)
    assert removed + sum(life.exists() for life in dead) == len(dead)
    assert removed > 0
    sweep(tmp_path, lambda life: life in others, LATER)
    assert set(tmp_path.iterdir()) == others | {mine.path}
    mine.close()
