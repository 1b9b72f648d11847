"""10,000 calls at once over 1,000 sessions, against pyresilience with warm tables; and what a session costs in memory.

python tests/benchmarks/bench_scale.py [--smoke] [--json]

Memory is resident memory of a fresh process, before and after, keys included: a healthy session that ran once must
leave nothing, one whose only run failed leaves its breaker's row.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.budget import Budget
from policies.gate import Gate
from policies.policy import AttemptLimits, Policy
from supervisor import Supervisor
from tests.benchmarks.measuring import Row, child, options, resident_bytes, row, show
from tests.benchmarks.stacks import TIMEOUT_S, Broken, Work, pyresilience_stack

POLICY: Final = Policy("bench", attempt=AttemptLimits(timeout_s=TIMEOUT_S), gate=Gate(queue=1000))
ONCE: Final = Policy("once", attempt=AttemptLimits(timeout_s=TIMEOUT_S), budget=Budget(attempts=1))


async def succeeds(_: object = None) -> int:
    return 1


async def suspends_once(_: object = None) -> int:
    await asyncio.sleep(0)
    return 1


async def breaks(_: object) -> None:
    raise Broken("no")


def peers_table(work: Work, sessions: list[str]) -> dict[str, Work] | None:
    table: dict[str, Work] = {}
    for session in sessions:
        call = pyresilience_stack(work, permits=1)
        if call is None:
            return None
        table[session] = call
    return table


async def calls_per_s(call: Callable[[str], Awaitable[Any]], names: list[str]) -> float:
    gc.collect()
    start = time.perf_counter()
    await asyncio.gather(*[call(name) for name in names])
    return len(names) / (time.perf_counter() - start)


async def at_once(calls: int, sessions: int, rounds: int) -> list[Row]:
    keys = [f"session {n}" for n in range(sessions)]
    names = [keys[n % sessions] for n in range(calls)]
    rows = []
    async with Supervisor() as supervisor:
        for what, work, least, wanted in (
            ("never suspends", succeeds, 1.0, 1.5),
            ("suspends once", suspends_once, 0.8, 1.0),
        ):
            table = peers_table(work, keys)

            async def ours(name: str, work: Callable[[object], Awaitable[int]] = work) -> Any:
                return await supervisor.run(name, work, policy=POLICY)

            async def theirs(name: str, table: dict[str, Work] | None = table) -> Any:
                assert table is not None
                return await table[name]()

            cases: dict[str, Callable[[str], Awaitable[Any]]] = {"ours": ours}
            if table is not None:
                cases["theirs"] = theirs
            found: dict[str, list[float]] = {name: [] for name in cases}
            for round_ in range(rounds + 1):
                for name, case in cases.items():
                    speed = await calls_per_s(case, names)
                    if round_:  # the first warms up
                        found[name].append(speed)
            medians = {name: statistics.median(speeds) for name, speeds in found.items()}
            rows.append(
                row(
                    f"{calls:,} calls at once over {sessions:,} sessions, {what}",
                    medians["ours"],
                    "calls/s",
                    least=least,
                    wanted=wanted,
                    more_is_better=True,
                    peer="pyresilience",
                    theirs=medians.get("theirs"),
                )
            )
    return rows


async def memory(measure: str, sessions: int) -> int:
    """Return by how many bytes resident memory grew while each of so many sessions had one run."""
    work, policy = (breaks, ONCE) if measure == "failed" else (succeeds, POLICY)
    async with Supervisor() as supervisor:
        for n in range(1000):
            await supervisor.run_report(f"warm {n}", work, policy=policy)
        gc.collect()
        before = resident_bytes()
        for n in range(sessions):
            await supervisor.run_report(f"session {n}", work, policy=policy)
        gc.collect()
        return resident_bytes() - before


def memory_rows(*, smoke: bool) -> list[Row]:
    healthy, failed = sizes(smoke=smoke)
    all_healthy = max(0, child(__file__, "healthy", smoke=smoke)) / 1e6
    each_failed = child(__file__, "failed", smoke=smoke) / failed
    return [
        row(f"{healthy:,} sessions that ran once and are healthy, in all", all_healthy, "MB", least=1.0),
        row(f"a session whose one run failed, of {failed:,}", each_failed, "bytes", least=600.0, wanted=300.0),
    ]


def sizes(*, smoke: bool) -> tuple[int, int]:
    return (20_000, 5_000) if smoke else (1_000_000, 100_000)


def main() -> None:
    asked = options(__doc__)
    if asked.measure:
        healthy, failed = sizes(smoke=asked.smoke)
        print(json.dumps(asyncio.run(memory(asked.measure, failed if asked.measure == "failed" else healthy))))
        return
    calls, sessions, rounds = (1000, 100, 2) if asked.smoke else (10_000, 1_000, 7)
    rows = asyncio.run(at_once(calls, sessions, rounds)) + memory_rows(smoke=asked.smoke)
    show(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
