"""Parking: the warden is ready, its files stand in its name, and whatever prevents that leaves nothing."""

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

import pytest

from policies.failure import Kind
from policies.policy import Pids
from supervisor.clock import SystemClock
from supervisor.errors import Failure
from supervisor.lock.life_file import Exited
from supervisor.lock.session_lock import SystemLockFiles
from supervisor.tree.contract import LockWanted, Streams, TreeGone
from supervisor.tree.launcher import SystemLauncher
from tests.supervisor.tree.trees import IGNORE, SLEEP, Trees, children, descriptors, marked, python

pytestmark = pytest.mark.processes

LOCKS = SystemLockFiles(SystemClock())


async def test_a_parked_tree_runs_nothing_and_can_be_dismissed(trees: Trees) -> None:
    tree = await trees.park(lock=True)
    assert children() == [tree.recorded.pid]
    assert marked(trees.mark) == []
    tree.dismiss()
    assert isinstance(await tree.gone(), TreeGone)
    assert not trees.lock_file.exists()
    tree.forget()


async def test_both_files_name_the_warden_from_before_the_start_until_its_tree_is_gone(trees: Trees) -> None:
    tree = await trees.park(lock=True)
    warden = tree.recorded
    assert warden.life is not None
    for path in (trees.lock_file, warden.life):
        said = json.loads(path.read_text())
        assert list(said)[:4] == ["pid", "createdAt", "maxHoldMs", "starttime"]
        assert (said["pid"], said["starttime"]) == (warden.pid, warden.starttime)
        assert (said["turnkeeper"]["owner"], said["turnkeeper"]["gone"]) == ("warden", None)
    assert tree.lock_path == trees.lock_file
    assert [warden.life.stat().st_mode & 0o7777, trees.alive.stat().st_mode & 0o7777] == [0o600, 0o700]
    assert trees.lock_file.stat().st_mode & 0o7777 == 0o644
    busy = await LOCKS.judge(trees.transcript, Pids.UNKNOWN)
    assert busy is not None
    assert (busy.pid, busy.alive) == (warden.pid, True)
    await tree.go(trees.program(["true"]))
    await tree.exited()
    assert trees.lock_file.exists()
    assert await trees.finish(tree, grace_s=1.0)
    assert not trees.lock_file.exists()


async def test_a_parked_warden_is_found_by_its_lock_alone_and_ends_when_it_is_asked_to(trees: Trees) -> None:
    tree = await trees.park(lock=True)
    assert LOCKS.warden_of(trees.transcript, os.getppid()) is None, "it is the child of another one"
    warden = LOCKS.warden_of(trees.transcript, os.getpid())
    assert warden == tree.recorded._replace(life=None)
    assert trees.launcher.stop_tree(warden)
    assert isinstance(await tree.gone(), TreeGone)
    assert LOCKS.warden_of(trees.transcript, os.getpid()) is None
    assert not trees.lock_file.exists()
    tree.forget()


def test_a_lock_of_a_process_names_no_warden(trees: Trees) -> None:
    held = LOCKS.take_now(trees.transcript, 60.0)
    assert held is not None
    assert LOCKS.warden_of(trees.transcript, os.getpid()) is None
    assert LOCKS.warden_of(trees.transcript, os.getppid()) is None
    held.release()


async def test_we_keep_no_descriptor_of_the_files(trees: Trees) -> None:
    tree = await trees.park(lock=True)
    assert not [path for _, path in descriptors() if str(trees.folder) in path]
    await trees.finish(tree)


async def test_where_the_lock_is_held_nothing_is_started(trees: Trees) -> None:
    first = await trees.park(lock=True)
    assert await trees.try_to_park(lock=True) is None
    assert children() == [first.recorded.pid]
    await trees.finish(first)
    second = await trees.try_to_park(lock=True)
    assert second is not None
    await trees.finish(second)


async def test_of_two_that_park_at_once_one_gets_the_lock_and_the_others_warden_is_gone(trees: Trees) -> None:
    both = await asyncio.gather(*(trees.try_to_park(lock=True) for _ in range(2)))
    [tree] = [tree for tree in both if tree is not None]
    assert children() == [tree.recorded.pid]
    assert len(os.listdir(trees.alive)) == 1
    await trees.finish(tree)


async def test_a_lock_that_is_there_is_left_as_it_is(trees: Trees) -> None:
    trees.lock_file.write_text('{"pid": 5}')
    assert await trees.try_to_park(lock=True) is None
    assert trees.lock_file.read_text() == '{"pid": 5}'
    trees.lock_file.unlink()


async def test_a_lock_that_others_took_away_is_not_removed_by_the_warden(trees: Trees) -> None:
    tree = await trees.start(["true"], lock=True)
    trees.lock_file.unlink()
    trees.lock_file.write_text("another's")
    await trees.finish(tree)
    assert trees.lock_file.read_text() == "another's"
    trees.lock_file.unlink()


async def test_a_disk_that_fails_at_the_end_does_not_keep_the_lock(trees: Trees) -> None:
    tree = await trees.start(["true"], lock=True)
    resource.prlimit(tree.recorded.pid, resource.RLIMIT_FSIZE, (0, 0))
    await trees.finish(tree)
    assert not trees.lock_file.exists()


async def test_a_place_that_cannot_have_a_lock_is_invalid(trees: Trees) -> None:
    trees.lock_file.mkdir()
    with pytest.raises(Failure, match="not a lock file") as raised:
        await trees.try_to_park(lock=True)
    assert raised.value.kind is Kind.INVALID
    trees.lock_file.rmdir()
    nowhere = LockWanted(trees.folder / "missing" / "a.jsonl", 1.0)
    with pytest.raises(Failure, match="its folder does not exist"):
        await trees.launcher.park(Streams(0, 1, 2), nowhere)


async def test_a_life_file_that_cannot_be_made_is_an_error_and_leaves_no_lock(trees: Trees) -> None:
    trees.alive.write_text("not a folder")
    with pytest.raises(Failure, match=r"life file .* cannot be made") as raised:
        await trees.try_to_park(lock=True)
    assert raised.value.kind is Kind.ERROR
    trees.alive.unlink()


async def test_a_disk_without_room_for_the_files_leaves_nothing(trees: Trees) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(Failure, match="File too large") as raised:
            await trees.try_to_park(lock=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.kind is Kind.ERROR


async def test_a_name_that_the_life_file_cannot_have_takes_the_lock_back(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = await trees.park()
    clock = SystemClock()
    life = tree.recorded.life
    assert life is not None
    name = life.name

    def same_again(nbytes: int | None = None) -> str:
        return name

    clock.token = same_again
    trees.launcher = SystemLauncher(clock, trees.alive)
    assert await trees.try_to_park(lock=True) is None
    assert not trees.lock_file.exists()
    await trees.finish(tree)


async def test_without_a_folder_for_it_there_is_no_life_file(trees: Trees) -> None:
    trees.launcher = SystemLauncher(SystemClock())
    tree = await trees.start(["true"])
    assert tree.recorded.life is None
    assert await tree.exited() == Exited(0, None)
    await trees.finish(tree)


async def test_without_descriptors_left_it_is_an_error(trees: Trees) -> None:
    kinds = set()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in range(len(os.listdir("/proc/self/fd")), 90, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        tree = None
        try:
            tree = await trees.launcher.park(Streams(0, 1, 2), LockWanted(trees.transcript, 1.0))
        except Failure as failure:
            kinds.add(failure.kind)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if tree is not None:
            await trees.finish(tree)
        assert children() == []
    assert kinds == {Kind.ERROR}


@pytest.mark.parametrize("lock", [False, True])
async def test_parking_can_be_cancelled_at_any_moment(trees: Trees, *, lock: bool) -> None:
    cancelled = 0
    for steps in [*range(4), *range(10, 200, 10)]:
        parking = asyncio.ensure_future(trees.try_to_park(lock=lock))
        for _ in range(steps):
            await asyncio.sleep(0 if steps < 4 else 0.0001)
        parking.cancel()
        try:
            tree = await parking
        except asyncio.CancelledError:
            cancelled += 1
        else:
            assert tree is not None
            await trees.finish(tree)
        trees.assert_nothing_is_left()
    assert cancelled >= 4


async def test_parking_is_cancelled_twice_and_still_leaves_nothing(trees: Trees) -> None:
    parking = asyncio.ensure_future(trees.try_to_park(lock=True))
    await asyncio.sleep(0)
    parking.cancel()
    await asyncio.sleep(0)
    parking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parking
    trees.assert_nothing_is_left()


async def test_a_python_that_hangs_as_it_starts_is_given_up_with_the_parking(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    parking = asyncio.ensure_future(trees.try_to_park(lock=True))
    await asyncio.sleep(0.05)
    parking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parking


async def test_go_can_be_cancelled_at_any_moment_and_the_tree_be_stopped(trees: Trees) -> None:
    long = ["x" * 100_000] * 5  # does not fit into the pipe at once
    for steps in range(6):
        tree = await trees.park(lock=True)
        going = asyncio.ensure_future(tree.go(trees.program(python(IGNORE + SLEEP, *long))))
        for _ in range(steps):
            await asyncio.sleep(0)
        going.cancel()
        await asyncio.wait([going])
        await trees.finish(tree)
        trees.assert_nothing_is_left()


async def test_every_wait_can_be_cancelled_and_taken_up_again(trees: Trees) -> None:
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP))
    await trees.said(1)
    for wait in (tree.exited, tree.gone):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait()
    tree.stop(0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await tree.gone()
    await trees.finish(tree)


async def test_a_lock_is_released_in_its_folder_wherever_that_was_moved(trees: Trees, tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    tree = await trees.launcher.park(Streams(0, 1, 2), LockWanted(tmp_path / "before" / "a.jsonl", 1.0))
    assert tree is not None
    (tmp_path / "before").rename(tmp_path / "after")
    await trees.finish(tree)
    assert os.listdir(tmp_path / "after") == []
