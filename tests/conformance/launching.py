"""Trees of both kinds, as one test sees them: the same command as real processes, and as a script."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from supervisor.testing import MemoryLockFiles, SimulatedLauncher, TreeScript, virtual_clock
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.streams import SimulatedStreams
from supervisor.tree.contract import Launcher, LockWanted, Program, Tree
from tests.supervisor.tree.trees import Trees, marked, until


class Says(NamedTuple):
    """A command: its arguments, how many lines it writes once it is under way, and the same as a script."""

    argv: list[str]
    lines: int
    script: TreeScript


def shell(code: str, script: TreeScript, lines: int = 0) -> Says:
    return Says(["sh", "-c", code], lines, script)


ENDS = shell("exit 0", TreeScript())
FAILS = shell("exit 3", TreeScript(code=3))
DIES = shell("kill -ABRT $$", TreeScript(signal=int(signal.SIGABRT)))
STAYS = shell("echo ready; exec sleep 60", TreeScript(runs_s=None), lines=1)
IGNORES = shell("trap '' TERM; echo ready; exec sleep 60", TreeScript(runs_s=None, ignores_sigterm_s=None), lines=1)
LEAVES = shell("sleep 60 & exit 0", TreeScript(daemons=1))
IS_NOT = Says(["/no/such/command"], 0, TreeScript(cannot_start=127))


class Bench(Protocol):
    """One launcher, and what a test does to it from outside."""

    @property
    def launcher(self) -> Launcher: ...
    def run(self, test: Coroutine[Any, Any, None]) -> None: ...
    async def park(self, says: Says, *, lock: bool = False) -> Tree | None: ...
    def program(self, says: Says) -> Program: ...
    async def under_way(self, says: Says) -> None: ...
    def kill_warden(self, tree: Tree) -> None: ...
    def life_files(self) -> int: ...
    def lock_is_held(self) -> bool: ...
    def clean_up(self) -> None: ...


class SystemBench:
    """Real processes, on a real loop."""

    def __init__(self, folder: Path) -> None:
        self._trees = Trees(folder)
        self.launcher = self._trees.launcher

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        asyncio.run(test)

    async def park(self, says: Says, *, lock: bool = False) -> Tree | None:
        return await self._trees.try_to_park(lock=lock)

    def program(self, says: Says) -> Program:
        return self._trees.program(says.argv)

    async def under_way(self, says: Says) -> None:
        await self._trees.said(says.lines)

    def kill_warden(self, tree: Tree) -> None:
        os.kill(tree.recorded.pid, signal.SIGKILL)

    def life_files(self) -> int:
        return len(os.listdir(self._trees.alive))

    def lock_is_held(self) -> bool:
        return self._trees.lock_file.exists()

    def clean_up(self) -> None:
        """End what a test has left on purpose; it may just be starting another."""
        until(lambda: not self._kill_what_is_left(), "what was left ends")

    def _kill_what_is_left(self) -> int:
        left = marked(self._trees.mark)
        for line in left:
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        return len(left)


class SimulatedBench:
    """Scripts, on a virtual loop."""

    def __init__(self, folder: Path) -> None:
        self._clock = virtual_clock()
        self._locks = MemoryLockFiles(self._clock)
        self._transcript = folder / "reports.jsonl"
        self._kept: list[SimulatedStreams] = []
        self.launcher = SimulatedLauncher(self._locks)

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        self._clock.run(test)

    async def park(self, says: Says, *, lock: bool = False) -> Tree | None:
        self._kept.append(SimulatedStreams(says.script, lambda: None))
        wanted = LockWanted(self._transcript, 60.0) if lock else None
        return await self.launcher.park(self._kept[-1].descriptors(), wanted)

    def program(self, says: Says) -> Program:
        return Program(says.argv, {})

    async def under_way(self, says: Says) -> None:
        """A script starts at once."""

    def kill_warden(self, tree: Tree) -> None:
        assert isinstance(tree, SimulatedTree)
        tree.kill_warden()

    def life_files(self) -> int:
        return len(self.launcher.life_files())

    def lock_is_held(self) -> bool:
        return self._transcript in self._locks.held()

    def clean_up(self) -> None:
        """Nothing is left of a script."""
