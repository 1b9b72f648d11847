"""The processes that have the database open, as rows: each says where its life file is, and when it was last heard."""

from pathlib import Path
from typing import Final, NamedTuple, Protocol

from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.asking import Connection, Moment
from supervisor.store.sqlite.rows import breaker_of, breaker_text, moved


class Owner(NamedTuple):
    """A process. `renewed_at`: of the store's clock, when it last wrote that it lives."""

    id: str
    pid: int
    life: str
    renewed_at: float


class Life(Protocol):
    """What says, for as long as this process lives, that it does."""

    @property
    def path(self) -> Path: ...
    def close(self) -> None: ...


def register(database: Connection, owner: Owner, boot_id: str, moment: Moment) -> int:
    """Write a new owner down, and return the number of the newest news: what is older is not for it."""
    _follow_the_boot(database, boot_id, moment)
    database.execute(
        "INSERT INTO owners(id, pid, life, renewed_at, started_wall) VALUES (?, ?, ?, ?, ?)",
        (owner.id, owner.pid, owner.life, moment.at, moment.wall),
    )
    [newest] = database.execute("SELECT coalesce(max(seq), 0) FROM news").fetchone()
    return int(newest)


def renew(database: Connection, owner: str, moment: Moment) -> list[str]:
    """Write that an owner lives; return its runs that are under way."""
    database.execute("UPDATE owners SET renewed_at = ? WHERE id = ?", (moment.at, owner))
    _note_clocks(database, moment)
    rows = database.execute("SELECT id FROM runs WHERE owner = ? AND state <> 'ended'", (owner,))
    return [run_id for (run_id,) in rows]


def others(database: Connection, owner: str) -> list[Owner]:
    """Return every other owner."""
    rows = database.execute("SELECT id, pid, life, renewed_at FROM owners WHERE id <> ?", (owner,))
    return [Owner(*row) for row in rows]


def note_serving(database: Connection, owner: str) -> None:
    """Write that an owner runs jobs when they are due."""
    database.execute("UPDATE owners SET serves = 1 WHERE id = ?", (owner,))


def serving(database: Connection) -> list[Owner]:
    """Return the owners that run jobs, the dead ones too that nobody has found yet."""
    rows = database.execute("SELECT id, pid, life, renewed_at FROM owners WHERE serves")
    return [Owner(*row) for row in rows]


def unregister(database: Connection, owner: str) -> bool:
    """Forget an owner of whom nothing is left; False: a run, or tasks that may live as long as its process."""
    under_way = "SELECT 1 FROM runs WHERE owner = ? AND state <> 'ended' LIMIT 1"
    quarantined = "SELECT 1 FROM quarantines WHERE owner = ? AND tasks LIMIT 1"
    for question in (under_way, quarantined):
        if database.execute(question, (owner,)).fetchone() is not None:
            return False
    database.execute("DELETE FROM owners WHERE id = ?", (owner,))
    return True


def _follow_the_boot(database: Connection, boot_id: str, moment: Moment) -> None:
    """After a reboot the clock has begun anew: move what was written by the old one, once, by the time of the day."""
    meta = dict(database.execute("SELECT key, value FROM meta").fetchall())
    if meta.get("boot_id") == boot_id:
        _note_clocks(database, moment)
        return
    if "boot_id" in meta:
        since = max(0.0, moment.wall - meta["wall"])
        by = moment.at - (meta["at"] + since)
        # No moment may lie further ahead than its rule allows, whatever the time of day has become.
        for session, breaker, spent_at in database.execute(
            "SELECT session, breaker, spent_at FROM sessions"
        ).fetchall():
            text = breaker_text(moved(breaker_of(breaker), by, moment.at))
            at = min(moment.at, spent_at + by)
            database.execute("UPDATE sessions SET breaker = ?, spent_at = ? WHERE session = ?", (text, at, session))
        database.execute("UPDATE runs SET deadline_at = deadline_at + ? WHERE state <> 'ended'", (by,))
        database.execute(  # when a retry is due that somebody may adopt
            "UPDATE attempts SET verdict = json_set(verdict, '$.at', json_extract(verdict, '$.at') + ?)"
            " WHERE json_extract(verdict, '$.action') = 'retry'"
            " AND run IN (SELECT seq FROM runs WHERE state <> 'ended')",
            (by,),
        )
        began = "UPDATE attempts SET began_at = min(?, began_at + ?) WHERE outcome IS NULL"
        database.execute(began, (moment.at, by))
        for table, column in _PAST:
            move = f"UPDATE {table} SET {column} = min(?, {column} + ?)"  # noqa: S608 - of constants
            database.execute(move, (moment.at, by))
        ledger.post(database, "", "changed")
    database.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id,))
    _note_clocks(database, moment)


_PAST: Final = (
    ("owners", "renewed_at"),
    ("quarantines", "known_at"),
    ("alerts_sent", "sent_at"),
    ("alerts_recent", "at"),
)
"""Columns with moments that have passed."""


def _note_clocks(database: Connection, moment: Moment) -> None:
    """Note both clocks of one moment: the time of day may have been set since the last pair."""
    for key, value in (("at", moment.at), ("wall", moment.wall)):
        database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
