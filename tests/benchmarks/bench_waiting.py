"""What 10,000 callers cost the processor while they wait for a start, 100 of which are given each second.

python tests/benchmarks/bench_waiting.py [--smoke] [--json]

The share is of one core, after all have joined the line. Beside it the same on asyncio-throttle alone, whose waiters
each ask again every 10 ms.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from asyncio_throttle.throttler import Throttler

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor import Supervisor
from supervisor.settings.values import Limits, Settings
from tests.benchmarks.measuring import Row, options, row, show

STARTS: Final = (100, 1.0)


async def share_of_a_core(call: Callable[[int], Coroutine[Any, Any, object]], callers: int, seconds: float) -> float:
    """Return the processor time, in percent of one core, while so many callers wait."""
    tasks = [asyncio.create_task(call(n)) for n in range(callers)]
    await asyncio.sleep(0.5)  # all have joined, and the first starts are given
    wall, processor = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - processor) / (time.perf_counter() - wall)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    started = sum(not isinstance(end, BaseException) for end in ended)
    periods = 1 + (0.5 + seconds) // STARTS[1]
    if started > STARTS[0] * (periods + 1):
        sys.exit(f"{started} starts were given in {0.5 + seconds:g} s")
    return 100.0 * share


async def measure(callers: int, seconds: float) -> list[Row]:
    async def work(_: object) -> None:
        """Take no time: the callers behind are what costs."""

    async with Supervisor(Settings(limits=Limits(starts=STARTS))) as supervisor:
        ours = await share_of_a_core(lambda n: supervisor.run(f"session {n}", work), callers, seconds)

    throttler = Throttler(*STARTS)

    async def alone(_: int) -> None:
        async with throttler:
            pass

    theirs = await share_of_a_core(alone, callers, seconds)
    what = f"{callers:,} callers waiting for a start at {STARTS[0]}/s, share of one core"
    return [
        row(what, ours, "%", least=5.0, wanted=1.0),
        row("the same", ours, "%", peer="asyncio-throttle", theirs=theirs),
    ]


def main() -> None:
    asked = options(__doc__)
    callers, seconds = (500, 0.6) if asked.smoke else (10_000, 3.0)
    show(asyncio.run(measure(callers, seconds)), as_json=asked.json)


if __name__ == "__main__":
    main()
