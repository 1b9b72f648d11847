"""The database, only read: without a row for the reader, and without making what is not there.

A reader blocks nobody and is blocked by nobody; it sees what was committed when it began.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite import schema
from supervisor.store.sqlite.unavailable import unavailable

ANSWER_S: Final = 1.0
"""A store that takes no transaction within this is not healthy."""


def is_there(path: Path) -> bool:
    """Tell whether there is a database; StoreUnavailable where its folder may not be read."""
    try:
        return path.exists()
    except OSError as error:
        raise StoreUnavailable(f"the state {path} cannot be read: {error.strerror}") from error


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Give a connection that sees one moment of the database; None: there is no database yet, or nothing in it.

    Raises StoreUnavailable.
    """
    if not is_there(path):
        yield None
        return
    try:
        with _connected(path, "ro", ANSWER_S) as connection:
            connection.execute("BEGIN")
            yield connection if schema.version(connection, path) else None
    except sqlite3.Error as error:
        raise unavailable(path, error, ANSWER_S) from error


def must_answer(path: Path) -> None:
    """Raise StoreUnavailable unless the database, where there is one, takes a transaction within a second.

    One that is only read does not tell: whoever stands still inside a transaction stops writers alone.
    """
    if not is_there(path):
        return
    try:
        with _connected(path, "rw", ANSWER_S) as connection:
            connection.execute("BEGIN IMMEDIATE")
            schema.version(connection, path)
    except sqlite3.Error as error:
        raise unavailable(path, error, ANSWER_S) from error


@contextmanager
def _connected(path: Path, mode: str, busy_s: float) -> Iterator[sqlite3.Connection]:
    where = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(where, uri=True, timeout=busy_s, isolation_level=None)
    try:
        yield connection
    finally:
        with suppress(sqlite3.Error):
            connection.rollback()
        connection.close()
