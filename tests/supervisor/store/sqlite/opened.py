"""A store over the real SQL on a virtual clock, a supervisor on it, and what a test reads of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from supervisor import Supervisor
from supervisor.store.sqlite import history
from supervisor.store.sqlite.overview import Overview, overview
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import InlineDatabase, SharedFile, VirtualClock, World

BOOT = "no boot of this machine"


class SomeLife:
    """A life file that nobody judges by."""

    def __init__(self, alive: Path, nonce: str, _: float) -> None:
        self.path = alive / nonce

    def close(self) -> None: ...


def store_on(file: SharedFile, name: str = "one", **how: Any) -> SqliteStore:
    """Return a store of a process of its own on a file."""
    database = InlineDatabase(file, World(VirtualClock()).process(name))
    return SqliteStore(Path("/state/state.db"), database=database, make_life=SomeLife, **how)


@asynccontextmanager
async def supervised(file: SharedFile, **how: Any) -> AsyncIterator[Supervisor]:
    """Give a supervisor whose store is on the file."""
    async with Supervisor(store=store_on(file, **how)) as supervisor:
        yield supervisor


def runs_in(file: SharedFile, **wanted: Any) -> list[dict[str, Any]]:
    return history.runs(file.connection, history.Wanted(**wanted))


def overview_of(file: SharedFile, at: float, wall: float) -> Overview:
    [boot_id] = file.connection.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    return overview(file.connection, boot_id, at, wall)


def number_of(file: SharedFile, table: str) -> int:
    [number] = file.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)
