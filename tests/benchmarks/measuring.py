"""What the benchmarks share: options, interleaved medians, resident memory, and a table of figures and targets."""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is ours over the peer's; None where there is no peer, or it is not installed.

    Attributes:
        at_least: the target, as it is said to a person.
        wanted: what is hoped for.
        judged: the number that the targets are about: the ratio, or the figure itself.
        met: how far the targets are met: "wanted", "least" or "no"; empty where there is no target, or no peer.
    """

    what: str
    ours: float
    unit: str
    at_least: str
    wanted: str
    judged: float | None
    met: str
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None


def row(
    what: str,
    ours: float,
    unit: str,
    *,
    least: float | None = None,
    wanted: float | None = None,
    more_is_better: bool = False,
    peer: str = "",
    theirs: float | None = None,
) -> Row:
    """Return a row: with a peer the targets are for the ratio, without one for the figure itself."""
    sign = ">=" if more_is_better else "<="
    ratio = ours / theirs if theirs else None
    judged = ratio if peer else ours

    def holds(target: float | None) -> bool:
        return judged is not None and target is not None and (judged >= target if more_is_better else judged <= target)

    met = "wanted" if holds(least if wanted is None else wanted) else "least" if holds(least) else "no"
    if judged is None or least is None:
        met = ""
    at_least, hoped = ("" if target is None else f"{sign} {target:g}" for target in (least, wanted))
    return Row(what, ours, unit, at_least, hoped, judged, met, peer, theirs, ratio)


def options(description: str | None) -> argparse.Namespace:
    """Read --smoke and --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="a few rounds, to see that it runs: the figures mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)  # what a child process is asked for
    return parser.parse_args()


def show(rows: Sequence[Row], *, as_json: bool, notes: Sequence[str] = ()) -> None:
    """Print the rows as a table, or as JSON."""
    version = sys.version.split()[0]
    if as_json:
        print(json.dumps({"python": version, "rows": [asdict(each) for each in rows], "notes": list(notes)}, indent=2))
        return
    print(f"Python {version}\n")
    print("| | ours | peer | theirs | ratio | at least | wanted | met |\n|---|---|---|---|---|---|---|---|")
    for each in rows:
        theirs = "" if not each.peer else "not installed" if each.theirs is None else _number(each.theirs)
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        ours = f"{_number(each.ours)} {each.unit}"
        cells = (each.what, ours, each.peer, theirs, ratio, each.at_least, each.wanted, each.met)
        print("| " + " | ".join(cells) + " |")
    for note in notes:
        print(f"\n{note}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


async def medians_us(cases: Mapping[str, Call], rounds: int, calls: int) -> dict[str, float]:
    """Return the median over rounds of what one call costs, in microseconds of the processor; the cases take turns.

    Nothing here waits: the processor's time is what a call takes, whoever else is on the machine.
    """
    costs: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        await _cost_us(case, min(calls, 200))
    for _ in range(rounds):
        for name, case in cases.items():
            gc.collect()
            costs[name].append(await _cost_us(case, calls))
    return {name: statistics.median(found) for name, found in costs.items()}


async def _cost_us(case: Call, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        await case()
    return (time.process_time() - start) / calls * 1e6


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def child(script: str, measure: str, *, smoke: bool) -> Any:
    """Run a benchmark's own script in a fresh interpreter, which prints one JSON value."""
    import subprocess

    command = [sys.executable, script, "--measure", measure, *(["--smoke"] if smoke else [])]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return json.loads(answer.stdout)
