"""What a command costs under a warden: its start, its memory, and how soon a stubborn tree is gone after its grace.

python tests/benchmarks/bench_warden.py [--smoke] [--json]
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor.clock import SystemClock
from supervisor.tree.contract import LockWanted, Program, Streams, TreeGone
from supervisor.tree.launcher import SystemLauncher
from supervisor.tree.system_tree import SystemTree
from tests.benchmarks.measuring import Row, options, row, show

GRACE_S: Final = 0.1
STUBBORN: Final = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(19):
    if os.fork() == 0:
        break
else:
    os.write(1, b"ready")
time.sleep(60)
"""


def private_bytes(pid: int) -> int:
    """Return the memory that no other process shares: what one more of them costs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


class Bench:
    """Trees of one folder."""

    def __init__(self, folder: Path) -> None:
        self.launcher = SystemLauncher(SystemClock(), folder / "alive")
        self.lock = LockWanted(folder / "reports.jsonl", 60.0)
        self.nothing = os.open(os.devnull, os.O_RDWR)

    async def park(self, stdout: int | None = None, *, lock: bool = True) -> SystemTree:
        streams = Streams(self.nothing, self.nothing if stdout is None else stdout, self.nothing)
        tree = await self.launcher.park(streams, self.lock if lock else None)
        assert tree is not None
        return tree

    async def end(self, tree: SystemTree, grace_s: float) -> TreeGone:
        tree.stop(grace_s)
        gone = await tree.gone()
        assert isinstance(gone, TreeGone)
        tree.forget()
        return gone

    async def start_ms(self) -> tuple[float, float]:
        """Return what parking took, and all of a command that does nothing."""
        began = time.perf_counter()
        tree = await self.park()
        parked = time.perf_counter()
        await tree.go(Program(["true"], dict(os.environ)))
        await tree.exited()
        await self.end(tree, 1.0)
        return (parked - began) * 1e3, (time.perf_counter() - began) * 1e3

    async def memory_bytes(self) -> int:
        """Return what a warden costs beside another: what they share counts for none."""
        other = await self.park(lock=False)
        tree = await self.park()
        await tree.go(Program(["sleep", "60"], dict(os.environ)))
        held = private_bytes(tree.recorded.pid)
        await self.end(tree, 0.0)
        await self.end(other, 0.0)
        return held

    async def stubborn_ms(self) -> float:
        """Return how long after its grace a tree of 20 that ignore SIGTERM was gone, and its session free."""
        heard, said = os.pipe()
        tree = await self.park(said)
        os.close(said)
        await tree.go(Program([sys.executable, "-I", "-S", "-c", STUBBORN], dict(os.environ)))
        assert await asyncio.to_thread(os.read, heard, 5) == b"ready"
        os.close(heard)
        began = time.perf_counter()
        gone = await self.end(tree, GRACE_S)
        assert gone.killed == 20
        return (time.perf_counter() - began - GRACE_S) * 1e3


def bare_ms() -> float:
    """Return what an interpreter costs that does nothing, in the same way."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return (time.perf_counter() - began) * 1e3


def bare_bytes() -> int:
    """Return the private memory of an interpreter that does nothing."""
    command = [sys.executable, "-I", "-S", "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = private_bytes(process.pid)
        process.communicate(b"\n")
    return held


async def measure(folder: Path, *, smoke: bool) -> list[Row]:
    bench, rounds = Bench(folder), 3 if smoke else 40
    await bench.start_ms()
    starts, bare, stubborn = [], [], []
    for _ in range(rounds):
        starts.append(await bench.start_ms())
        bare.append(bare_ms())
        stubborn.append(await bench.stubborn_ms())
    memory = statistics.median([await bench.memory_bytes() for _ in range(min(rounds, 10))])
    os.close(bench.nothing)
    park, whole = (statistics.median(found) for found in zip(*starts, strict=True))
    peer, theirs = "python -I -S -c ''", statistics.median(bare)
    return [
        row("a warden, parked, with lock and life file", park, "ms", peer=peer, theirs=theirs),
        row("`true`, from parking to gone", whole, "ms", peer=peer, theirs=theirs),
        row("private memory of one more warden", memory / 2**20, "MiB", least=5.0, wanted=2.0),
        row("the same, beside its interpreter's own", memory / 2**20, "MiB", peer=peer, theirs=bare_bytes() / 2**20),
        row(
            "20 that ignore SIGTERM, gone after the grace", statistics.median(stubborn), "ms", least=100.0, wanted=30.0
        ),
        row("the same, the longest", max(stubborn), "ms", least=100.0, wanted=30.0),
    ]


def main() -> None:
    asked = options(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder), smoke=asked.smoke))
    show(rows, as_json=asked.json, notes=[f"Grace: {GRACE_S * 1e3:g} ms. Memory: what no other process shares."])


if __name__ == "__main__":
    main()
