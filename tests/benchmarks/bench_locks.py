"""What the session lock costs beside filelock's AsyncSoftFileLock, and how fast it goes from one process to the next.

python tests/benchmarks/bench_locks.py [--smoke] [--json]

Ratios of medians of one run; absolute times are this machine's. filelock is needed for the comparison only.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import filelock

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.policy import LockRule
from supervisor.clock import SystemClock
from supervisor.lock import session_lock
from supervisor.lock.session_lock import HeldLock, LockWait, SystemLockFiles

CLOCK: Final = SystemClock()
LOCKS: Final = SystemLockFiles(CLOCK)
RULE: Final = LockRule(wait_s=60.0)
WAIT: Final = LockWait(CLOCK, None, lambda busy: None, lambda path, proof: None)
WANTED: Final = {"ratio": (0.5, 0.2), "hand_off_ms": (15.0, 5.0)}  # at least, wanted


async def take(transcript: Path) -> HeldLock:
    return await session_lock.take(LOCKS, transcript, RULE, 60, WAIT)


async def cost_us(cycle: Callable[[], Awaitable[None]], rounds: int, batch: int) -> float:
    """Return the median over rounds of what one cycle costs, in microseconds."""
    await cycle()
    costs = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(batch):
            await cycle()
        costs.append((time.perf_counter() - start) / batch * 1e6)
    return statistics.median(costs)


async def cycles(folder: Path, *, smoke: bool) -> dict[str, float]:
    """Take and release a lock that nobody else wants: three ways, in turn."""
    soft = filelock.AsyncSoftFileLock(str(folder / "soft.lock"))

    async def now() -> None:
        held = LOCKS.take_now(folder / "now.jsonl", 60)
        assert held is not None
        held.release()

    async def waiting() -> None:
        (await take(folder / "take.jsonl")).release()

    async def peer() -> None:
        async with soft:
            pass

    rounds, batch = (3, 20) if smoke else (9, 300)
    return {
        "take_now + release": await cost_us(now, rounds, batch),
        "await take + release": await cost_us(waiting, rounds, batch),
        "filelock.AsyncSoftFileLock": await cost_us(peer, rounds, batch),
    }


def second_process(folder: str, orders: Connection) -> None:
    """For each order: take the lock, say when it was taken, and release it."""

    async def go(transcript: Path) -> None:
        orders.send("waiting")
        held = await take(transcript)
        orders.send(time.monotonic())
        held.release()
        orders.send("released")

    while (name := orders.recv()) is not None:
        asyncio.run(go(Path(folder, name)))


def hand_offs_ms(folder: Path, hold_s: float, rounds: int) -> list[float]:
    """Return the times between a release here and the taking there, after the lock was held for so long."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=second_process, args=(str(folder), theirs), daemon=True)
    other.start()
    found = []
    for _ in range(rounds):
        held = LOCKS.take_now(folder / "hand-off.jsonl", 60)
        assert held is not None
        ours.send("hand-off.jsonl")
        assert ours.recv() == "waiting"
        time.sleep(hold_s)
        start = time.monotonic()
        held.release()
        found.append((ours.recv() - start) * 1e3)
        assert ours.recv() == "released"
    ours.send(None)
    other.join(10)
    return found


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    costs = asyncio.run(cycles(folder, smoke=smoke))
    peer = costs["filelock.AsyncSoftFileLock"]
    holds = {0.02: 3} if smoke else {0.02: 60, 3.0: 7}
    return {
        "python": sys.version.split()[0],
        "cycle_us": costs,
        "ratio": {name: cost / peer for name, cost in costs.items()},
        "hand_off_ms": {
            f"{hold_s:g} s": {"median": statistics.median(found), "longest": max(found), "rounds": len(found)}
            for hold_s, rounds in holds.items()
            for found in [hand_offs_ms(folder, hold_s, rounds)]
        },
        "targets": WANTED,
    }


def show(found: dict[str, Any]) -> None:
    least, wanted = WANTED["ratio"]
    print(
        f"Python {found['python']}\n\n| take and release | µs | ratio (<= {least}, wanted <= {wanted}) |\n|---|---|---|"
    )
    for name, cost in found["cycle_us"].items():
        print(f"| {name} | {cost:.1f} | {found['ratio'][name]:.2f} |")
    least, wanted = WANTED["hand_off_ms"]
    print(f"\n| hand-off, held for | median ms (<= {least:g}, wanted <= {wanted:g}) | longest | rounds |")
    print("|---|---|---|---|")
    for held, times in found["hand_off_ms"].items():
        print(f"| {held} | {times['median']:.2f} | {times['longest']:.2f} | {times['rounds']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few rounds, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), smoke=options.smoke)
    print(json.dumps(found, indent=2)) if options.json else show(found)


if __name__ == "__main__":
    main()
