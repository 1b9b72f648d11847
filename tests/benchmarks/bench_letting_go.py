"""2,000 failing attempts in a row, each with a context of 10 MB: is each context dead before its backoff begins?

python tests/benchmarks/bench_letting_go.py [--smoke] [--json]

In turn by an exception, by the timeout and by the caller's cancellation, each in a shape that forms a circle, with the
cyclic collector off. Resident
memory at the end against that after the first 100. Exits with 1 where a context outlived its attempt.
"""

import asyncio
import gc
import sys
import weakref
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.policy import AttemptLimits, Policy
from policies.verdict import Reason
from supervisor import Attempt, RunFailed, Supervisor
from supervisor.clock import SystemClock
from tests.benchmarks.measuring import options, resident_bytes, row, show
from tests.benchmarks.stacks import NEVER, Broken

CONTEXT_BYTES: Final = 10_000_000
POLICY: Final = Policy(
    "bench",
    attempt=AttemptLimits(timeout_s=0.005),
    budget=Budget(attempts=3, session=Bucket(capacity=NEVER)),
    backoff=Backoff(Strategy.CONSTANT, base_s=1.0),
    breaker=Breaker(failures=NEVER, minimum=NEVER),
)


class Context:
    """What a turn builds up: messages, files, an answer so far."""

    def __init__(self) -> None:
        self.text = b"x" * CONTEXT_BYTES


class Watch(SystemClock):
    """A clock whose backoff takes no time, and which looks at the contexts as it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[Context]] = []
        self.backoffs = 0
        self.outlived: list[str] = []

    async def sleep(self, seconds: float) -> None:
        self.backoffs += 1
        self.look("a backoff")

    def look(self, when: str) -> None:
        alive = sum(ref() is not None for ref in self.made)
        if alive:
            self.outlived.append(f"{alive} contexts are alive at {when}, after attempt {len(self.made)}")
        self.made[:] = [ref for ref in self.made if ref() is not None]


async def fails(watch: Watch, attempt: Attempt) -> None:
    """Fail in a way of its own at each of the three attempts, each in a shape whose frames and exception hold each
    other: they would live until the cyclic collector comes.
    """
    context = Context()
    watch.made.append(weakref.ref(context))
    if attempt.number == 1:
        await raises_its_last_error(context)
    if attempt.number == 2:
        async with asyncio.timeout(60.0):  # the attempt's own timeout comes first
            await asyncio.sleep(60.0)
    asyncio.get_running_loop().call_soon(attempt._run.task.cancel)  # type: ignore[attr-defined]
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60.0, context))


async def raises_its_last_error(context: Context) -> None:
    last: Broken | None = None
    for _ in range(2):
        try:
            raise Broken(f"with {len(context.text)} bytes")  # noqa: TRY301
        except Broken as error:
            last = error
    assert last is not None
    raise last


async def measure(attempts: int, first: int) -> tuple[float, Watch]:
    """Return by how many bytes resident memory grew after the first attempts, and what was seen."""
    watch = Watch()
    after_first, made = 0, 0
    async with Supervisor(clock=watch) as supervisor:
        while made < attempts:
            run = asyncio.create_task(supervisor.run("session", lambda attempt: fails(watch, attempt), policy=POLICY))
            await asyncio.wait((run,))
            if not run.cancelled():
                error = run.exception()
                assert isinstance(error, RunFailed), error
                sys.exit(f"a run ended otherwise than meant: {error.report.reason or Reason.CANCELLED}")
            del run
            watch.look("the end of a run")
            made += 3
            if after_first == 0 and made >= first:
                after_first = resident_bytes()
        return resident_bytes() - after_first, watch


def main() -> None:
    asked = options(__doc__)
    attempts, first = (60, 15) if asked.smoke else (2000, 100)
    gc.disable()
    grown, watch = asyncio.run(measure(attempts, first))
    what = f"{attempts:,} failing attempts of {CONTEXT_BYTES / 1e6:g} MB: growth after the first {first}"
    notes = [f"{watch.backoffs} backoffs began; contexts that outlived their attempt: {len(watch.outlived)}"]
    show([row(what, grown / 1e6, "MB", least=5.0)], as_json=asked.json, notes=notes + watch.outlived[:10])
    sys.exit(1 if watch.outlived else 0)


if __name__ == "__main__":
    main()
