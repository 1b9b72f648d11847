"""Run seeds by hand.

python tests/simulation/seeds.py 17                      print the history of seed 17
python tests/simulation/seeds.py --seeds 100000          look for seeds that fail; --processes 2, --first 5000
python tests/simulation/seeds.py --case corpus/x.json    print the history of a scenario in a file
--many: of several processes, on SQL
--eager: attempts start eagerly, as they do outside of tests (3.12 and later; the history is then another one)
"""

import argparse
import itertools
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

_TOP = str(Path(__file__).parents[2])
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)

from tests.simulation.explain import explain, simulate_any  # noqa: E402 - the top of the repository must be importable first
from tests.simulation.generate import generate  # noqa: E402
from tests.simulation.many.generate import generate_many  # noqa: E402
from tests.simulation.scenario import Scenario, as_json, from_json  # noqa: E402

CHUNK = 500
MOST_EXPLAINED = 5


def failing(seeds: range, *, eager: bool = False, many: bool = False) -> list[int]:
    """Return the seeds that fail."""
    made = generate_many if many else generate
    return [seed for seed in seeds if simulate_any(made(seed), eager=eager).violations]


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def _search(first: int, count: int, processes: int, *, eager: bool, many: bool) -> int:
    began, done = time.perf_counter(), 0
    found: list[int] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for chunk in pool.map(partial(failing, eager=eager, many=many), _chunks(first, count)):
            done += CHUNK
            found += chunk
            if done % 10_000 == 0 or chunk:
                print(
                    f"{done} seeds, {done / (time.perf_counter() - began):.0f} a second; failing: {found}", flush=True
                )
    for seed in found[:MOST_EXPLAINED]:
        print(explain((generate_many if many else generate)(seed), eager=eager), flush=True)
    print(f"{count} seeds from {first}: {len(found)} fail: {found}")
    return 1 if found else 0


def _show(scenario: Scenario, *, eager: bool) -> int:
    outcome = simulate_any(scenario, eager=eager)
    print(as_json(scenario))
    print("\n".join(outcome.log))
    print(f"digest {outcome.digest}", *outcome.violations, sep="\n")
    return 1 if outcome.violations else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", nargs="*", type=int)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--case", type=Path)
    parser.add_argument("--many", action="store_true")
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    if options.seeds:
        return _search(options.first, options.seeds, options.processes, eager=options.eager, many=options.many)
    cases = [from_json(options.case.read_text())] if options.case is not None else []
    shown = itertools.chain(cases, map(generate_many if options.many else generate, options.seed))
    return max((_show(scenario, eager=options.eager) for scenario in shown), default=0)


if __name__ == "__main__":
    sys.exit(main())
