"""A command as work: parked under its warden, told to go, its whole tree stopped and proved gone.

park       pipes and warden, and the lock file in the warden's name; nothing of the command runs
start      go; then until the command exits, holds too much memory, or is told to end
bring down every process that is left is asked, after the grace forced, until the warden says that none is left;
           what they wrote is passed on to its end
confirm    the warden's word is the proof: for the receipt
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from policies.failure import Failed, Kind
from policies.policy import LockedBy
from supervisor.attempt import Attempt, Held
from supervisor.errors import CommandFailed, Failure
from supervisor.tasks import start_plain, wait_until
from supervisor.tree.contract import Exited, LockWanted, Program, Tree, TreeGone, TreeUnknown
from supervisor.tree.kernel_kills import kernel_kills
from supervisor.work.command_failure import failure_by, output_lost, over_memory
from supervisor.work.contract import Alive, Stopped
from supervisor.work.lock_of_command import LockOfCommand
from supervisor.work.nesting import DEADLINE, variables_of

if TYPE_CHECKING:
    from supervisor.work.stdin import Input
    from supervisor.work.streams import CommandStreams

PROOF_S: Final = 1.0
"""Beyond the grace: how long the warden may take to see the killed tree gone, before it counts as not proved dead."""

MOST_REPORTED: Final = 4096
"""Bytes of a command's output in a report."""

_TELL_S: Final = 0.1
"""Of that, to say that there is no proof: else the attempt is given up first, and its task takes the blame."""

_DRAIN_S: Final = 1.0
"""For what a stopped command has written, while our own reader does not take it."""

_SETTLE_S: Final = 0.05
"""For what a command has written just before it exited; a daemon that it left may keep its pipes for longer."""

_LOOK_S: Final = 0.01
_LOCK_LOOK_S: Final = 0.25
"""A holder that has died before the tree is stopped was seen to be of the tree, if it lived for so long."""


class CommandResult(NamedTuple):
    """What a command that succeeded leaves: the value of its run.

    Attributes:
        stdout: its last 1 MiB; empty where it went elsewhere.
        output: the last 64 KiB of stdout and stderr in order of arrival, as text.
        left: what of it lives on, where the policy's `leave_children` allows that.
        stdout_is_cut: there was more of it, before.
    """

    exit_code: int
    stdout: bytes
    output: str
    left: tuple[str, ...] = ()
    stdout_is_cut: bool = False


class Command:
    """A command to run under a policy: `await supervisor.run("agent:main:reports", Command(["openclaw", "agent"]))`.

    Args:
        argv: the program, looked for in PATH if it has no slash, and its arguments. No shell reads them.
        env: its whole environment; this process's if left out. The names of `nesting.py` are added.
        cwd: the folder it starts in; this process's if left out.
        stdin: what it reads: bytes, the same for each attempt; or one of this process's descriptors.
        stdout, stderr: descriptors that its output is passed on to. None: stdout is kept for the result, stderr for
            its tail.

    A run of it raises RunFailed as any other; a failure has the command's exit code or signal and its output's tail.
    """

    proof_s = PROOF_S

    def __init__(
        self,
        argv: Sequence[str | PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | PathLike[str] | None = None,
        stdin: "bytes | int | None" = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        if isinstance(argv, str | bytes):
            raise TypeError("a command is a list of arguments, not one text: no shell takes it apart")
        self.argv = tuple(os.fspath(argument) for argument in argv)
        if not self.argv or not self.argv[0]:
            raise ValueError("a command needs a program to run: its list of arguments is empty")
        self._env = None if env is None else dict(env)
        for name, value in (self._env or {}).items():
            if not all(isinstance(part, str) for part in (name, value)):
                raise TypeError(f"a command's environment is text: got {name!r}: {type(value).__name__}")
        self._cwd = None if cwd is None else os.fspath(cwd)
        self._given, self._stdout, self._stderr = stdin, stdout, stderr
        self._inputs: dict[str, Input] = {}  # by run: what it has read is its own
        self._parked: set[_Parked] = set()

    def __repr__(self) -> str:
        return f"<Command {self.argv[0]}>"

    # --- what the engine asks

    async def park(self, attempt: Attempt, lock: Path | None) -> bool:
        """Make everything ready but the command itself. False: somebody has the lock, and nothing was made."""
        by_command = attempt._run.policy.lock.by is LockedBy.COMMAND
        try:
            streams = self._open_streams(attempt)
        except OSError as error:
            raise Failure(Kind.ERROR, f"a command's streams cannot be opened: {error.strerror}") from error
        wanted = None if lock is None or by_command else LockWanted(lock, attempt._max_hold_s())
        try:
            tree = await attempt._effects.launcher().park(streams.descriptors(), wanted)
        except BaseException:
            streams.close()
            raise
        if tree is None:
            streams.close()
            return False
        streams.close_theirs()
        its_lock = LockOfCommand(lock) if lock is not None and by_command else None
        parked = _Parked(tree, streams, its_lock, self._kernel_kills())
        attempt._parked = parked
        self._parked.add(parked)
        attempt._open_scope().append(Held("streams closed", lambda _: self._put_away(attempt, parked)))
        if tree.lock_path is not None:
            attempt._note_taken(tree.lock_path)
        return True

    async def start(self, attempt: Attempt) -> CommandResult:
        """Run the command until its whole tree is gone. Raises CommandFailed unless it succeeded."""
        parked: _Parked = attempt._parked
        due = attempt.deadline
        try:
            await self._go(attempt, parked)
            ended = await self._end_of_command(attempt, parked)
        except asyncio.CancelledError:
            await self._bring_down(attempt, parked)
            raise
        except BaseException:
            attempt._end_its_time()  # where it could not be started
            await self._bring_down(attempt, parked)
            raise
        may_leave = attempt._run.policy.attempt.leave_children and self._judge(attempt, parked, ended) is None
        left = await self._bring_down(attempt, parked, leave=may_leave)
        # A failure may be tried again: its output is waited for in its own time. Of a success nothing may be lost.
        until = attempt._run.deadline if ended.code == 0 else due
        taken = parked.is_gone and await self._output_taken(attempt, parked, until, may_never_end=bool(left))
        failure = None if left else self._judge(attempt, parked, ended)
        if failure is None and parked.is_gone and not taken:
            failure = output_lost(self._name, "nobody has taken it before the run's deadline")
        if failure is not None:
            raise failure
        stdout, is_cut = parked.streams.captured()
        return CommandResult(0, stdout, _text(parked.streams.tail()), left, stdout_is_cut=is_cut)

    async def confirm_stopped(self, attempt: Attempt) -> Stopped | Alive:
        """Tell by the warden's word whether anything of the attempt may live."""
        parked: _Parked | None = attempt._parked
        if parked is None:
            return Stopped("nothing was started")
        match await self._gone(attempt, parked):
            case None:
                return Alive(f"processes of {self.argv[0]!r}, below warden {parked.tree.recorded.pid}")
            case TreeUnknown(alive):
                return Alive(", ".join(alive))
            case TreeGone() as gone:
                parked.tree.forget()
                reclaimed = False if parked.lock is None else await parked.lock.reclaim(attempt)
                return Stopped(_receipt(parked.tree, gone), gone.killed, lock_reclaimed=reclaimed)

    def known(self, attempt: Attempt, failed: Failed) -> Failed:
        """Add its output's end, what went wrong with its streams, and whether it can be given its stdin again."""
        parked: _Parked | None = attempt._parked
        if parked is None:
            return failed
        stdin, streams = self._inputs.get(attempt.run_id), parked.streams
        troubles = (streams.trouble(), "" if stdin is None else stdin.trouble)
        message = "; ".join((failed.message, *(trouble for trouble in troubles if trouble not in failed.message)))
        is_repeatable = stdin is None or not stdin.is_consumed
        return failed._replace(
            message=message, output_tail=_text(streams.tail()[-MOST_REPORTED:]), repeatable=is_repeatable
        )

    def over(self, run_id: str) -> None:
        """Let go of what was kept of stdin for another attempt."""
        if run_id in self._inputs:
            self._inputs.pop(run_id).close()

    # --- what its owner asks

    def hasten(self) -> None:
        """Skip the rest of the grace, where a tree of it is being stopped, or all of it, where one is about to be."""
        for parked in self._parked:
            parked.is_hastened = True
            if parked.proof_due is not None:
                parked.tree.hasten()

    # --- one attempt

    def _open_streams(self, attempt: Attempt) -> "CommandStreams":
        from supervisor.work.stdin import input_of
        from supervisor.work.streams import CommandStreams

        stdin = self._inputs.get(attempt.run_id)
        if stdin is None:
            stdin = self._inputs[attempt.run_id] = input_of(self._given)
        return CommandStreams(stdin, self._stdout, self._stderr, attempt.heartbeat)

    def _kernel_kills(self) -> int:
        return kernel_kills()

    async def _go(self, attempt: Attempt, parked: "_Parked") -> None:
        env = os.environ if self._env is None else self._env
        most_bytes = attempt._run.policy.attempt.max_rss_bytes
        own = {name: value for name, value in env.items() if name != DEADLINE}  # a stale one: an attempt may have none
        program = Program(self.argv, {**own, **variables_of(attempt)}, self._cwd, most_bytes)
        parked.went = True
        parked.streams.feed()
        started = await parked.tree.go(program)
        if parked.lock is not None:
            parked.lock.note_command(started)

    async def _end_of_command(self, attempt: Attempt, parked: "_Parked") -> Exited:
        """Wait until the command itself has ended. Raises CommandFailed if it has to be ended for its memory."""
        tree = parked.tree
        exited = start_plain(tree.exited())
        try:
            await self._watch(attempt, parked, exited)
            attempt._end_its_time()  # what it has left is given the grace: that is no timeout
            if tree.over_memory.done() and not exited.done():
                held, most = tree.over_memory.result(), attempt._run.policy.attempt.max_rss_bytes
                raise over_memory(held, most or 0)
            ended = await exited
        finally:
            exited.cancel()
        parked.killed_by_kernel = self._kernel_kills() > parked.kernel_kills
        await wait_until(parked.streams.drained, self._moment(attempt) + _SETTLE_S)  # what it has said last
        return ended

    async def _watch(self, attempt: Attempt, parked: "_Parked", exited: "asyncio.Task[Exited]") -> None:
        """Wait until the command has exited, or holds too much; look meanwhile who has the lock that it takes."""
        tree, lock = parked.tree, parked.lock
        look_s = None if lock is None else _LOCK_LOOK_S
        while True:
            done, _ = await asyncio.wait(
                (exited, tree.over_memory), timeout=look_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            assert lock is not None, "without one nothing is looked at"
            lock.note_holder(attempt, tree.recorded.pid)

    def _judge(self, attempt: Attempt, parked: "_Parked", ended: Exited) -> CommandFailed | None:
        rules, killed = attempt._run.policy.failures, parked.killed_by_kernel
        return failure_by(self._name, ended, rules, parked.streams, killed_by_kernel=killed)

    async def _output_taken(
        self, attempt: Attempt, parked: "_Parked", until: float | None, *, may_never_end: bool
    ) -> bool:
        """Wait until what was written is passed on; False: not before that moment.

        A daemon that was left may have the pipes, and keep them: then it is all that is in them now.
        """
        streams = parked.streams
        if not may_never_end:
            return await wait_until(streams.drained, until)
        while not streams.is_caught_up():
            if until is not None and self._moment(attempt) >= until:
                return False
            await attempt._effects.clock.sleep(_LOOK_S)
        return True

    async def _bring_down(self, attempt: Attempt, parked: "_Parked", *, leave: bool = False) -> tuple[str, ...]:
        """Have the tree end, and see it end; return what was left. A cancellation meanwhile is raised at the end."""
        grace_s, cancelled = 0.0 if parked.is_hastened else attempt._run.policy.attempt.grace_s, None
        if parked.lock is not None:
            parked.lock.note_holder(attempt, parked.tree.recorded.pid)
        if leave:
            parked.tree.leave()
        else:
            parked.tree.stop(grace_s)
        parked.proof_due = self._moment(attempt) + grace_s + PROOF_S - _TELL_S
        drained_by = None
        while True:
            try:
                gone = await self._gone(attempt, parked)
                if drained_by is None:
                    drain_s = _DRAIN_S if isinstance(gone, TreeGone) else _SETTLE_S  # what lives may keep its pipes
                    # Before the attempt is given up: that nobody takes its output is no doubt of its end.
                    drained_by = min(self._moment(attempt) + drain_s, parked.proof_due + _SETTLE_S)
                if not leave:
                    await wait_until(parked.streams.drained, drained_by)
                break
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return gone.left if isinstance(gone, TreeGone) else ()

    async def _gone(self, attempt: Attempt, parked: "_Parked") -> TreeGone | TreeUnknown | None:
        """Wait for the proof for as long as it may take; None: there is none yet."""
        if parked.proof_due is None:  # it was never told to go
            parked.tree.dismiss()
            parked.proof_due = self._moment(attempt) + PROOF_S
        task = start_plain(parked.tree.gone())
        try:
            gone = task.result() if await wait_until(task, parked.proof_due) else None
            parked.is_gone = isinstance(gone, TreeGone)
            return gone
        finally:
            task.cancel()

    async def _put_away(self, attempt: Attempt, parked: "_Parked") -> None:
        """Let go of what was made ready, whether it came to an attempt or not."""
        try:
            if not parked.went:
                parked.tree.forget()  # once it is gone, if nobody waits that long for it
                await self._gone(attempt, parked)
        finally:
            parked.streams.close()
            self._parked.discard(parked)
            if parked.is_gone:  # whoever still has the attempt has not what was written
                attempt._parked = None
            else:  # it is asked again; and it ends, and its life file with it, though nobody may be there to see
                parked.tree.abandon()

    @property
    def _name(self) -> str:
        return os.path.basename(self.argv[0])

    def _moment(self, attempt: Attempt) -> float:
        return attempt._effects.clock.now()


class _Parked:
    """What one attempt has of its command."""

    def __init__(
        self, tree: Tree, streams: "CommandStreams", lock: LockOfCommand | None, kernel_kills_before: int
    ) -> None:
        self.tree = tree
        self.streams = streams
        self.lock = lock
        self.kernel_kills = kernel_kills_before
        self.killed_by_kernel = False
        self.went = False
        self.is_gone = False
        self.is_hastened = False
        self.proof_due: float | None = None  # once it was told to end


def _receipt(tree: Tree, gone: TreeGone) -> str:
    steps = list(gone.steps) or ["no process left"]
    if gone.left:
        steps = [f"left alive, as it may be: {', '.join(gone.left)}"]
    if tree.lock_path is not None:
        steps.append(f"lock {tree.lock_path} released")
    return ", ".join(steps)


def _text(tail: bytes) -> str:
    return tail.decode(errors="replace")
