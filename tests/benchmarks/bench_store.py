"""What the durable store costs: an attempt in it, runs a second through it, a session handed over, and waiting.

python tests/benchmarks/bench_store.py [--smoke] [--json]

Wall-clock figures, but for the first: a busy machine shows in them.
"""

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.budget import Budget
from policies.failure import Gone
from policies.gate import Gate
from policies.policy import Policy
from supervisor import Attempt, Supervisor
from supervisor.clock import SystemClock
from supervisor.events import Events
from supervisor.store.contract import Standing
from supervisor.store.sqlite.store import SqliteStore
from tests.benchmarks.measuring import Row, medians_us, options, row, show

POLICY: Final = Policy("bench", gate=Gate(queue=10_000, wait_s=3600.0), budget=Budget(deadline_s=None))
KEYS: Final = [f"session {number}" for number in range(100)]


class Run(Standing):
    """A run without an engine around it."""

    policy = POLICY
    begins_at_once = True

    def __init__(self, number: int) -> None:
        self.session, self.name = KEYS[number % len(KEYS)], f"run-{number}"

    @property
    def run_id(self) -> str:
        return self.name


class RawLease:
    """What anybody writes who needs a lease in SQLite: one row, taken in one transaction, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._open, path).result()
        self._count = 0

    def _open(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("CREATE TABLE leases(session TEXT PRIMARY KEY, fence INTEGER, owner TEXT, until REAL)")
        self._connection.executemany("INSERT INTO leases(session, fence) VALUES (?, 0)", [(key,) for key in KEYS])

    async def take(self) -> None:
        self._count += 1
        await asyncio.get_running_loop().run_in_executor(self._thread, self._take, KEYS[self._count % len(KEYS)])

    def _take(self, session: str) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            "UPDATE leases SET fence = fence + 1, owner = ?, until = ? WHERE session = ? RETURNING fence",
            ("me", time.monotonic() + 30.0, session),
        ).fetchone()
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


async def attempts(folder: Path, *, smoke: bool) -> list[Row]:
    """A durable attempt against one raw lease, each through its own thread, in the processor's time."""
    raw, count = RawLease(folder / "raw.db"), 0
    store = SqliteStore(folder / "attempts" / "state.db")
    await store.open(SystemClock(), Events(), None)

    async def attempt() -> None:
        nonlocal count
        count += 1
        run = Run(count)
        assert await store.arrive(run) is None
        assert await store.begin(run) is None
        await store.record(run, None, Gone(), None)

    found = await medians_us({"raw": raw.take, "ours": attempt}, 3 if smoke else 15, 100 if smoke else 400)
    await store.close()
    raw.close()
    what = "a durable attempt: arrive, begin, record"
    return [row(what, found["ours"], "us", least=4.0, peer="one raw lease", theirs=found["raw"])]


# --- runs a second


async def nothing(_: Attempt) -> None:
    """Work that costs nothing."""


async def runs_per_s(state: Path, sessions: str, runs: int) -> float:
    """Return how many runs a second one process does, of sessions that nobody else has."""
    async with Supervisor(store=SqliteStore(state)) as supervisor:
        await asyncio.gather(*[supervisor.run(f"{sessions} {number}", nothing, policy=POLICY) for number in range(100)])
        print(json.dumps("ready"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        start = time.perf_counter()
        await asyncio.gather(
            *[supervisor.run(f"{sessions} {number}", nothing, policy=POLICY) for number in range(runs)]
        )
        return runs / (time.perf_counter() - start)


def together(folder: Path, processes: int, runs: int) -> float:
    """Return how many runs a second so many processes do in one state."""
    state = folder / f"{processes} together" / "state.db"
    each = [Other("runs", str(state), f"of {number}", str(runs // processes)) for number in range(processes)]
    for other in each:
        assert other.hear() == "ready"
    for other in each:
        other.say("go")
    found = sum(other.hear() for other in each)
    for other in each:
        other.end()
    return float(found)


class Other:
    """Another process of this script, spoken with by lines of JSON."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--measure", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


# --- from one process to another


async def hands_over(state: Path, times: int) -> list[tuple[float, float]]:
    """Take a session so often, in turns with another process; return when it was let in, and when its work ended."""
    held: list[tuple[float, float]] = []

    async def hold(_: Attempt) -> None:
        began = time.monotonic()
        await asyncio.sleep(0.02)  # so that the other one stands in line by then
        held.append((began, time.monotonic()))

    async with Supervisor(store=SqliteStore(state)) as supervisor:
        for _ in range(times):
            await supervisor.run("handed over", hold, policy=POLICY)
    return held


def hand_off_ms(folder: Path, times: int) -> float:
    """Return the median time from the end of one process's work to the start of the other's."""
    state = str(folder / "handed" / "state.db")
    both = [Other("hands", state, str(times)) for _ in range(2)]
    turns = sorted([(*turn, number) for number, other in enumerate(both) for turn in other.hear()])
    for other in both:
        other.end()
    gaps = [after[0] - before[1] for before, after in pairwise(turns) if after[2] != before[2]]
    return float(statistics.median(gaps)) * 1e3


# --- many who wait


async def waits(state: Path, number: int, sessions: int) -> None:
    """Have so many runs of this process wait in line, until told to go; the first process holds every session."""
    held = asyncio.Event()

    async def work(_: Attempt) -> None:
        await held.wait()

    async with Supervisor(store=SqliteStore(state)) as supervisor:
        runs = [
            asyncio.ensure_future(
                supervisor.run_report(f"session {key}", work if number == 0 else nothing, policy=POLICY)
            )
            for key in range(sessions)
        ]
        until = sessions if number == 0 else 0
        while sum(run.holds_permit for run in supervisor._runs) < until or len(supervisor._runs) < sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        print(json.dumps("ready"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)


def waiting_share(folder: Path, sessions: int, seconds: float) -> float:
    """Return the largest share of a core that one of four processes uses whose runs wait for those of a fifth."""
    state = str(folder / "waiting" / "state.db")
    others = []
    for number in range(5):
        others.append(Other("waits", state, str(number), str(sessions if number == 0 else sessions // 4)))
        assert others[-1].hear() == "ready"
    waiting = others[1:]
    before = [other.cpu_s() for other in waiting]
    time.sleep(seconds)
    share = max(other.cpu_s() - was for other, was in zip(waiting, before, strict=True)) / seconds
    for other in reversed(others):
        other.say("go")
        other.end()
    return share * 100


def of_a_child(what: str, state: str, *arguments: str) -> Any:
    """Do what another process of this script was asked for."""
    match what:
        case "runs":
            return asyncio.run(runs_per_s(Path(state), arguments[0], int(arguments[1])))
        case "hands":
            return asyncio.run(hands_over(Path(state), int(arguments[0])))
        case _:
            return asyncio.run(waits(Path(state), int(arguments[0]), int(arguments[1])))


def measure(folder: Path, *, smoke: bool) -> list[Row]:
    rows = asyncio.run(attempts(folder, smoke=smoke))
    runs, rounds = (400, 1) if smoke else (4000, 3)
    for processes, least in ((1, 1000.0), (2, 1200.0)):
        best = max(together(folder / str(round_), processes, runs) for round_ in range(rounds))
        what = f"supervised runs through the store, {processes} process{'es' if processes > 1 else ''}"
        rows.append(row(what, best, "runs/s", least=least, more_is_better=True))
    hand_off = hand_off_ms(folder, 10 if smoke else 100)
    rows.append(row("a session from one process to another, median", hand_off, "ms", least=10.0))
    sessions, seconds = (200, 1.0) if smoke else (10_000, 10.0)
    share = waiting_share(folder, sessions, seconds)
    rows.append(row(f"{sessions:,} sessions that wait in 4 processes: the busiest", share, "% of a core", least=10.0))
    return rows


def main() -> None:
    asked = options(__doc__)
    if asked.measure:
        print(json.dumps(of_a_child(*json.loads(asked.measure))), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        show(measure(Path(folder), smoke=asked.smoke), as_json=asked.json)


if __name__ == "__main__":
    main()
