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
from supervisor.errors import Failure
from supervisor.os_error import reason_of
from supervisor.tree.contract import LockWanted, Program, Tree, TreeGone, TreeUnknown
from supervisor.tree.kernel_kills import kernel_kills
from supervisor.work.command_failure import output_lost
from supervisor.work.contract import Alive, Stopped
from supervisor.work.lock_of_command import LockOfCommand
from supervisor.work.nesting import DEADLINE, variables_of
from supervisor.work.parked_command import PROOF_S, ParkedCommand

if TYPE_CHECKING:
    from supervisor.work.stdin import Input
    from supervisor.work.streams import CommandStreams

MOST_REPORTED: Final = 4096
"""Bytes of a command's output in a report."""


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
        self._parked: set[ParkedCommand] = set()

    def __repr__(self) -> str:
        return f"<Command {self.argv[0]}>"

    # --- what the engine asks

    async def park(self, attempt: Attempt, lock: Path | None) -> bool:
        """Make everything ready but the command itself. False: somebody has the lock, and nothing was made."""
        by_command = attempt._run.policy.lock.by is LockedBy.COMMAND
        try:
            streams = self._open_streams(attempt)
        except OSError as error:
            raise Failure(Kind.ERROR, f"a command's streams cannot be opened: {reason_of(error)}") from error
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
        parked = ParkedCommand(self._name, tree, streams, its_lock, self._kernel_kills)
        attempt._parked = parked
        attempt._run.tree = tree.recorded
        self._parked.add(parked)
        attempt._open_scope().append(Held("streams closed", lambda _: self._put_away(attempt, parked)))
        if tree.lock_path is not None:
            attempt._note_taken(tree.lock_path)
        return True

    async def start(self, attempt: Attempt) -> CommandResult:
        """Run the command until its whole tree is gone. Raises CommandFailed unless it succeeded."""
        parked: ParkedCommand = attempt._parked
        due = attempt.deadline
        try:
            await parked.go(self._program(attempt))
            ended = await parked.ended(attempt)
        except asyncio.CancelledError:
            await parked.bring_down(attempt)
            raise
        except BaseException:
            attempt._end_its_time()  # where it could not be started
            await parked.bring_down(attempt)
            raise
        may_leave = attempt._run.policy.attempt.leave_children and parked.judge(attempt, ended) is None
        left = await parked.bring_down(attempt, leave=may_leave)
        # A failure may be tried again: its output is waited for in its own time. Of a success nothing may be lost.
        until = attempt._run.deadline if ended.code == 0 else due
        taken = parked.is_gone and await parked.output_taken(attempt, until, may_never_end=bool(left))
        failure = None if left else parked.judge(attempt, ended)
        if failure is None and parked.is_gone and not taken:
            failure = output_lost(self._name, "nobody has taken it before the run's deadline")
        if failure is not None:
            raise failure
        stdout, is_cut = parked.streams.captured()
        return CommandResult(0, stdout, _text(parked.streams.tail()), left, stdout_is_cut=is_cut)

    async def confirm_stopped(self, attempt: Attempt) -> Stopped | Alive:
        """Tell by the warden's word whether anything of the attempt may live."""
        parked: ParkedCommand | None = attempt._parked
        if parked is None:
            return Stopped("nothing was started")
        match await parked.gone(attempt):
            case None:
                return Alive(f"processes of {self.argv[0]!r}, below warden {parked.tree.recorded.pid}")
            case TreeUnknown(alive):
                return Alive(", ".join(alive))
            case TreeGone() as gone:
                attempt._written = parked.tree.forget  # until then a recovery needs its life file
                reclaimed = False if parked.lock is None else await parked.lock.reclaim(attempt)
                return Stopped(_receipt(parked.tree, gone), gone.killed, lock_reclaimed=reclaimed)

    def known(self, attempt: Attempt, failed: Failed) -> Failed:
        """Add its output's end, what went wrong with its streams, and whether it can be given its stdin again."""
        parked: ParkedCommand | None = attempt._parked
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
            parked.hasten()

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

    def _program(self, attempt: Attempt) -> Program:
        env = os.environ if self._env is None else self._env
        own = {name: value for name, value in env.items() if name != DEADLINE}  # a stale one: an attempt may have none
        most_bytes = attempt._run.policy.attempt.max_rss_bytes
        return Program(self.argv, {**own, **variables_of(attempt)}, self._cwd, most_bytes)

    async def _put_away(self, attempt: Attempt, parked: ParkedCommand) -> None:
        try:
            await parked.put_away(attempt)
        finally:
            self._parked.discard(parked)

    @property
    def _name(self) -> str:
        return os.path.basename(self.argv[0])


def _receipt(tree: Tree, gone: TreeGone) -> str:
    steps = list(gone.steps) or ["no process left"]
    if gone.left:
        steps = [f"left alive, as it may be: {', '.join(gone.left)}"]
    if tree.lock_path is not None:
        steps.append(f"lock {tree.lock_path} released")
    return ", ".join(steps)


def _text(tail: bytes) -> str:
    return tail.decode(errors="replace")
