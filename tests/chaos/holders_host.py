"""A supervisor's process among eight, on a few sessions: see `hosts`. It may be killed, or stopped, at any moment.

Work writes each moment that it lives to one file, with its session and its fence: nothing of the product judges that.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

from supervisor import Attempt, Command, Status, Supervisor
from supervisor.store.sqlite.store import SqliteStore
from tests.supervisor.rules import rules

SESSIONS = ("a", "b", "c", "d", "e")
LEASE_S = 1.0
ATTEMPTS = 3
POLICY = rules(
    attempts=ATTEMPTS, capacity=1e6, backoff_s=0.01, timeout_s=5.0, grace_s=0.1, failures=10**6, queue=100, wait_s=30.0
)


def main(folder: str, seed: int) -> None:
    """Run until the file `stop` is there."""
    asyncio.run(_run_on(Path(folder), random.Random(seed)))


async def _run_on(folder: Path, dice: random.Random) -> None:
    async with Supervisor(store=SqliteStore(folder / "state.db", LEASE_S)) as supervisor:
        await asyncio.gather(*(_take_turns(supervisor, folder, dice) for _ in range(2)))


async def _take_turns(supervisor: Supervisor, folder: Path, dice: random.Random) -> None:
    while not (folder / "stop").exists():
        work: Any = Turn(folder / "log", dice) if dice.random() < 0.5 else CommandTurn(folder / "log", dice)
        report = await supervisor.run_report(dice.choice(SESSIONS), work, policy=POLICY)
        if report.status is Status.REFUSED:  # quarantined for a while
            await asyncio.sleep(0.05)


class Turn:
    """Work in the process itself: as long as that lives, nobody else may work on the session."""

    def __init__(self, log: Path, dice: random.Random) -> None:
        self._log, self._dice = log, dice

    async def __call__(self, attempt: Attempt) -> None:
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        about = f"{attempt.session} {attempt.fence}\n"
        try:
            os.write(log, f"start {about}".encode())
            for _ in range(5):
                os.write(log, f"tick {about}".encode())
                await asyncio.sleep(0.01)
            os.write(log, f"end {about}".encode())
        finally:
            os.close(log)
        if self._dice.random() < 0.3:
            raise ValueError("it fails now and then")


class CommandTurn(Command):
    """A command: it may be taken from an owner that stands still, once its tree is proved gone.

    One in six lives for longer than a lease.
    """

    def __init__(self, log: Path, dice: random.Random) -> None:
        super().__init__(["sh", str(Path(__file__).with_name("holder_work.sh")), str(log)])
        self._ticks = dice.choice([5, 5, 5, 5, 5, 150])

    async def start(self, attempt: Attempt) -> Any:
        self.argv = (*self.argv[:3], attempt.session, str(attempt.fence), str(self._ticks))
        return await super().start(attempt)
