"""Real trees for tests: started, watched, and at the end proved to have left nothing."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from supervisor.clock import SystemClock
from supervisor.tree.contract import LockWanted, Program, Streams, TreeGone
from supervisor.tree.launcher import SystemLauncher
from supervisor.tree.system_tree import SystemTree

MARK = "TREE_TEST"
"""Each process of a test's trees has it in its environment, wherever it went and whoever its parent is by now."""

IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
SLEEP = "import time; time.sleep(60)"


def python(code: str, *arguments: object) -> list[str]:
    """Return a command that runs Python code; `say(x)` writes a line to its output at once."""
    head = "import os, sys\ndef say(*x): os.write(1, (' '.join(map(str, x)) + '\\n').encode())\n"
    return [sys.executable, "-I", "-S", "-c", head + code, *map(str, arguments)]


def marked(mark: str) -> list[str]:
    """Return the living processes that have this mark, with their command lines."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid + " " + Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return found


def arguments_of(pid: int) -> list[str]:
    """Return what everybody can read of how a process was started."""
    return Path(f"/proc/{pid}/cmdline").read_text(errors="surrogateescape").split("\0")


def descriptors() -> set[tuple[str, str]]:
    """Return what this process has open: number and target."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except OSError:  # the one that the folder was read with
            continue
    return found


def children() -> list[int]:
    """Return the children of this process, dead ones that nobody has waited for included."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # it has ended by now
            found += map(int, Path(f"/proc/self/task/{thread}/children").read_text().split())
    return found


def until(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait, blocking, until a function says so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)


class Trees:
    """What the trees of one test share."""

    def __init__(self, folder: Path, *, keep_life: bool = False) -> None:
        self.folder = folder
        self.alive = folder / "alive"
        self.transcript = folder / "reports.jsonl"
        self.lock_file = folder / "reports.jsonl.lock"
        self.out = folder / "out"
        self.out.touch()
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.env = {"PATH": os.environ.get("PATH", os.defpath), MARK: self.mark}
        self.launcher = SystemLauncher(SystemClock(), self.alive, keep_life=keep_life)

    async def park(self, *, lock: bool = False) -> SystemTree:
        """Park a tree whose output goes to a file."""
        tree = await self.try_to_park(lock=lock)
        assert tree is not None
        return tree

    async def try_to_park(self, *, lock: bool = False) -> SystemTree | None:
        """Do the same; None if the lock is busy."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        out = os.open(self.out, os.O_WRONLY | os.O_APPEND)
        try:
            wanted = LockWanted(self.transcript, 60.0) if lock else None
            return await self.launcher.park(Streams(nothing, out, out), wanted)
        finally:
            os.close(nothing)
            os.close(out)

    def program(self, argv: list[str], max_rss_bytes: int | None = None) -> Program:
        return Program(argv, self.env, max_rss_bytes=max_rss_bytes)

    async def start(self, argv: list[str], *, lock: bool = False, max_rss_bytes: int | None = None) -> SystemTree:
        """Park and go."""
        tree = await self.park(lock=lock)
        await tree.go(self.program(argv, max_rss_bytes))
        return tree

    async def finish(self, tree: SystemTree, grace_s: float = 0.0) -> TreeGone:
        """Stop a tree, and forget it once it is proved gone."""
        tree.stop(grace_s)
        gone = await tree.gone()
        assert isinstance(gone, TreeGone)
        tree.forget()
        return gone

    async def said(self, lines: int) -> list[str]:
        """Wait until the commands have written so many lines; return them."""
        for _ in range(4000):
            found = self.out.read_text().splitlines()
            if len(found) >= lines:
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"{lines} lines never came: {found}")

    def assert_nothing_is_left(self) -> None:
        left = marked(self.mark)
        for line in left:
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        assert left == []
        assert children() == []
        assert not self.lock_file.exists()
        assert not self.alive.exists() or os.listdir(self.alive) == []
