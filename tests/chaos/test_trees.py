"""Trees that are hard to stop are stopped, and proved gone."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.lock.life_file import Death, Exited
from supervisor.tree.contract import TreeGone
from tests.supervisor.tree.trees import Trees, descriptors, marked, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

SHAPES = Path(__file__).with_name("tree_shapes.py")
CYCLES = int(os.environ.get("TREE_CYCLES", "1000"))


def shape(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-S", str(SHAPES), name, *map(str, arguments)]


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    before = descriptors()
    trees = Trees(tmp_path)
    yield trees
    trees.assert_nothing_is_left()
    assert len(descriptors()) == len(before)


@pytest.mark.parametrize(
    ("name", "grace_s", "least"),
    [
        ("obedient", 30.0, 21),
        ("ignorers", 0.05, 21),
        ("sessions", 0.05, 6),
        ("daemons", 0.05, 5),
        ("leader_obeys", 0.2, 3),
        ("stopped", 30.0, 2),
        ("chain", 0.02, 1),
        ("fan", 0.02, 2),
        ("hydra", 0.02, 2),
        ("lost_leader", 0.05, 1),
    ],
)
@pytest.mark.parametrize("by", ["stop", "end of file", "SIGUSR1"])
async def test_nothing_of_a_tree_lives_on(trees: Trees, name: str, grace_s: float, least: int, by: str) -> None:
    tree = await trees.start(shape(name), lock=True)
    await trees.said(1)
    tell: dict[str, Callable[[], object]] = {
        "stop": lambda: tree.stop(grace_s),
        "end of file": tree.abandon,
        "SIGUSR1": lambda: trees.launcher.stop_tree(tree.recorded),
    }
    tell[by]()
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    assert marked(trees.mark) == []
    assert gone.killed >= least
    assert trees.launcher.tree_gone(tree.recorded)[0] is (Death.UNKNOWN if by == "end of file" else Death.GONE)
    tree.forget()


async def test_processes_that_were_asked_and_then_killed_count_once(trees: Trees) -> None:
    tree = await trees.start(shape("ignorers", 7))
    await trees.said(1)
    tree.stop(0.05)
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    assert (gone.killed, gone.steps) == (8, ("SIGTERM: 8", "SIGKILL: 8"))
    tree.forget()


async def test_a_stopped_tree_is_asked_like_any_other(trees: Trees) -> None:
    tree = await trees.start(shape("stopped"))
    await trees.said(1)
    tree.stop(30.0)
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    assert gone.steps == ("SIGTERM: 2",)
    assert await tree.exited() == Exited(None, signal.SIGTERM)
    tree.forget()


@pytest.mark.once
async def test_a_thousand_trees_leave_no_file_no_descriptor_and_no_zombie(trees: Trees) -> None:
    async def cycle() -> None:
        tree = await trees.start(["true"])
        assert await tree.exited() == Exited(0, None)
        tree.stop(1.0)
        assert isinstance(await tree.gone(), TreeGone)
        tree.forget()

    await cycle()
    before = descriptors()
    for _ in range(CYCLES // 4):
        await asyncio.gather(*(cycle() for _ in range(4)))
    assert descriptors() == before
    trees.assert_nothing_is_left()


async def test_on_a_full_disk_the_last_word_is_still_written(trees: Trees, tmp_path: Path) -> None:
    trees.alive.mkdir()
    mounted = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=16k", "none", str(trees.alive))
    if await mounted.wait() != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        tree = await trees.start(["sh", "-c", "exit 5"])
        await tree.exited()
        filler = trees.alive / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 100_000)
        with pytest.raises(Exception, match="No space left"):
            await trees.park(lock=True)
        tree.stop(1.0)
        await tree.gone()
        assert trees.launcher.tree_gone(tree.recorded) == (Death.GONE, Exited(5, None))
        tree.forget()
        filler.unlink()
        trees.assert_nothing_is_left()
    finally:
        unmounted = await asyncio.create_subprocess_exec("umount", str(trees.alive))
        await unmounted.wait()


async def test_the_host_may_ignore_sigchld(trees: Trees) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        tree = await trees.start(["sh", "-c", "exit 3"])
        assert await tree.exited() == Exited(3, None)
        tree.stop(1.0)
        assert isinstance(await tree.gone(), TreeGone)
        tree.forget()
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_no_foreign_child_is_waited_for(trees: Trees) -> None:
    foreign = os.posix_spawnp("true", ["true"], trees.env)  # noqa: ASYNC221 - asyncio would wait for it itself
    tree = await trees.start(["true"])
    tree.stop(1.0)
    await tree.gone()
    tree.forget()
    assert os.waitpid(foreign, 0)[0] == foreign  # noqa: ASYNC222 - it has ended
    until(lambda: not marked(trees.mark), "both have ended")
