"""Whose file is that? What is not ours, or newer than we are, is left as it is."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite.database import FileDatabase
from supervisor.store.sqlite.schema import APPLICATION, VERSION

pytestmark = pytest.mark.processes


async def opened(path: Path) -> None:
    database = FileDatabase(path)
    await database.open()
    await database.close()


def refused(path: Path) -> str:
    """Open it, and return why it is refused; not one byte of it may have changed."""
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable) as error:
        asyncio.run(opened(path))
    assert path.read_bytes() == before
    return str(error.value)


def make(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make(path, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION + 1}")
    assert f"of a newer Turnkeeper (its version is {VERSION + 1}, this one knows {VERSION})" in refused(path)


def test_a_database_of_an_older_version_is_refused_rather_than_found_wanting_at_the_first_query(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make(path, f"PRAGMA application_id = {APPLICATION}", "PRAGMA user_version = 1", "CREATE TABLE runs(id TEXT)")
    assert f"of an older Turnkeeper, from before the first release (its version is 1, this one knows {VERSION})" in (
        refused(path)
    )


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE t(x)"],
        ["PRAGMA application_id = 7"],
        ["PRAGMA user_version = 1"],
        ["PRAGMA application_id = 7", f"PRAGMA user_version = {VERSION}"],
    ],
)
def test_another_programs_database_is_refused(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "state.db"
    make(path, *statements)
    assert "another program's database" in refused(path)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"a letter to somebody\n" * 100)
    assert "is not a database" in refused(path)


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    asyncio.run(opened(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
