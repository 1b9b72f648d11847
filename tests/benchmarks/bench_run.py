"""What `turnkeeper run` adds to a command, and how soon a session is free after an attempt's time is over.

python tests/benchmarks/bench_run.py [--smoke] [--json]

Wall-clock figures: a busy machine shows in them.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.budget import Budget
from policies.policy import AttemptLimits, Policy
from supervisor import Command, Supervisor
from tests.benchmarks.measuring import Row, options, row, show

TOP: Final = Path(__file__).parents[2]
GRACE_S: Final = 0.2
TIMEOUT_S: Final = 1.0
STUBBORN: Final = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(19):
    if os.fork() == 0:
        break
time.sleep(60)
"""
GREEDY: Final = """
import os, time
time.sleep({wait})
os.write(1, str(time.monotonic()).encode())
held = bytearray(os.urandom(1)) * (96 * 1024 * 1024)
time.sleep(60)
"""


def process(*arguments: str) -> tuple[float, float]:
    """Return how long a Python process takes in ms, and its peak of resident memory in MB."""
    began = time.perf_counter()
    devnull = os.open(os.devnull, os.O_RDWR)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        {**os.environ, "PYTHONPATH": str(TOP)},
        file_actions=[(os.POSIX_SPAWN_DUP2, devnull, descriptor) for descriptor in range(3)],
    )
    os.close(devnull)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return (time.perf_counter() - began) * 1e3, usage.ru_maxrss / 1024


def run_of_true(*options: str) -> tuple[float, float]:
    return process("-m", "supervisor.cli.main", "run", "--session", "bench", *options, "--", "true")


def policy(**limits: float) -> Policy:
    return Policy("bench", attempt=AttemptLimits(**limits), budget=Budget(attempts=1))  # type: ignore[arg-type]


async def free_after_ms(folder: Path) -> float:
    """Return how long after timeout and grace a session is free whose 20 processes ignore SIGTERM."""
    async with Supervisor() as supervisor:
        command = Command([sys.executable, "-I", "-S", "-c", STUBBORN])
        rules = policy(timeout_s=TIMEOUT_S, grace_s=GRACE_S)
        report = await supervisor.run_report("bench", command, policy=rules, lock=folder / "reports.jsonl")
        assert not (folder / "reports.jsonl.lock").exists()
    (attempt,) = report.attempts
    assert attempt.released.processes_killed == 20, report
    return (attempt.duration_s - TIMEOUT_S - GRACE_S) * 1e3


async def noticed_after_ms(wait_s: float) -> float:
    """Return how long after a command began to take too much memory its attempt was over."""
    async with Supervisor() as supervisor:
        command = Command([sys.executable, "-I", "-S", "-c", GREEDY.format(wait=wait_s)])
        rules = policy(max_rss_bytes=48 * 1024 * 1024, grace_s=10.0)
        report = await supervisor.run_report("bench", command, policy=rules)
        ended = time.monotonic()
    failure = report.attempts[0].failure
    assert failure is not None
    assert failure.kind == "memory", failure
    return (ended - float(failure.output_tail)) * 1e3


async def measure(folder: Path, *, smoke: bool) -> list[Row]:
    rounds = 3 if smoke else 21
    settings = folder / "turnkeeper.toml"
    settings.write_text("[policies.default]\nattempt.timeout = '5m'\n")
    memory_alone = ("--state", "memory")
    run_of_true(), run_of_true(*memory_alone, "--settings", str(settings))
    found = []
    for number in range(rounds):
        bare = process("-c", "pass")
        durable, plain = run_of_true(), run_of_true(*memory_alone)
        with_file = run_of_true(*memory_alone, "--settings", str(settings))
        found.append(
            (
                durable[0] - bare[0],
                plain[0] - bare[0],
                with_file[0] - bare[0],
                durable[1],
                plain[1],
                with_file[1],
                await free_after_ms(folder),
                await noticed_after_ms(number % 7 / 70),
            )
        )
    durable, start, start_with_file, memory_durable, memory, memory_with_file, free, noticed = (
        statistics.median(each) for each in zip(*found, strict=True)
    )
    return [
        row("`turnkeeper run -- true`, over `python -c pass`", durable, "ms", least=370.0, wanted=300.0),
        row("the same, with its state in memory", start, "ms", least=320.0, wanted=200.0),
        row("the same, and a settings file", start_with_file, "ms", least=320.0, wanted=200.0),
        row("its peak of resident memory", memory_durable, "MB", least=55.0, wanted=45.0),
        row("the same, with its state in memory", memory, "MB", least=50.0, wanted=40.0),
        row("the same, and a settings file", memory_with_file, "MB", least=50.0, wanted=40.0),
        row("20 that ignore SIGTERM: free after timeout and grace", free, "ms", least=100.0, wanted=30.0),
        row("the same, the longest", max(each[6] for each in found), "ms", least=100.0, wanted=30.0),
        row("max_rss passed, until the attempt was over", noticed, "ms", least=250.0),
        row("the same, the longest", max(each[7] for each in found), "ms", least=250.0),
    ]


def main() -> None:
    asked = options(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        os.environ["PYTHONPYCACHEPREFIX"] = folder  # what is installed has its bytecode: the first round makes it
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.chdir(folder)  # where there are no settings
        show(asyncio.run(measure(Path(folder), smoke=asked.smoke)), as_json=asked.json)


if __name__ == "__main__":
    main()
