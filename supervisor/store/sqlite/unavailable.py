"""What an error of SQLite means to a person, and what to do about it."""

import sqlite3
from pathlib import Path
from typing import Final

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite.busy import who_is_writing


def unavailable(path: Path, error: sqlite3.Error, busy_s: float) -> StoreUnavailable:
    """Return what an error of SQLite means to whoever asked, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if is_busy(error):
        return StoreUnavailable(
            f"the state {path} was locked for {busy_s:g} s by {who_is_writing(path)}: "
            "if that process is stopped, let it go on or end it"
        )
    for start, advice in _ADVICE.items():
        if name.startswith(start):
            return StoreUnavailable(f"the state {path} {advice} ({error})")
    return StoreUnavailable(f"the state {path} cannot be used: {error}")


_ADVICE: Final = {
    "SQLITE_NOTADB": "is not a database: it is left as it is; move it away, or name another with --state",
    "SQLITE_CORRUPT": "is damaged: it is left as it is; move it away to start anew, or restore it from a copy",
    "SQLITE_FULL": "cannot be written: the disk is full",
    "SQLITE_READONLY": "may not be written: give this user the right to, or name another with --state",
    "SQLITE_CANTOPEN": "cannot be opened: is its folder there, and may it be written?",
    "SQLITE_IOERR": "cannot be read or written: the disk is full, or failing",
    "SQLITE_PERM": "may not be opened by this user",
}


def is_busy(error: BaseException | None) -> bool:
    return (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY")
