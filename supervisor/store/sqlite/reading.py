"""The database, only read: without a row for the reader, and without making what is not there.

A reader blocks nobody and is blocked by nobody; it sees what was committed when it began.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite import schema
from supervisor.store.sqlite.place import is_there
from supervisor.store.sqlite.unavailable import unavailable

ANSWER_S: Final = 1.0
"""A store that takes no transaction within this is not healthy."""

_NO_ROOM_BESIDE: Final = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Give a connection that sees one moment of the database; None: there is no database yet, or nothing in it.

    Raises StoreUnavailable.
    """
    if not is_there(path):
        yield None
        return
    try:
        with _readable(path) as connection:
            yield connection if schema.version(connection, path) else None
    except sqlite3.Error as error:
        raise unavailable(path, error, ANSWER_S) from error


def must_answer(path: Path) -> None:
    """Raise StoreUnavailable unless the database, where there is one, takes a transaction within a second.

    One that is only read does not tell: whoever stands still inside a transaction stops writers alone.
    """
    if not is_there(path):
        return
    if not os.access(path, os.W_OK, effective_ids=True):  # SQLite would quietly open it to be read
        raise StoreUnavailable(f"the state {path} may not be written: every run ends with 69")
    try:
        with _closing(_connect(path, "mode=rw")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            schema.version(connection, path)
    except sqlite3.Error as error:
        raise unavailable(path, error, ANSWER_S) from error


@contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that is inside a transaction.

    To read, SQLite makes two files beside the database, or has to find them. Where it cannot (a read-only folder, a
    full disk) and no log is there, all is in the database itself, which is then read without them.
    """
    try:
        connection = _begun(path, "mode=ro")
    except sqlite3.Error as error:
        if not (error.sqlite_errorname or "").startswith(_NO_ROOM_BESIDE) or _log_is_there(path):
            raise
    else:
        with _closing(connection):
            yield connection
        return
    with _unchanged(path), _closing(_begun(path, "immutable=1")) as connection:
        yield connection


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raise StoreUnavailable if anybody has written meanwhile: then what was read may be of two moments."""
    before = _facts(path)
    try:
        yield
    finally:
        if _log_is_there(path) or _facts(path) != before:
            raise StoreUnavailable(f"the state {path} was written while it was read: ask again")


def _facts(path: Path) -> tuple[int, ...]:
    try:
        facts = os.stat(path)
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _log_is_there(path: Path) -> bool:
    """Tell whether there may be anything in the log beside the database."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _begun(path: Path, how: str) -> sqlite3.Connection:
    """Return a connection within a transaction that has seen the database."""
    connection = _connect(path, how)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    where = f"file:{quote(str(path.absolute()))}?{how}"
    return sqlite3.connect(where, uri=True, timeout=ANSWER_S, isolation_level=None)


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    finally:
        with suppress(sqlite3.Error):
            connection.rollback()
        connection.close()
