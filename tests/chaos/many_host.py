"""A program that uses the library, for the chaos tests: python many_host.py STATE SETTINGS SESSION LOG SECONDS PAUSE

It runs work of its own process, which says in LOG when it starts and ends. At its end it prints how its run ended.
To let itself be cancelled, the work takes PAUSE seconds.
"""

import asyncio
import os
import sys
from pathlib import Path

from supervisor import Attempt, Supervisor
from supervisor.settings.read import read_settings
from supervisor.store.sqlite.store import SqliteStore


async def main(state: str, settings: str, session: str, log: str, seconds: float, pause_s: float) -> None:
    to = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def work(attempt: Attempt) -> None:
        who = f"{attempt.run_id}.{attempt.number}"
        os.write(to, f"start {who}\n".encode())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(pause_s)
            raise
        finally:
            os.write(to, f"end {who}\n".encode())

    async with Supervisor(read_settings(Path(settings)), store=SqliteStore(Path(state))) as supervisor:
        report = await supervisor.run_report(session, work)
    print(report.status, report.reason, len(report.attempts))


if __name__ == "__main__":
    state, settings, session, log, seconds, pause = sys.argv[1:]
    asyncio.run(main(state, settings, session, log, float(seconds), float(pause)))
