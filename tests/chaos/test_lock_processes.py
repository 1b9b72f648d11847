"""The session lock between real processes: exclusion, kill -9, SIGSTOP, forks, and races to reclaim."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from policies.policy import LockRule, Pids
from supervisor.clock import SystemClock
from supervisor.lock import session_lock
from supervisor.lock.session_lock import LockWait, SystemLockFiles
from supervisor.lock.survey import survey

pytestmark = [pytest.mark.processes, pytest.mark.once]

CHILD = Path(__file__).with_name("lock_child.py")
ROOT = CHILD.parents[2]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of lock_child.py; all of them are killed at the end."""
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


def _unread(error: OSError) -> None:
    pytest.fail(str(error))


def judge(transcript: Path) -> Any:
    return asyncio.run(SystemLockFiles(SystemClock()).judge(transcript, Pids.OURS))


def take_at_once(transcript: Path) -> list[str]:
    """Take the lock without any waiting, release it; return the proofs on which it was reclaimed."""
    proofs: list[str] = []

    async def take() -> None:
        clock = SystemClock()
        wait = LockWait(clock, None, lambda busy: pytest.fail(str(busy)), lambda path, proof: proofs.append(proof))
        held = await session_lock.take(SystemLockFiles(clock), transcript, LockRule(wait_s=0.0), 60, wait)
        held.release()

    asyncio.run(take())
    return proofs


@pytest.mark.parametrize(("leave", "rounds"), [("released", 100), ("killed", 60), ("killed foreign", 60)])
def test_of_four_processes_never_two_hold_it_however_its_holders_leave_it(
    start: Start, tmp_path: Path, leave: str, rounds: int
) -> None:
    log = tmp_path / "log"
    log.touch()
    folder = tmp_path / "sessions"
    folder.mkdir()
    contenders = [start("contend", folder / "a.jsonl", log, rounds, leave) for _ in range(4)]
    assert [(process.wait(timeout=60), process.communicate()[0]) for process in contenders] == [(0, b"")] * 4
    stays = log.read_text().splitlines()
    assert len(stays) == 2 * 4 * rounds
    for came, went in zip(stays[::2], stays[1::2], strict=True):
        assert (came[0], went[0], came[1:]) == ("+", "-", went[1:])
    assert set(os.listdir(folder)) <= {"a.jsonl.lock"}  # no litter; the last holder's, where it was left


@pytest.mark.parametrize("leave", ["killed", "killed foreign"])
def test_a_survey_that_reclaims_meanwhile_takes_it_from_nobody_who_holds_it(
    start: Start, tmp_path: Path, leave: str
) -> None:
    log, folder = tmp_path / "log", tmp_path / "sessions"
    log.touch()
    folder.mkdir()
    contenders = [start("contend", folder / "a.jsonl", log, 60, leave) for _ in range(3)]

    async def reclaim() -> int:
        removed = 0
        while any(process.poll() is None for process in contenders):
            found = survey(folder, Pids.OURS, SystemClock(), _unread, reclaim=True)
            removed += len([lock async for lock in found if lock.removed])
        return removed

    removed = asyncio.run(asyncio.wait_for(reclaim(), 60))
    assert [(process.returncode, process.communicate()[0]) for process in contenders] == [(0, b"")] * 3
    stays = log.read_text().splitlines()
    assert len(stays) == 2 * 3 * 60
    for came, went in zip(stays[::2], stays[1::2], strict=True):
        assert (came[0], went[0], came[1:]) == ("+", "-", went[1:])
    assert removed > 0


def test_after_kill_9_of_the_holder_the_next_one_takes_it_at_once(start: Start, tmp_path: Path) -> None:
    holder = start("hold", tmp_path / "a.jsonl")
    line(holder)
    holder.kill()
    holder.wait()
    assert (tmp_path / "a.jsonl.lock").exists()
    [proof] = take_at_once(tmp_path / "a.jsonl")
    assert proof == f"Turnkeeper's process {holder.pid}: the kernel let go of its flock"
    assert os.listdir(tmp_path) == []


def test_who_waits_gets_it_when_the_holder_is_killed(start: Start, tmp_path: Path) -> None:
    holder = start("hold", tmp_path / "a.jsonl")
    line(holder)
    waiter = start("wait", tmp_path / "a.jsonl")
    assert line(waiter) == {"waits": True}
    holder.kill()
    assert "took_at" in line(waiter)


def test_who_waits_gets_it_when_the_holder_releases_it(start: Start, tmp_path: Path) -> None:
    holder = start("hold", tmp_path / "a.jsonl")
    line(holder)
    waiter = start("wait", tmp_path / "a.jsonl")
    assert line(waiter) == {"waits": True}
    holder.communicate(b"\n")
    assert "took_at" in line(waiter)


def test_a_stopped_holder_keeps_it(start: Start, tmp_path: Path) -> None:
    holder = start("hold", tmp_path / "a.jsonl")
    line(holder)
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    busy = judge(tmp_path / "a.jsonl")
    assert (busy.pid, busy.alive) == (holder.pid, True)
    holder.send_signal(signal.SIGCONT)


def test_a_forked_child_neither_keeps_it_nor_removes_it(start: Start, tmp_path: Path) -> None:
    parent = start("fork", tmp_path / "a.jsonl")
    child = line(parent)
    try:
        assert "the parent process's: left alone" in child["said"]
        assert child["left"]
        assert judge(tmp_path / "a.jsonl").alive is True
        parent.kill()
        parent.wait()
        os.kill(child["child"], 0)  # it lives on, as a fork pool's worker may
        assert len(take_at_once(tmp_path / "a.jsonl")) == 1
    finally:
        with suppress(ProcessLookupError):
            os.kill(child["child"], signal.SIGKILL)


def test_a_foreign_holder_is_respected_until_it_is_dead(start: Start, tmp_path: Path) -> None:
    holder = start("hold_foreign", tmp_path / "a.jsonl")
    line(holder)
    busy = judge(tmp_path / "a.jsonl")
    assert (busy.pid, busy.alive) == (holder.pid, True)
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie: nobody has waited for it yet
    assert judge(tmp_path / "a.jsonl") is None
    assert os.listdir(tmp_path) == []


def test_a_file_that_may_grow_no_further_leaves_nothing_half_written(start: Start, tmp_path: Path) -> None:
    said = line(start("take_small", tmp_path / "a.jsonl", 100))
    assert (said["kind"], said["left"]) == ("error", [])
    assert "File too large" in said["message"]


def test_a_folder_that_may_not_be_written_to_is_invalid(start: Start) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        said = line(start("take_as_nobody", Path(folder, "a.jsonl")))
        os.chmod(folder, 0o755)
    assert (said["kind"], said["left"]) == ("invalid", [])
    assert "Permission denied" in said["message"]


def test_a_dead_holders_lock_that_we_may_not_remove_says_so(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody who may not")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "a.jsonl.lock").write_text('{"pid": 4000000, "starttime": 5}')
        said = line(start("judge_as_nobody", Path(folder, "a.jsonl"), "ours"))
    assert said["busy"]["alive"] is False
    assert "may not be removed from here (Permission denied)" in said["busy"]["advice"]


def test_a_lock_that_we_may_not_read_is_respected(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody who may not")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        Path(folder, "a.jsonl.lock").write_text('{"pid": 4000000, "starttime": 5}')
        os.chmod(Path(folder, "a.jsonl.lock"), 0o600)
        said = line(start("judge_as_nobody", Path(folder, "a.jsonl"), "ours"))
    assert said["busy"]["alive"] is None
    assert "may not be read (Permission denied)" in said["busy"]["holder"]
