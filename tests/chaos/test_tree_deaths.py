"""kill -9 and SIGSTOP of supervisor, warden, both, at each step: what is gone is proved gone, the rest is unknown."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Pids
from supervisor.clock import SystemClock
from supervisor.lock.life_file import Death, Exited
from supervisor.lock.session_lock import Busy, SystemLockFiles
from supervisor.owner import RecordedTree
from supervisor.tree.contract import TreeGone, TreeUnknown
from supervisor.tree.recorded import stop_tree, tree_gone
from tests.chaos.cgroups import new_cgroup
from tests.supervisor.tree.trees import MARK, Trees, marked, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

HERE = Path(__file__).parent
SHAPES = str(HERE / "tree_shapes.py")
STEPS = ["starting", "parked", "going", "running", "exited", "stopping"]


class Host:
    """A supervisor in a process of its own, with one tree."""

    def __init__(self, folder: Path, step: str, *shape: str, keep: bool = False, under: Sequence[str] = ()) -> None:
        self.folder = folder
        self.mark = f"{os.getpid()}-{id(self)}"
        self.lock_file = folder / "reports.jsonl.lock"
        self.alive = folder / "alive"
        host = [*under, sys.executable, str(HERE / "tree_host.py"), str(folder), "keep" if keep else "drop", step]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), MARK: self.mark}
        command = [sys.executable, "-I", "-S", SHAPES, *shape]
        self.process = subprocess.Popen([*host, *command], stdout=subprocess.PIPE, env=environment)

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def recorded(self) -> RecordedTree:
        said = self.line()
        return RecordedTree(said["warden"], said["starttime"], Path(said["life"]))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def is_gone(self) -> bool:
        return not marked(self.mark) and not self.lock_file.exists()

    def judge(self) -> Busy | None:
        return asyncio.run(SystemLockFiles(SystemClock()).judge(self.folder / "reports.jsonl", Pids.UNKNOWN))

    def has_nothing_left(self) -> bool:
        return not marked(self.mark)

    def kill_what_is_left(self) -> None:
        for line in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        until(self.has_nothing_left, "what was killed ends")


StartHost = Callable[..., Host]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartHost]:
    hosts: list[Host] = []

    def start(step: str, *shape: str, keep: bool = False, under: Sequence[str] = ()) -> Host:
        hosts.append(Host(tmp_path, step, *shape, keep=keep, under=under))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()
        try:
            until(host.has_nothing_left, "all that it had started is gone")
        finally:
            host.kill_what_is_left()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("keep", [False, True])
def test_a_supervisor_killed_at_any_step_leaves_no_process_and_no_lock(
    start: StartHost, step: str, *, keep: bool
) -> None:
    host = start(step, "daemons" if step == "exited" else "ignorers", keep=keep)
    host.process.wait()
    until(host.is_gone, f"all that the supervisor had started is gone, killed when {step}")
    lives = os.listdir(host.alive) if host.alive.exists() else []
    if not keep or step == "starting":
        assert lives == []
        return
    [life] = lives
    recorded = RecordedTree(1, 1, host.alive / life)
    # A dying process loses its environment, by which it is marked, a moment before its open files.
    until(lambda: tree_gone(recorded)[0] is Death.GONE, f"its life file proves it gone, killed when {step}")
    if step == "exited":
        assert tree_gone(recorded)[1] == Exited(0, None)


def test_a_forked_worker_of_the_host_keeps_no_tree_and_no_lock(start: StartHost) -> None:
    host = start("fork", "ignorers", keep=True)
    recorded = host.recorded()
    workers = host.line()["workers"]
    assert host.line() == {"ready": True}
    assert tree_gone(recorded)[0] is Death.ALIVE
    host.kill()
    try:
        until(lambda: all("tree_host" in line for line in marked(host.mark)), "the tree is gone, the workers are not")
        assert len(marked(host.mark)) == len(workers) == 20
        assert not host.lock_file.exists()
        until(lambda: tree_gone(recorded)[0] is Death.GONE, "nobody keeps its life file open")
    finally:
        host.kill_what_is_left()


def test_a_stopped_supervisor_keeps_its_tree_and_its_lock(start: StartHost) -> None:
    host = start("stay", "obedient")
    recorded = host.recorded()
    host.line()
    host.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, host.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert tree_gone(recorded)[0] is Death.ALIVE
    busy = host.judge()
    assert busy is not None
    assert busy.alive is True
    assert stop_tree(recorded)  # whoever takes the lease over need not wait for it
    until(lambda: tree_gone(recorded)[0] is Death.GONE, "its tree is stopped by another")
    assert not host.lock_file.exists()
    host.process.send_signal(signal.SIGCONT)
    assert host.line()["gone"][0] == 21
    assert host.process.wait(20) == 0


def test_a_stopped_warden_keeps_its_files_until_it_goes_on(start: StartHost) -> None:
    host = start("stay", "ignorers", keep=True)
    recorded = host.recorded()
    host.line()
    os.kill(recorded.pid, signal.SIGSTOP)
    host.kill()
    assert tree_gone(recorded)[0] is Death.ALIVE
    busy = host.judge()
    assert busy is not None
    assert (busy.pid, busy.alive) == (recorded.pid, True)
    os.kill(recorded.pid, signal.SIGCONT)
    until(lambda: tree_gone(recorded)[0] is Death.GONE, "it goes on and ends")
    assert host.is_gone()


def test_a_warden_and_its_supervisor_killed_at_once_leave_an_unknown_tree(start: StartHost) -> None:
    host = start("stay", "obedient")
    recorded = host.recorded()
    host.line()
    host.process.send_signal(signal.SIGSTOP)
    os.kill(recorded.pid, signal.SIGKILL)
    host.kill()
    until(lambda: tree_gone(recorded) == (Death.UNKNOWN, Exited(None, None)), "the kernel lets go of its files")
    busy = host.judge()
    assert busy is not None
    assert busy.alive is None
    assert "which was killed" in busy.holder
    assert len(marked(host.mark)) == 21
    host.kill_what_is_left()


def test_a_cgroup_killed_as_a_whole_is_the_proof_once_it_is_gone(start: StartHost) -> None:
    """As a stopped unit or one without memory is: supervisor, warden and tree at once, and nobody wrote anything."""
    with new_cgroup() as made:
        host = start("stay", "daemons", under=made.enter)
        recorded = host.recorded()
        host.line()
        assert tree_gone(recorded)[0] is Death.ALIVE
        made.kill_all()
        host.process.wait()
        until(lambda: tree_gone(recorded)[0] is Death.UNKNOWN, "the kernel lets go of its files")
        assert (host.judge() or pytest.fail("it is free")).alive is None
        until(made.is_removed, "nobody is left in it")
        assert tree_gone(recorded) == (Death.GONE, Exited(None, None))
        assert host.judge() is None
        assert host.is_gone()


@pytest.mark.parametrize("step", ["parked", "running", "exited", "stopping"])
async def test_a_warden_killed_at_any_step_is_seen(tmp_path: Path, step: str) -> None:
    trees = Trees(tmp_path)
    tree = await trees.park(lock=True)
    if step != "parked":
        shape = "daemons" if step == "exited" else "ignorers"
        await tree.go(trees.program([sys.executable, "-I", "-S", SHAPES, shape]))
        await trees.said(1)
    if step == "exited":
        await tree.exited()
    if step == "stopping":
        tree.stop(30.0)
        await asyncio.sleep(0.02)
    os.kill(tree.recorded.pid, signal.SIGKILL)
    gone = await tree.gone()
    if step == "parked":
        assert isinstance(gone, TreeGone)
    else:
        assert isinstance(gone, TreeUnknown)
        assert marked(trees.mark)
        for line in marked(trees.mark):
            os.kill(int(line.split()[0]), signal.SIGKILL)
        until(lambda: not marked(trees.mark), "what was left ends")
        assert tree.recorded.life is not None
        trees.lock_file.unlink()
        tree.recorded.life.unlink()
    trees.assert_nothing_is_left()


async def test_signals_that_mean_the_command_are_ignored_by_its_warden(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.start(["sleep", "60"])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(tree.recorded.pid, number)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await tree.gone()
    assert (await trees.finish(tree, 30.0)).killed == 1
    trees.assert_nothing_is_left()


def nested_command(folder: Path, step: str, *shape: str) -> list[str]:
    """Return a command that is a supervisor itself."""
    folder.mkdir()
    host = [sys.executable, str(HERE / "tree_host.py"), str(folder), "keep", step]
    return ["env", f"PYTHONPATH={HERE.parents[1]}", *host, sys.executable, "-I", "-S", SHAPES, *shape]


async def test_a_nested_tree_is_stopped_by_its_own_warden_which_says_so_in_its_files(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    inner = tmp_path / "inner"
    tree = await trees.start(nested_command(inner, "stay", "ignorers"))
    nested = json.loads((await trees.said(2))[0])
    gone = await trees.finish(tree, 0.05)
    assert "SIGKILL to nested wardens: 1" not in gone.steps
    assert tree_gone(RecordedTree(nested["warden"], nested["starttime"], Path(nested["life"])))[0] is Death.GONE
    assert not (inner / "reports.jsonl.lock").exists()
    trees.assert_nothing_is_left()


async def test_a_nested_warden_is_given_time_to_end_by_itself(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.start(nested_command(tmp_path / "inner", "stay", "ignorers"))
    nested = json.loads((await trees.said(2))[0])
    os.kill(nested["warden"], signal.SIGSTOP)
    tree.stop(0.0)
    await asyncio.sleep(0.3)
    os.kill(nested["warden"], signal.SIGCONT)
    gone = await trees.finish(tree)
    assert "SIGKILL to nested wardens: 1" not in gone.steps
    assert tree_gone(RecordedTree(nested["warden"], nested["starttime"], Path(nested["life"])))[0] is Death.GONE
    trees.assert_nothing_is_left()


async def test_a_nested_warden_that_does_not_end_is_killed_last(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    inner = tmp_path / "inner"
    tree = await trees.start(nested_command(inner, "stay", "ignorers"))
    nested = json.loads((await trees.said(2))[0])
    os.kill(nested["warden"], signal.SIGSTOP)
    gone = await trees.finish(tree, 0.05)
    assert gone.steps == ("SIGTERM: 22", "SIGKILL: 21", "SIGKILL to nested wardens: 1")
    assert tree_gone(RecordedTree(nested["warden"], nested["starttime"], Path(nested["life"])))[0] is Death.UNKNOWN
    trees.assert_nothing_is_left()


def test_a_process_that_may_not_be_signalled_is_waited_for(start: StartHost) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to take from a warden the right to signal other users' processes")
    host = start("stay", "another_user", under=["setpriv", "--bounding-set", "-kill"])
    recorded = host.recorded()
    host.line()
    assert stop_tree(recorded)
    assert tree_gone(recorded)[0] is Death.ALIVE
    killed, left, steps, _ = host.line()["gone"]
    assert (killed, left, steps) == (0, [], [])
    until(host.is_gone, "it has ended by itself")
