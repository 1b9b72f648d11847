"""The lock file that a command takes itself (`lock.by = "command"`), as `openclaw agent --local` does.

It is waited for before the start, never taken by us, and removed after the stop if its holder was of our tree: then
the proof that the tree is gone is the proof that the holder is dead. A holder is of our tree if it is the command
itself, or was seen below its warden. Any other is judged as always.
"""

from pathlib import Path

from policies.policy import LockRule, Pids
from supervisor.attempt import Attempt
from supervisor.errors import Failure, SessionLocked
from supervisor.owner import is_below
from supervisor.tree.contract import Started


class LockOfCommand:
    """What is known of one attempt's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ours: set[tuple[int, int | None]] = set()

    def note_command(self, command: Started) -> None:
        """The command has started, and may have ended by now."""
        self._ours.add(command)

    def note_holder(self, attempt: Attempt, warden: int) -> None:
        """Look whether the lock's holder lives in the tree below this warden, which is about to be stopped."""
        holder = attempt._effects.locks.named_by(self._path)
        if holder is not None and is_below(holder[0], holder[1], warden):
            self._ours.add(holder)

    async def reclaim(self, attempt: Attempt) -> bool:
        """The tree is gone: remove what it left of its lock, on proof; tell whether there was something to remove."""
        rule, locks = attempt._run.policy.lock, attempt._effects.locks
        removed = False

        def note(path: Path, proof: str) -> None:
            nonlocal removed
            removed = True
            attempt._note_reclaimed(path, proof)

        pids = Pids.OURS if locks.named_by(self._path) in self._ours else rule.pids
        try:
            await locks.wait_until_free(
                self._path, LockRule(wait_s=0.0, by=rule.by, pids=pids), attempt._lock_wait(on_reclaimed=note)
            )
        except (
            SessionLocked,
            Failure,
        ):  # somebody else has it, or it cannot be judged: it is the next one's to wait for
            return False
        return removed
