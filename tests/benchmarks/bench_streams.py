"""A gigabyte through `turnkeeper run`: into the command and out of it, beside `cat` in its place.

python tests/benchmarks/bench_streams.py [--smoke] [--json]

Wall-clock figures: a busy machine shows in them. What starting a run takes is taken off; bench_run.py has it.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.measuring import Row, options, row, show

TOP: Final = Path(__file__).parents[2]
RUN: Final = (sys.executable, "-m", "supervisor.cli.main", "run", "--quiet", "--session", "bench", "--")
ZEROS: Final = "head -c {size} /dev/zero"


class Case(NamedTuple):
    """A pipeline with a place in it, where `turnkeeper run -- COMMAND` stands, or the peer; and the peer's name."""

    what: str
    before: str
    command: str
    after: str
    instead: str
    peer: str


CASES: Final = (
    Case("1 GB through stdin and stdout", ZEROS + " |", "cat", ">/dev/null", "cat | cat", "cat, into cat"),
    Case("1 GB of stdout, into a pipe", "", ZEROS, "| cat >/dev/null", ZEROS + " | cat", "cat, into cat"),
    Case("1 GB of stdout, into /dev/null", "", ZEROS, ">/dev/null", ZEROS + " | cat", "cat"),
    Case(
        "1 GB of stdin, to `cat >/dev/null`", ZEROS + " |", "sh -c 'cat >/dev/null'", "", "cat | cat >/dev/null", "cat"
    ),
)


def seconds(pipeline: str) -> float:
    began = time.perf_counter()
    subprocess.run(["sh", "-c", pipeline], check=True, env={**os.environ, "PYTHONPATH": str(TOP)})
    return time.perf_counter() - began


def run_of(command: str) -> str:
    return f"{shlex.join(RUN)} {command}"


def both(case: Case, size: int) -> tuple[float, float]:
    """Return what a pipeline takes with us in it, without our start, and with the peer."""
    before, command, after, instead = (part.format(size=size) for part in case[1:5])
    start = seconds(run_of("true"))
    ours = seconds(f"{before} {run_of(command)} {after}") - start
    return ours, seconds(f"{before} {instead} {after}")


def peak_mib(source: list[str] | None, command: list[str]) -> float:
    """Return the most resident memory that one run has had, whose output goes nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    feeder = None if source is None else subprocess.Popen(source, stdout=subprocess.PIPE)
    stdin = null if feeder is None or feeder.stdout is None else feeder.stdout.fileno()
    pid = os.posix_spawn(
        sys.executable,
        [*RUN, *command],
        {**os.environ, "PYTHONPATH": str(TOP)},
        file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, null, 1)],
    )
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    os.close(null)
    if feeder is not None:
        feeder.communicate()
    return usage.ru_maxrss / 1024


def measure(*, smoke: bool) -> list[Row]:
    size, rounds = (1 << 24, 1) if smoke else (1 << 30, 9)
    seconds(run_of("true"))
    found: dict[str, list[tuple[float, float]]] = {case.what: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            found[case.what].append(both(case, size))
    rows = []
    for case in CASES:
        ours, theirs = (statistics.median(each) for each in zip(*found[case.what], strict=True))
        rows.append(row(case.what, ours, "s", least=4.0, wanted=2.0, peer=case.peer, theirs=theirs))
    zeros = ZEROS.format(size=size).split()
    bare = peak_mib(None, ["true"])
    for what, peak in (("stdin", peak_mib(zeros, ["cat"])), ("stdout", peak_mib(None, zeros))):
        rows.append(
            row(f"peak memory with all of it in {what}, over `true`", peak - bare, "MiB", least=8.0, wanted=2.0)
        )
    return rows


def main() -> None:
    asked = options(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        os.chdir(folder)  # where there are no settings
        show(measure(smoke=asked.smoke), as_json=asked.json)


if __name__ == "__main__":
    main()
