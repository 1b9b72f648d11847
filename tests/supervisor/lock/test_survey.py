"""Every lock file below a folder is found and judged; what is not proved dead is never touched."""

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policies.policy import Pids
from supervisor.clock import clock_of
from supervisor.lock.session_lock import SystemLockFiles
from supervisor.lock.survey import Found, State, survey
from supervisor.owner import this_process
from tests.supervisor.lock.lock_files import NEVER_STARTED, flocked, lock_of, write_foreign, write_ours


async def found_below(
    folder: Path, *, reclaim: bool = False, pids: Pids = Pids.OURS, unread: list[OSError] | None = None
) -> dict[str, Found]:
    """Return what is found, by the name of its file."""
    told: list[OSError] = []
    clock = clock_of(asyncio.get_running_loop())
    found = {each.path.name: each async for each in survey(folder, pids, clock, told.append, reclaim=reclaim)}
    assert bool(told) == (unread is not None)
    if unread is not None:
        unread += told
    return found


@contextmanager
def as_nobody(folder: Path, mode: int) -> Iterator[None]:
    """A folder with this mode, for root too: it gives up its rights meanwhile."""
    os.chmod(folder, mode)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, 0o755)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder below nobody's that others may not enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


async def test_where_there_is_none_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "reports.jsonl").touch()
    (tmp_path / "reports.lock.bak").touch()
    assert await found_below(tmp_path, reclaim=True) == {}


async def test_each_holder_is_named_and_judged(locks: SystemLockFiles, tmp_path: Path) -> None:
    held = locks.take_now(tmp_path / "living", 60)
    assert held is not None
    write_ours(tmp_path / "killed", pid=7)
    write_ours(tmp_path / "warden", pid=8, owner="warden")
    write_ours(tmp_path / "warden-gone", pid=9, owner="warden", gone={"exitCode": 0})
    write_ours(tmp_path / "elsewhere", pid=10, host="elsewhere", bootId="another")
    write_foreign(tmp_path / "openclaw", os.getpid(), this_process().starttime)
    write_foreign(tmp_path / "openclaw-dead", 4_000_000, NEVER_STARTED)
    write_foreign(tmp_path / "openclaw-old", os.getpid(), None)
    before = sorted(os.listdir(tmp_path))
    found = await found_below(tmp_path)
    assert {name: (each.state, each.owner, each.pid) for name, each in found.items()} == {
        "living.lock": ("alive", "process", os.getpid()),
        "killed.lock": ("dead", "process", 7),
        "warden.lock": ("unknown", "warden", 8),
        "warden-gone.lock": ("dead", "warden", 9),
        "elsewhere.lock": ("unknown", "process", 10),
        "openclaw.lock": ("alive", "foreign", os.getpid()),
        "openclaw-dead.lock": ("dead", "foreign", 4_000_000),
        "openclaw-old.lock": ("unknown", "foreign", os.getpid()),
    }
    for each in found.values():
        assert bool(each.proof) == (each.state is State.DEAD)
        assert (each.path.parent, bool(each.advice), each.removed) == (tmp_path, True, False)
    assert sorted(os.listdir(tmp_path)) == before
    assert "remove the file: rm" in found["warden.lock"].advice
    held.release()


async def test_only_what_is_proved_dead_is_reclaimed(locks: SystemLockFiles, tmp_path: Path) -> None:
    held = locks.take_now(tmp_path / "living", 60)
    assert held is not None
    write_ours(tmp_path / "killed")
    write_ours(tmp_path / "warden", owner="warden")
    write_ours(tmp_path / "warden-gone", owner="warden", gone={"exitCode": 0})
    write_foreign(tmp_path / "openclaw", os.getpid(), this_process().starttime)
    write_foreign(tmp_path / "openclaw-dead", 4_000_000, NEVER_STARTED)
    found = await found_below(tmp_path, reclaim=True)
    removed = {name for name, each in found.items() if each.removed}
    assert removed == {"killed.lock", "warden-gone.lock", "openclaw-dead.lock"}
    assert set(os.listdir(tmp_path)) == {"living.lock", "warden.lock", "openclaw.lock"}
    assert all(found[name].proof and not found[name].advice for name in removed)
    held.release()


async def test_where_pids_cannot_be_judged_a_foreign_lock_is_left(tmp_path: Path) -> None:
    lock = write_foreign(tmp_path / "openclaw-dead", 4_000_000, NEVER_STARTED)
    [found] = (await found_below(tmp_path, reclaim=True, pids=Pids.UNKNOWN)).values()
    assert (found.state, found.removed, lock.exists()) == (State.UNKNOWN, False, True)


async def test_what_is_no_lock_is_nobodys_and_never_touched(tmp_path: Path) -> None:
    contents = {"empty.lock": b"", "poetry.lock": b"[[package]]", "composer.lock": b"{}", ".lock": b"", "...lock": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (1_000_000_000, 1_000_000_000))
    os.mkfifo(tmp_path / "fifo.lock")
    dead = write_ours(tmp_path / "dead")
    (tmp_path / "link.lock").symlink_to(dead.rename(tmp_path / "dead"))
    (tmp_path / "folder.lock").mkdir()
    found = await found_below(tmp_path, reclaim=True)
    assert set(found) == {*contents, "fifo.lock", "link.lock", "folder.lock"}
    assert {each.state for each in found.values()} == {State.NOBODY}
    assert all(each.advice for each in found.values())
    assert all((tmp_path / name).read_bytes() == content for name, content in contents.items())
    assert set(os.listdir(tmp_path)) == {*found, "dead"}


async def test_folders_are_searched_and_links_to_others_are_not(tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "a" / "deep.lock").mkdir(parents=True)
    other.mkdir()
    write_ours(top / "a" / "deep.lock" / "inside")
    outside = write_ours(other / "outside")
    (top / "link").symlink_to(other)
    (top / "link.lock").symlink_to(other)
    (tmp_path / "way-in").symlink_to(top)
    found = await found_below(tmp_path / "way-in", reclaim=True)  # what was named itself may be a link
    assert set(found) == {"deep.lock", "inside.lock", "link.lock"}
    assert found["inside.lock"].removed
    assert found["inside.lock"].path == top / "a" / "deep.lock" / "inside.lock"
    assert outside.exists()


async def test_a_folder_that_is_missing_or_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, kind in (("missing", FileNotFoundError), ("file", NotADirectoryError)):
        with pytest.raises(kind):
            await found_below(tmp_path / name)


async def test_what_may_not_be_read_is_told_and_the_rest_is_found(public: Path) -> None:
    (public / "closed").mkdir()
    for folder in (public, public / "closed"):
        write_ours(folder / "killed")
    unread: list[OSError] = []
    with as_nobody(public / "closed", 0o311):
        found = await found_below(public, unread=unread)
    assert [error.filename for error in unread] == [str(public / "closed")]
    assert [each.path.parent for each in found.values()] == [public]


async def test_a_file_that_may_not_be_read_is_unknown(public: Path) -> None:
    lock = write_ours(public / "killed")
    lock.chmod(0)
    with as_nobody(public, 0o755):
        [found] = (await found_below(public, reclaim=True)).values()
    assert (found.state, found.advice) == (State.UNKNOWN, "it cannot be read: Permission denied")


async def test_a_dead_ones_lock_that_may_not_be_removed_is_left_and_said_why(public: Path) -> None:
    write_ours(public / "killed")
    write_foreign(public / "openclaw", 4_000_000, NEVER_STARTED)
    with as_nobody(public, 0o555):
        found = await found_below(public, reclaim=True)
    assert {(each.state, each.removed) for each in found.values()} == {(State.DEAD, False)}
    assert {each.advice for each in found.values()} == {"it may not be removed from here: Permission denied"}
    assert set(os.listdir(public)) == set(found)


async def test_while_others_are_removing_it_it_is_left(tmp_path: Path) -> None:
    lock = write_foreign(tmp_path / "openclaw", 4_000_000, NEVER_STARTED)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        [found] = (await found_below(tmp_path, reclaim=True)).values()
    finally:
        os.close(folder)
    assert (found.state, found.removed, lock.exists()) == (State.UNKNOWN, False, True)
    assert "look again" in found.advice


async def test_one_that_is_taken_again_meanwhile_is_left_to_its_new_holder(tmp_path: Path) -> None:
    lock = write_ours(tmp_path / "killed", pid=7)
    with flocked(lock):
        [found] = (await found_below(tmp_path, reclaim=True)).values()
    assert (found.state, found.removed, lock.exists()) == (State.ALIVE, False, True)


@pytest.mark.parametrize("created", ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "0001-01-01", "soon"])
async def test_whatever_a_file_claims_of_its_age_can_be_told(tmp_path: Path, created: str) -> None:
    lock = lock_of(tmp_path / "openclaw")
    lock.write_text(f'{{"pid": 4000000, "starttime": 5, "createdAt": "{created}"}}')
    [found] = (await found_below(tmp_path)).values()
    shape = found.as_json(2_000_000_000.0)
    assert shape["age_s"] >= 0.0
    assert (shape["path"], shape["state"], shape["removed"]) == (str(lock), "dead", False)
