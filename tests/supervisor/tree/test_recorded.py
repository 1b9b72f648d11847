"""Trees that others have started: stopped by their record, and judged by their life files."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from supervisor.lock.life_file import Death, Exited
from supervisor.owner import RecordedTree, this_process
from supervisor.tree.contract import NotStarted, TreeGone, TreeUnknown
from supervisor.tree.recorded import stop_tree, tree_gone
from tests.supervisor.tree.trees import IGNORE, SLEEP, Trees, marked, python, until


def test_a_missing_life_file_proves_nothing(tmp_path: Path) -> None:
    for life in (tmp_path / "life", None):
        assert tree_gone(RecordedTree(7, 8, life)) == (Death.UNKNOWN, Exited(None, None))


def test_a_process_of_that_pid_that_started_at_another_time_is_not_signalled() -> None:
    me = this_process()
    assert me.starttime is not None
    assert not stop_tree(RecordedTree(me.pid, me.starttime + 1, None))
    assert not stop_tree(RecordedTree(4_194_304, 1, None))


@pytest.mark.processes
async def test_a_recorded_tree_is_stopped_by_others_and_says_so_in_its_life_file(tmp_path: Path) -> None:
    trees = Trees(tmp_path, keep_life=True)
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP), lock=True)
    await trees.said(1)
    recorded = tree.recorded
    assert trees.launcher.tree_gone(recorded) == (Death.ALIVE, Exited(None, None))
    assert trees.launcher.stop_tree(recorded)
    assert isinstance(await tree.gone(), TreeGone)
    assert trees.launcher.tree_gone(recorded) == (Death.GONE, Exited(None, signal.SIGKILL))
    assert not trees.launcher.stop_tree(recorded)
    tree.forget()
    trees.assert_nothing_is_left()


@pytest.mark.processes
async def test_a_tree_that_others_have_stopped_while_it_was_parked_does_not_go(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.park()
    os.kill(tree.recorded.pid, signal.SIGSTOP)  # so that it finds both words at once when it goes on
    os.waitid(os.P_PID, tree.recorded.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222 - it is stopped at once
    going = asyncio.ensure_future(tree.go(trees.program(["touch", str(tmp_path / "it ran")])))
    await asyncio.sleep(0)
    assert trees.launcher.stop_tree(tree.recorded)
    os.kill(tree.recorded.pid, signal.SIGCONT)
    with pytest.raises(NotStarted, match="ended before it said that touch had started"):
        await going
    assert isinstance(await tree.gone(), TreeGone)
    assert not (tmp_path / "it ran").exists()
    tree.forget()
    trees.assert_nothing_is_left()


@pytest.mark.processes
async def test_a_killed_warden_makes_its_tree_unknown_and_keeps_its_files(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.start(["sleep", "60"], lock=True)
    os.kill(tree.recorded.pid, signal.SIGKILL)
    unknown = await tree.gone()
    assert isinstance(unknown, TreeUnknown)
    assert "'sleep'" in unknown.alive[0]  # not its arguments: there may be a secret among them
    tree.forget()
    # A process that has just been started closes what it may not keep a moment later than its starter goes on.
    until(lambda: tree_gone(tree.recorded) == (Death.UNKNOWN, Exited(None, None)), "the kernel lets go of its files")
    assert trees.lock_file.exists()
    [line] = marked(trees.mark)
    os.kill(int(line.split()[0]), signal.SIGKILL)
    trees.lock_file.unlink()
    assert tree.recorded.life is not None
    tree.recorded.life.unlink()
    with pytest.raises(Exception, match=f"the warden {tree.recorded.pid} of sleep was killed"):
        await tree.exited()


@pytest.mark.processes
async def test_a_warden_killed_while_it_is_parked_leaves_nothing(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.park(lock=True)
    os.kill(tree.recorded.pid, signal.SIGKILL)
    assert isinstance(await tree.gone(), TreeGone)
    trees.assert_nothing_is_left()
    with pytest.raises(NotStarted, match="ended before it said"):
        await tree.go(trees.program(["sleep", "60"]))


@pytest.mark.processes
async def test_a_warden_whose_supervisor_dies_after_its_last_order_removes_the_life_file(tmp_path: Path) -> None:
    trees = Trees(tmp_path)
    tree = await trees.start(["true"])
    await tree.exited()
    os.kill(tree.recorded.pid, signal.SIGSTOP)
    until(lambda: state_of(tree.recorded.pid) == "T", "it is stopped")
    tree.stop(0.0)
    tree.abandon()
    os.kill(tree.recorded.pid, signal.SIGCONT)
    assert isinstance(await tree.gone(), TreeGone)
    trees.assert_nothing_is_left()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.processes
async def test_a_life_file_stays_until_its_supervisor_has_recorded_the_end(trees: Trees) -> None:
    tree = await trees.start(["true"])
    tree.stop(0.0)
    assert isinstance(await tree.gone(), TreeGone)
    assert tree.recorded.life is not None
    assert tree_gone(tree.recorded)[0] is Death.GONE
    tree.forget()
    assert not tree.recorded.life.exists()
