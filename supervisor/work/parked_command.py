"""What one attempt has of its command: its warden and the tree below, its streams, and the lock that it takes itself.

It is told to go, watched to its end, brought down, proved gone and put away. The attempt is handed to each step, never
kept: it has this, and a cycle of the two would keep what was written until the next collection.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.attempt import Attempt
from supervisor.errors import CommandFailed
from supervisor.lock.life_file import Exited
from supervisor.tasks import start_plain, wait_until
from supervisor.tree.contract import Program, Tree, TreeGone, TreeUnknown
from supervisor.work.command_failure import failure_by, over_memory
from supervisor.work.lock_of_command import LockOfCommand

if TYPE_CHECKING:
    from supervisor.work.streams import CommandStreams

PROOF_S: Final = 1.0
"""Beyond the grace: how long the warden may take to see the killed tree gone, before it counts as not proved dead."""

_TELL_S: Final = 0.1
"""Of that, to say that there is no proof: else the attempt is given up first, and its task takes the blame."""

_DRAIN_S: Final = 1.0
"""For what a stopped command has written, while our own reader does not take it."""

_SETTLE_S: Final = 0.05
"""For what a command has written just before it exited; a daemon that it left may keep its pipes for longer."""

_LOOK_S: Final = 0.01
_LOCK_LOOK_S: Final = 0.25
"""A holder that has died before the tree is stopped was seen to be of the tree, if it lived for so long."""


class ParkedCommand:
    """A command under its warden, from its parking until it is put away.

    Args:
        name: the command's, for people.
        count_kills: how many processes the kernel has killed for memory so far.
    """

    def __init__(
        self,
        name: str,
        tree: Tree,
        streams: "CommandStreams",
        lock: LockOfCommand | None,
        count_kills: Callable[[], int],
    ) -> None:
        self.tree = tree
        self.streams = streams
        self.lock = lock
        self.went = False
        self.is_gone = False
        self.proof_due: float | None = None  # once it was told to end
        self._name = name
        self._count_kills = count_kills
        self._kills_before = count_kills()
        self._killed_by_kernel = False
        self._is_hastened = False

    def hasten(self) -> None:
        """Skip the rest of the grace, where it is being stopped, or all of it, where it is about to be."""
        self._is_hastened = True
        if self.proof_due is not None:
            self.tree.hasten()

    async def go(self, program: Program) -> None:
        """Have the warden start the program."""
        self.went = True
        self.streams.feed()
        started = await self.tree.go(program)
        if self.lock is not None:
            self.lock.note_command(started)

    async def ended(self, attempt: Attempt) -> Exited:
        """Wait until the command itself has ended. Raises CommandFailed if it has to be ended for its memory."""
        tree = self.tree
        exited = start_plain(tree.exited())
        try:
            await self._watch(attempt, exited)
            attempt._end_its_time()  # what it has left is given the grace: that is no timeout
            if tree.over_memory.done() and not exited.done():
                held, most = tree.over_memory.result(), attempt._run.policy.attempt.max_rss_bytes
                raise over_memory(held, most or 0)
            ended = await exited
        finally:
            exited.cancel()
        self._killed_by_kernel = self._count_kills() > self._kills_before
        await wait_until(self.streams.drained, _moment(attempt) + _SETTLE_S)  # what it has said last
        return ended

    async def _watch(self, attempt: Attempt, exited: "asyncio.Task[Exited]") -> None:
        """Wait until the command has exited, or holds too much; look meanwhile who has the lock that it takes."""
        tree, lock = self.tree, self.lock
        look_s = None if lock is None else _LOCK_LOOK_S
        while True:
            done, _ = await asyncio.wait(
                (exited, tree.over_memory), timeout=look_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            assert lock is not None, "without one nothing is looked at"
            lock.note_holder(attempt, tree.recorded.pid)

    def judge(self, attempt: Attempt, ended: Exited) -> CommandFailed | None:
        """Return the failure that its end and its output so far come to; None: it has succeeded."""
        rules, killed = attempt._run.policy.failures, self._killed_by_kernel
        return failure_by(self._name, ended, rules, self.streams, killed_by_kernel=killed)

    async def output_taken(self, attempt: Attempt, until: float | None, *, may_never_end: bool) -> bool:
        """Wait until what was written is passed on; False: not before that moment.

        A daemon that was left may have the pipes, and keep them: then it is all that is in them now.
        """
        if not may_never_end:
            return await wait_until(self.streams.drained, until)
        while not self.streams.is_caught_up():
            if until is not None and _moment(attempt) >= until:
                return False
            await attempt._effects.clock.sleep(_LOOK_S)
        return True

    async def bring_down(self, attempt: Attempt, *, leave: bool = False) -> tuple[str, ...]:
        """Have the tree end, and see it end; return what was left. A cancellation meanwhile is raised at the end."""
        grace_s, cancelled = 0.0 if self._is_hastened else attempt._run.policy.attempt.grace_s, None
        if self.lock is not None:
            self.lock.note_holder(attempt, self.tree.recorded.pid)
        if leave:
            self.tree.leave()
        else:
            self.tree.stop(grace_s)
        self.proof_due = _moment(attempt) + grace_s + PROOF_S - _TELL_S
        drained_by = None
        while True:
            try:
                gone = await self.gone(attempt)
                if drained_by is None:
                    drain_s = _DRAIN_S if isinstance(gone, TreeGone) else _SETTLE_S  # what lives may keep its pipes
                    # Before the attempt is given up: that nobody takes its output is no doubt of its end.
                    drained_by = min(_moment(attempt) + drain_s, self.proof_due + _SETTLE_S)
                if not leave:
                    await wait_until(self.streams.drained, drained_by)
                break
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return gone.left if isinstance(gone, TreeGone) else ()

    async def gone(self, attempt: Attempt) -> TreeGone | TreeUnknown | None:
        """Wait for the proof for as long as it may take; None: there is none yet."""
        if self.proof_due is None:  # it was never told to go
            self.tree.dismiss()
            self.proof_due = _moment(attempt) + PROOF_S
        task = start_plain(self.tree.gone())
        try:
            gone = task.result() if await wait_until(task, self.proof_due) else None
            self.is_gone = isinstance(gone, TreeGone)
            return gone
        finally:
            task.cancel()

    async def put_away(self, attempt: Attempt) -> None:
        """Let go of what was made ready, whether it came to an attempt or not."""
        try:
            if not self.went:
                self.tree.forget()  # once it is gone, if nobody waits that long for it
                await self.gone(attempt)
        finally:
            self.streams.close()
            if self.is_gone:  # whoever still has the attempt has not what was written
                attempt._parked = None
            else:  # it is asked again; and it ends, and its life file with it, though nobody may be there to see
                self.tree.abandon()


def _moment(attempt: Attempt) -> float:
    return attempt._effects.clock.now()
