"""What one supervised call costs beside the peers' full stacks: success, work that suspends once, two failures first.

python tests/benchmarks/bench_calls.py [--smoke] [--json]

Ours: breaker, budgets, gate, timeout, memory store, events without listeners. The work does nothing. Ratios of
medians of one run, whose cases take turns; absolute times are this machine's.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.gate import Gate
from policies.policy import AttemptLimits, Policy
from supervisor import Supervisor
from tests.benchmarks.measuring import Call, Row, medians_us, options, row, show
from tests.benchmarks.stacks import ATTEMPTS, NEVER, STACKS, TIMEOUT_S, Broken, Work

PERMITS: Final = 4
POLICY: Final = Policy(
    "bench",
    attempt=AttemptLimits(timeout_s=TIMEOUT_S),
    budget=Budget(ATTEMPTS, session=Bucket(capacity=NEVER)),
    backoff=Backoff(Strategy.FULL_JITTER, base_s=0.0),
    breaker=Breaker(failures=NEVER, minimum=NEVER),
    gate=Gate(PERMITS),
)


async def succeeds() -> int:
    return 1


async def suspends_once() -> int:
    await asyncio.sleep(0)
    return 1


def fails_twice() -> Work:
    """Return work that fails twice and then succeeds, again and again."""
    calls = 0

    async def work() -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise Broken("no")
        return 1

    return work


WORKS: Final[dict[str, Callable[[], Work]]] = {
    "success": lambda: succeeds,
    "suspends once": lambda: suspends_once,
    "fails twice": fails_twice,
}


def ours(supervisor: Supervisor, session: str, work: Work) -> Call:
    """Return a call of ours. Each case has a session of its own: one with failures in its window takes longer."""

    async def supervised(_: object) -> Any:
        return await work()

    return lambda: supervisor.run(session, supervised, policy=POLICY)


async def measure(rounds: int, calls: int) -> list[Row]:
    async with Supervisor() as supervisor:
        cases: dict[str, Call] = {}
        for name, make in WORKS.items():
            if name != "fails twice":
                cases[f"bare, {name}"] = make()
            cases[f"ours, {name}"] = ours(supervisor, name, make())
            for peer, stack in STACKS.items():
                call = stack(make(), PERMITS)
                if call is not None:
                    cases[f"{peer}, {name}"] = call
        for name, case in cases.items():
            assert getattr(answer := await case(), "value", answer) == 1, name
        found = await medians_us(cases, rounds, calls)

    def added(name: str, work: str) -> float | None:
        cost = found.get(f"{name}, {work}")
        return None if cost is None else cost - found.get(f"bare, {work}", 0.0)

    def line(work: str, peer: str, least: float | None, wanted: float | None) -> Row:
        cost = added("ours", work)
        assert cost is not None
        what = f"{work}, whole call" if work == "fails twice" else f"{work}, added to a bare await"
        return row(what, cost, "µs", least=least, wanted=wanted, peer=peer, theirs=added(peer, work))

    targets = {
        ("success", "pyresilience"): (1.0, 0.5),
        ("suspends once", "pyresilience"): (1.4, 1.0),
        ("fails twice", "hyx"): (1.0, None),
        ("fails twice", "pyresilience"): (2.1, 1.0),
    }
    return [line(work, peer, *targets.get((work, peer), (None, None))) for work in WORKS for peer in STACKS]


def main() -> None:
    asked = options(__doc__)
    rounds, calls = (3, 100) if asked.smoke else (9, 3000)
    show(asyncio.run(measure(rounds, calls)), as_json=asked.json)


if __name__ == "__main__":
    main()
