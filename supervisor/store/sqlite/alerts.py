"""The ledger of alerts that all processes share: an outage is one, however many processes meet it.

Each function is one transaction, and gets its moment; those here are moments of the database's clock. What is held for
a summary stays in here when its processes end: the next one that claims, or collects, tells of it.
"""

from typing import TYPE_CHECKING

from policies import alerting
from policies.alerting import (
    HOLD,
    MINUTE_S,
    MOST_A_MINUTE,
    SOME_SESSIONS,
    AlertKind,
    Minute,
    Send,
    Summary,
    Summed,
    Told,
)
from supervisor.alerts.ledger import Claimed, Collected

if TYPE_CHECKING:
    from sqlite3 import Connection

    from supervisor.store.sqlite.store import SqliteStore


class SharedLedger:
    """See `AlertLedger`."""

    def __init__(self, store: "SqliteStore") -> None:
        self._store = store

    async def claim(self, kind: AlertKind, session: str) -> Claimed:
        return await self._store.database.run(claim, kind, session, self._store.clock.boottime())

    async def collect(self, *, leaving: bool) -> Collected:  # noqa: ARG002 - what is held is everybody's
        return await self._store.database.run(collect, self._store.clock.boottime())


def claim(database: "Connection", kind: AlertKind, session: str, now: float) -> Claimed:
    """Decide on an alert, and write the decision down."""
    summary = _due(database, now)
    row = database.execute("SELECT sent_at, repeats FROM alerts_sent WHERE session = ? AND kind = ?", (session, kind))
    known = row.fetchone()
    told, minute, answer = alerting.claim(None if known is None else Told(*known), _minute(database, now), now)
    database.execute(
        "INSERT INTO alerts_sent VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET sent_at = excluded.sent_at, repeats = excluded.repeats",
        (session, kind, told.at, told.repeats),
    )
    if isinstance(answer, Send) or answer is HOLD:
        _forget(database, now)
        database.execute(
            "INSERT INTO alerts_recent (at, kind, session, sent) VALUES (?, ?, ?, ?)",
            (now, kind, session, answer is not HOLD),
        )
    return Claimed(answer, summary, alerting.over_in_s(minute, now))


def collect(database: "Connection", now: float) -> Collected:
    """Take the summary, if its minute is over."""
    summary = _due(database, now)
    return Collected(summary, alerting.over_in_s(_minute(database, now), now))


def _minute(database: "Connection", now: float) -> Minute:
    # No row of a moment ahead: a clock that was set back would keep all of them silent.
    sent = database.execute(
        "SELECT at FROM alerts_recent WHERE sent = 1 AND at > ? AND at <= ? ORDER BY seq DESC LIMIT ?",
        (now - MINUTE_S, now, MOST_A_MINUTE),
    ).fetchall()
    held = database.execute("SELECT at FROM alerts_recent WHERE sent = 0 ORDER BY seq LIMIT 1").fetchone()
    return Minute(tuple(at for (at,) in reversed(sent)), None if held is None else held[0])


def _due(database: "Connection", now: float) -> Summary | None:
    minute = _minute(database, now)
    if minute.held_since is None or alerting.over_in_s(minute, now) != 0.0:
        return None
    counts = database.execute(
        "SELECT kind, COUNT(*) FROM alerts_recent WHERE sent = 0 GROUP BY kind ORDER BY MIN(seq)"
    ).fetchall()
    summed = tuple(Summed(AlertKind(kind), count, _some_sessions(database, kind)) for kind, count in counts)
    database.execute("DELETE FROM alerts_recent WHERE sent = 0")
    return Summary(summed, max(0.0, now - minute.held_since))


def _some_sessions(database: "Connection", kind: str) -> tuple[str, ...]:
    rows = database.execute(
        "SELECT session FROM alerts_recent WHERE sent = 0 AND kind = ? ORDER BY seq LIMIT ?", (kind, SOME_SESSIONS)
    )
    return tuple(session for (session,) in rows)


def _forget(database: "Connection", now: float) -> None:
    """Delete what no decision depends on; `alerting.is_forgotten`, in SQL."""
    database.execute("DELETE FROM alerts_recent WHERE sent = 1 AND (at <= ? OR at > ?)", (now - MINUTE_S, now))
    database.execute(
        "DELETE FROM alerts_sent WHERE sent_at > ? OR sent_at <= ? - CASE repeats WHEN 0 THEN ? ELSE ? END",
        (now, now, alerting.HOUR_S, alerting.FORGOTTEN_AFTER_S),
    )
