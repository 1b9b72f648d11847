"""Trees of real processes: parked under a warden, with its files; and those that others have started."""

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

from policies.failure import Kind
from supervisor.clock import Clock
from supervisor.errors import Failure
from supervisor.lock.forking import FORKING
from supervisor.lock.life_file import Death, Exited
from supervisor.os_error import reason_of
from supervisor.owner import RecordedTree, starttime_of
from supervisor.tasks import to_the_end
from supervisor.tree import recorded
from supervisor.tree.contract import LockWanted, Streams
from supervisor.tree.files import Files
from supervisor.tree.spawn import spawn
from supervisor.tree.system_tree import SystemTree

DISMISSED_HAS_S = 1.0
"""For a warden that does not answer, such as a Python that hangs as it starts: nothing runs below it yet."""


class SystemLauncher:
    """See `contract.Launcher`.

    `alive` is the folder of the life files, made when it is missing; None: there are none, and nobody but this process
    can tell that a tree is gone. `keep_life`: they stay when this process dies, for a recovery to read; `prefix` begins
    their names.
    """

    def __init__(self, clock: Clock, alive: Path | None = None, *, keep_life: bool = False, prefix: str = "") -> None:
        self._clock = clock
        self._alive = alive
        self._keep_life = keep_life
        self._prefix = prefix

    async def park(self, streams: Streams, lock: LockWanted | None = None) -> SystemTree | None:
        files = Files(self._clock.token(8))
        try:
            tree = self._start(streams, lock, files)
            return None if tree is None else await self._make_known(tree, files)
        finally:
            files.close()

    def _start(self, streams: Streams, lock: LockWanted | None, files: Files) -> SystemTree | None:
        with FORKING:
            if lock is not None and not files.make_lock(lock):
                return None
            if self._alive is not None:
                files.make_life(self._alive, keep=self._keep_life, prefix=self._prefix)
            return _start(streams, files)

    async def _make_known(self, tree: SystemTree, files: Files) -> SystemTree | None:
        try:
            await tree.ready()
            tree.send_files(self._clock.wall())
            if files.link():
                return tree
        except BaseException:
            await _undo(tree)
            raise
        await _undo(tree)
        return None

    def stop_tree(self, tree: RecordedTree) -> bool:
        return recorded.stop_tree(tree)

    def tree_gone(self, tree: RecordedTree, renewed_at: float | None = None) -> tuple[Death, Exited]:
        return recorded.tree_gone(tree, renewed_at)


def _start(streams: Streams, files: Files) -> SystemTree:
    with ExitStack() as theirs, ExitStack() as ours:
        try:
            their_orders, orders = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, their_orders)
            ours.callback(os.close, orders)
            words, their_words = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, their_words)
            ours.callback(os.close, words)
            pid = spawn(
                streams, (their_orders, their_words, *files.descriptors()), holds_lock=files.lock_path is not None
            )
            ours.callback(_kill, pid)
            death = os.pidfd_open(pid)
            ours.callback(os.close, death)
        except OSError as error:
            raise Failure(Kind.ERROR, f"a command's warden cannot be started: {reason_of(error)}") from error
        starttime = starttime_of(pid)
        if starttime is None:
            raise Failure(Kind.ERROR, "a command's warden cannot be seen in /proc")
        tree = SystemTree(RecordedTree(pid, starttime, files.life_path), death, orders, words, files)
        ours.pop_all()
        return tree


def _kill(pid: int) -> None:
    """End a child that has nothing yet, and is not waited for: its pid is its own."""
    with suppress(ProcessLookupError, ChildProcessError):  # this process ignores SIGCHLD, and it has ended
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


async def _undo(tree: SystemTree) -> None:
    """Have the warden of a tree that is not wanted end, and see it end, however often the caller is cancelled."""
    noted: list[asyncio.CancelledError] = []
    tree.dismiss()
    late = asyncio.get_running_loop().call_later(DISMISSED_HAS_S, tree.kill_parked)
    await to_the_end(tree.gone(), noted.append)
    late.cancel()
    tree.forget()
    if noted:
        raise noted[0]
