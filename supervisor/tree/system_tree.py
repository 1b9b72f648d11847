"""A tree of real processes as we see it: through its warden's words, and through the warden's own end."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.lock.forking import FORKING, let_no_child_keep, may_be_kept
from supervisor.lock.life_file import NOT_SEEN, Death, Exited
from supervisor.owner import RecordedTree
from supervisor.tree.channel import Channel
from supervisor.tree.contract import NotStarted, Program, Started, TreeGone, TreeUnknown
from supervisor.tree.files import Files
from supervisor.tree.program import go_order, not_started
from supervisor.tree.recorded import tree_gone

T = TypeVar("T")


class SystemTree:
    """See `contract.Tree`. It lets go of all that it has when its warden has ended, whoever waits for it or not."""

    def __init__(self, recorded: RecordedTree, death: int, orders: int, words: int, files: Files) -> None:
        loop = asyncio.get_running_loop()
        self._recorded = recorded
        self._files = files
        self._loop = loop
        self._is_ready: asyncio.Future[bool] = loop.create_future()
        self._started: asyncio.Future[Started | NotStarted] = loop.create_future()
        self._exited: asyncio.Future[Exited] = loop.create_future()
        self._over_memory: asyncio.Future[int] = loop.create_future()
        self._gone: asyncio.Future[TreeGone | TreeUnknown] = loop.create_future()
        self._program: Program | None = None
        self._is_forgotten = False
        self._command = ""
        self._told_to_end_at: float | None = None
        self._last_word: tuple[int, list[str], list[str]] | None = None
        self._death = death
        self._channel = Channel(orders, words, self._hear)
        loop.add_reader(death, self._bury)
        let_no_child_keep(self)

    def __repr__(self) -> str:
        return f"<SystemTree of warden {self._recorded.pid}{', gone' if self._gone.done() else ''}>"

    @property
    def recorded(self) -> RecordedTree:
        return self._recorded

    @property
    def lock_path(self) -> Path | None:
        return self._files.lock_path

    @property
    def over_memory(self) -> "asyncio.Future[int]":
        return self._over_memory

    async def ready(self) -> None:
        """Wait until the warden is. Raises Failure if it could not be."""
        if not await _result_of(self._is_ready):
            raise Failure(Kind.ERROR, f"a command's warden ended at once: can {sys.executable} be run?")

    def send_files(self, created_unix: float) -> None:
        """Write the files in the warden's name, and tell it of them: before they can be found by anybody."""
        known = self._files.write(self._recorded.pid, self._recorded.starttime, created_unix)
        self._channel.send("files", known)

    async def go(self, program: Program) -> Started:
        assert self._program is None, "a tree goes once"
        try:
            order = go_order(program)
        except NotStarted:
            self.dismiss()
            raise
        self._program, self._command = program, program.argv[0][:80]
        self._channel.send("go", *order)
        started = await _result_of(self._started)
        if isinstance(started, NotStarted):
            raise started
        return started

    async def exited(self) -> Exited:
        exited = await _result_of(self._exited)
        if exited == NOT_SEEN and self._gone.done() and isinstance(self._gone.result(), TreeUnknown):
            raise Failure(Kind.ERROR, f"the warden {self._recorded.pid} of {self._command} was killed")
        return exited

    def stop(self, grace_s: float) -> None:
        self._note_told_to_end()
        self._channel.send("stop", grace_s)

    def hasten(self) -> None:
        self.stop(0.0)

    def leave(self) -> None:
        self._note_told_to_end()
        self._channel.send("leave")

    def dismiss(self) -> None:
        self.stop(0.0)

    def kill_parked(self) -> None:
        """Kill the warden of a tree that was never told to go: there is nothing that it would leave."""
        assert self._program is None, "nothing was started"
        if not self._gone.done():
            signal.pidfd_send_signal(self._death, signal.SIGKILL)

    async def gone(self) -> TreeGone | TreeUnknown:
        return await _result_of(self._gone)

    def forget(self) -> None:
        life = self._recorded.life
        self._is_forgotten = True
        if life is not None and self._gone.done() and isinstance(self._gone.result(), TreeGone):
            with suppress(OSError):
                life.unlink()

    def abandon(self) -> None:
        self._channel.hang_up()

    def _note_told_to_end(self) -> None:
        if self._told_to_end_at is None:
            self._told_to_end_at = self._loop.time()

    def _hear(self, word: str, said: list[Any]) -> None:
        match word:
            case "ready":
                _settle(self._is_ready, True)
            case "started":
                _settle(self._started, Started(*said))
            case "not_started":
                assert self._program is not None, "it was told to go"
                _settle(self._started, not_started(self._program, *said))
                _settle(self._exited, NOT_SEEN)
            case "exited":
                _settle(self._exited, Exited(*said))
            case "memory":
                _settle(self._over_memory, said[0])
            case "gone":
                self._last_word = (said[0], said[1], said[2])
            case _:
                raise AssertionError(f"a warden has no word {word!r}")

    def _bury(self) -> None:
        """The warden has ended: hear its last words, wait for it, and let go of all that was kept for it."""
        self._loop.remove_reader(self._death)
        with FORKING:
            may_be_kept(self)
            self._channel.close()
            with suppress(ChildProcessError):  # this process ignores SIGCHLD, or something in it waits for every child
                os.waitid(os.P_PIDFD, self._death, os.WEXITED)
            os.close(self._death)
            self._files.close()
        _settle(self._is_ready, False)
        gone = self._judge()
        what = self._command or "a command"
        lost = NotStarted(
            Kind.ERROR, f"the warden {self._recorded.pid} ended before it said that {what} had started", None
        )
        _settle(self._started, lost)
        _settle(self._gone, gone)
        _settle(self._exited, NOT_SEEN)
        if self._is_forgotten:
            self.forget()

    def _judge(self) -> TreeGone | TreeUnknown:
        now = self._loop.time()
        seconds = 0.0 if self._told_to_end_at is None else now - self._told_to_end_at
        if self._last_word is not None:
            killed, left, steps = self._last_word
            return TreeGone(killed, tuple(left), tuple(steps), seconds)
        if self._program is None:
            self._files.reclaim()
            return TreeGone(0, (), ("its warden ended before it was told to go",), seconds)
        death, exited = tree_gone(self._recorded)
        if death is Death.GONE:  # killed between its last word in the file and that to us
            _settle(self._exited, exited)
            return TreeGone(0, (), ("its life file says that it is gone",), seconds)
        what = f"what the command {self._command!r} has started: its warden {self._recorded.pid} was killed"
        return TreeUnknown((what,), seconds)

    def let_go_in_child(self) -> None:
        """Close what a forked child has got of it, without touching its copy of the loop."""
        os.close(self._death)
        self._channel.let_go_in_child()
        self._files.let_go_in_child()


async def _result_of(future: "asyncio.Future[T]") -> T:
    """Wait for a future whose fate is not the waiter's: a cancelled waiter leaves it as it is."""
    if not future.done():
        await asyncio.wait((future,))
    return future.result()


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
