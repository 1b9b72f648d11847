"""A process that opens a state at the same moment as others: see `hosts`. Exit status 0: it could, and it was right."""

import asyncio
import time
from pathlib import Path

from supervisor import Attempt, Supervisor
from supervisor.store.sqlite.store import SqliteStore
from tests.supervisor.rules import rules


def main(state: str, at: float) -> None:
    while time.monotonic() < at:
        pass
    asyncio.run(_open(Path(state)))


async def _open(state: Path) -> None:
    async def work(attempt: Attempt) -> None:
        pass

    async with Supervisor(store=SqliteStore(state)) as supervisor:
        await supervisor.run("s", work, policy=rules())
