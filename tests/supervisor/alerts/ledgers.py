"""The ledgers: the one of a process, and the one of a database, on one's own clock."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from policies.alerting import AlertKind
from supervisor.alerts.ledger import Claimed, Collected
from supervisor.store.sqlite import alerts, schema


class DatabaseLedger:
    """The ledger in a database, as a store asks it: each call one transaction. Several may share a file."""

    def __init__(self, now: Callable[[], float], path: Path | str = ":memory:") -> None:
        self.now = now
        self.database = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        schema.prepare(self.database, Path(path))

    async def claim(self, kind: AlertKind, session: str) -> Claimed:
        return self.claim_now(kind, session)

    def claim_now(self, kind: AlertKind, session: str) -> Claimed:
        self.database.execute("BEGIN IMMEDIATE")
        claimed = alerts.claim(self.database, kind, session, self.now())
        self.database.execute("COMMIT")
        return claimed

    async def collect(self, *, leaving: bool) -> Collected:
        self.database.execute("BEGIN IMMEDIATE")
        collected = alerts.collect(self.database, self.now())
        self.database.execute("COMMIT")
        return collected

    def close(self) -> None:
        self.database.close()
