"""A long-lived supervisor of 74 jobs that time out, fail, crash and print 10 MB: python soak_host.py FOLDER SECONDS.

In rounds: each job once, then, with all at rest, a line of JSON about what this process and its state have come to.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from supervisor import Attempt, Command, Supervisor
from supervisor.settings.values import Limits, Settings, State
from supervisor.store.of_settings import durable_store
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import descriptors

JOBS = 74
KEEP_RUNS = 300
POLICY = rules(attempts=2, capacity=1e6, backoff_s=0.01, timeout_s=0.3, grace_s=0.2, failures=10**6, cooldown_s=0.5)
PATIENT = rules(attempts=2, capacity=1e6, backoff_s=0.01, timeout_s=20.0, grace_s=0.2, failures=20, cooldown_s=0.5)
PRINTS = "head -c 10485760 /dev/zero | tr '\\0' x; exit 3"


class Odd(Exception):
    """Keeps what it can: itself, and a megabyte."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__("the job fails")
        self.kept = (self, attempt, bytearray(1 << 20))

    def raised(self) -> bytes:
        raise self


async def fails(attempt: Attempt) -> None:
    large = bytearray(1 << 20)
    try:
        await succeeds(attempt)
        large += Odd(attempt).raised()
    except Odd as error:
        raise RuntimeError(f"after {len(large)}") from error


async def hangs(attempt: Attempt) -> None:
    large = bytearray(1 << 20)
    try:
        await asyncio.sleep(60)
    finally:
        del large


async def succeeds(attempt: Attempt) -> bytes:
    await asyncio.sleep(0.01)
    return bytes(1 << 16)


def work_of(job: int) -> tuple[Any, Any]:
    """Return a job's work and policy: most are calls, each tenth is a command that is trouble."""
    match job % 10:
        case 0:
            commands = [["sh", "-c", "kill -9 $$"], ["sh", "-c", PRINTS], ["sh", "-c", "sleep 60 & sleep 60"]]
            command = commands[job // 10 % 3]
            return Command(command), POLICY if command[2].startswith("sleep") else PATIENT
        case 1 | 2 | 3:
            return hangs, POLICY
        case 4 | 5 | 6:
            return fails, POLICY
        case _:
            return succeeds, POLICY


def facts(folder: Path, ends: Counter[str]) -> dict[str, Any]:
    gc.collect()  # the jobs make circles
    ctypes.CDLL(None).malloc_trim(0)  # what is free in the heap comes and goes by tens of MiB
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": sorted(target for _, target in descriptors() if not target.startswith("/proc/")),
        "threads": threading.active_count(),
        "state": sum(path.stat().st_size for path in folder.glob("state.db*")),
        "alive": len(os.listdir(folder / "alive")),
        "ends": ends,
    }


async def main(folder: Path, seconds: float) -> None:
    state = State(url=f"sqlite://{folder}/state.db", keep_runs=KEEP_RUNS)
    settings, ends = Settings(state=state, limits=Limits(running=16)), Counter[str]()
    loop = asyncio.get_running_loop()

    async def do(supervisor: Supervisor, job: int) -> None:
        work, policy = work_of(job)
        report = await supervisor.run_report(f"job-{job}", work, policy=policy)
        ends[report.reason or report.status] += 1

    async with Supervisor(settings, store=durable_store(state)) as supervisor:
        until = loop.time() + seconds
        while loop.time() < until:
            await asyncio.gather(*(do(supervisor, job) for job in range(JOBS)))
            await asyncio.sleep(0.05)
            print(json.dumps(facts(folder, ends)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
