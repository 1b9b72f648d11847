"""The database in its file, on its thread: what is committed, what is said when it cannot be, and who changed it."""

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite import database as module
from supervisor.store.sqlite.database import FileDatabase

pytestmark = pytest.mark.processes

WRITES = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print(flush=True)
time.sleep(60)
"""


def add(connection: sqlite3.Connection, text: str) -> int:
    connection.execute("INSERT INTO meta(key) VALUES (?)", (text,))
    return connection.total_changes


def keys(connection: sqlite3.Connection) -> list[str]:
    return [key for (key,) in connection.execute("SELECT key FROM meta ORDER BY key")]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[FileDatabase]:
    database = FileDatabase(tmp_path / "folder" / "state.db")
    await database.open()
    yield database
    await database.close()


async def other(database: FileDatabase) -> FileDatabase:
    """Open the same file as another process would."""
    again = FileDatabase(database.path)
    await again.open()
    return again


async def test_the_file_is_for_its_owners_eyes_only(database: FileDatabase) -> None:
    assert stat.S_IMODE(os.stat(database.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(database.path.parent).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{database.path}-wal").st_mode) == 0o600


async def test_an_empty_file_that_somebody_made_is_for_its_owners_eyes_only_too(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(0o644)
    database = FileDatabase(path)
    await database.open()
    await database.run(add, "a")
    modes = {stat.S_IMODE(os.stat(f"{path}{end}").st_mode) for end in ("", "-wal", "-shm")}
    await database.close()
    assert modes == {0o600}


async def test_what_is_asked_at_once_is_answered_each_its_own(database: FileDatabase) -> None:
    texts = [f"{number:03}" for number in range(200)]
    answers = await asyncio.gather(*[database.run(add, text) for text in texts])
    assert answers == sorted(answers)
    assert await database.read(keys) == texts


async def test_one_that_fails_leaves_those_beside_it_committed(database: FileDatabase) -> None:
    def breaks(connection: sqlite3.Connection) -> None:
        add(connection, "never")
        raise ZeroDivisionError

    asked = [database.run(add, "a"), database.run(breaks), database.run(add, "a"), database.run(add, "b")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, ZeroDivisionError, StoreUnavailable, int]
    assert await database.read(keys) == ["a", "b"]


async def test_a_caller_that_is_cancelled_stops_no_transaction(database: FileDatabase) -> None:
    asked = asyncio.ensure_future(database.run(add, "a"))
    await asyncio.sleep(0)
    asked.cancel()
    assert await database.read(keys) == ["a"]
    assert asked.cancelled()


async def test_a_writer_that_stands_still_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_S", 0.2)
    database = FileDatabase(tmp_path / "state.db")
    await database.open()
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES, str(database.path), stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    await writer.stdout.readline()
    answers = await asyncio.gather(*[database.run(add, text) for text in ("a", "b")], return_exceptions=True)
    nothing = await database.read(keys)  # a reader waits for no writer
    writer.kill()
    await writer.wait()
    assert all(f"s by process {writer.pid}: if that process is stopped" in str(answer) for answer in answers)
    assert nothing == []
    await database.run(add, "c")
    assert await database.read(keys) == ["c"]
    await database.close()


async def test_changed_tells_of_every_commit_by_others_and_of_no_other(database: FileDatabase) -> None:
    another = await other(database)
    for number in range(200):
        await another.run(add, f"grows {number}")
    # From here on the log is written from its beginning: its size stays.
    await another._call(lambda: another._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall())
    await database.changed()
    for number in range(60):  # past the looks that trust the log's time
        await database.run(add, f"ours {number}")
        assert not await database.changed()
    for number in range(60):
        await another.run(add, f"theirs {number}")
        assert await database.changed()
        assert not await database.changed()
    for _ in range(60):
        assert not await database.changed()
    await another.run(add, "the last")
    assert await database.changed()
    await another.close()


async def test_a_file_that_was_deleted_or_replaced_is_not_written_any_more(database: FileDatabase) -> None:
    os.rename(database.path, f"{database.path}.aside")
    with pytest.raises(StoreUnavailable, match="gone while it is in use"):
        await database.run(add, "a")
    database.path.touch()
    with pytest.raises(StoreUnavailable, match="was replaced while it is in use"):
        await database.run(add, "a")
    assert database.path.read_bytes() == b""


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database = FileDatabase(tmp_path / "file" / "state.db")
    with pytest.raises(StoreUnavailable, match="cannot be opened: "):
        await database.open()


async def test_what_is_asked_of_one_that_is_closed_is_refused(tmp_path: Path) -> None:
    database = FileDatabase(tmp_path / "state.db")
    await database.open()
    before, closing = database.run(add, "a"), asyncio.ensure_future(database.close())
    assert await before == 1
    await closing
    for ask in (database.run(add, "b"), database.read(keys), database.changed()):
        with pytest.raises(StoreUnavailable, match="is not open"):
            await asyncio.wait_for(ask, 5.0)
    await database.close()


async def test_one_that_could_not_be_opened_can_be_closed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database = FileDatabase(tmp_path / "file" / "state.db")
    with pytest.raises(StoreUnavailable):
        await database.open()
    await asyncio.wait_for(database.close(), 5.0)
