"""Trees without processes, on the loop's own time: what the command and its warden do is scripted.

with virtual_clock() as clock:
    locks = MemoryLockFiles(clock)
    launcher = SimulatedLauncher(locks)
    async with Supervisor(launcher=launcher, locks=locks) as supervisor:
        await supervisor.run("agent:main:reports", SimulatedCommand(TreeScript(runs_s=3.0, code=1)))
"""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.lock.life_file import Death, Exited
from supervisor.owner import RecordedTree
from supervisor.tasks import to_the_end
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.process import PROCESS
from supervisor.testing.simulated_tree import NOT_SEEN, SimulatedTree, Tell
from supervisor.testing.streams import scripted
from supervisor.testing.tree_script import Happening
from supervisor.tree.contract import LockWanted, Streams

FIRST_PID: Final = 1 << 30
"""Beyond what Linux gives to a process: whoever looks one of ours up in /proc finds nothing."""

_DISMISSED_HAS_S: Final = 1.0  # as `supervisor.tree.launcher` has it


class SimulatedLauncher:
    """See `tree.contract.Launcher`. What a tree does is in the script that its streams carry (`SimulatedCommand`).

    One serves all processes of a world: a tree whose supervisor dies is stopped by its warden. `keep_life` is
    `SystemLauncher`'s: its life file stays then, too.
    `locks` are needed where trees hold locks. `trees` has every tree, in the order in which their wardens were
    started; `tell` is called with each tree and what has happened to it, in the same step.
    """

    def __init__(
        self,
        locks: MemoryLockFiles | None = None,
        tell: Callable[[SimulatedTree, Happening], None] | None = None,
        *,
        keep_life: bool = False,
    ) -> None:
        self._keep_life = keep_life
        self._locks = locks
        self._tell: Tell = tell or (lambda *_: None)
        self._pids = count(FIRST_PID)
        self.trees: list[SimulatedTree] = []

    async def park(self, streams: Streams, lock: LockWanted | None = None) -> SimulatedTree | None:
        script, output = scripted(streams)
        if lock is not None and lock.path in self._lock_files().held():
            return None
        if script.cannot_park:
            raise Failure(Kind.ERROR, script.cannot_park)
        pid = next(self._pids)
        tree = SimulatedTree(
            RecordedTree(pid, pid, Path(f"/alive/{pid}")),
            script,
            output,
            self._pids,
            self._tell,
            keeps_life=self._keep_life,
        )
        self.trees.append(tree)
        process = PROCESS.get()
        if process is not None:
            process.at_death(tree.orphan)
        tree.spawn()
        try:
            await tree.ready()
            if lock is None or tree.hold(self._lock_files(), lock.path):
                tree.note_parked()
                return tree
        except BaseException:
            await _undo(tree)
            raise
        await _undo(tree)
        return None

    def _lock_files(self) -> MemoryLockFiles:
        if self._locks is None:
            raise ValueError(
                "a tree is to hold a lock: SimulatedLauncher(locks) needs the supervisor's MemoryLockFiles"
            )
        return self._locks

    def stop_tree(self, recorded: RecordedTree) -> bool:
        tree = self._of(recorded)
        return tree is not None and tree.signal()

    def tree_gone(
        self,
        recorded: RecordedTree,
        renewed_at: float | None = None,  # noqa: ARG002 - no simulated container is started again
    ) -> tuple[Death, Exited]:
        tree = self._of(recorded)
        return (Death.UNKNOWN, NOT_SEEN) if tree is None else tree.life()

    def life_files(self) -> list[Path]:
        """Return the life files that are there."""
        return [tree.recorded.life for tree in self.trees if tree.recorded.life is not None and tree.has_life_file]

    def _of(self, recorded: RecordedTree) -> SimulatedTree | None:
        return next((tree for tree in self.trees if tree.recorded == recorded), None)


async def _undo(tree: SimulatedTree) -> None:
    """End a tree that is not wanted, and see it end, however often the caller is cancelled."""
    noted: list[asyncio.CancelledError] = []
    tree.dismiss()
    late = asyncio.get_running_loop().call_later(_DISMISSED_HAS_S, tree.kill_warden)
    await to_the_end(tree.gone(), noted.append)
    late.cancel()
    tree.forget()
    if noted:
        raise noted[0]
