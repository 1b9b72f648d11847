"""Bugs of commands and their trees, planted as in `planted.py`."""

import asyncio
from collections.abc import Callable
from typing import Any

import supervisor.run
import supervisor.steps.launch
from supervisor.attempt import Attempt
from supervisor.steps.admit import give_up_place
from supervisor.steps.running import Running
from supervisor.store.contract import Refused
from supervisor.tasks import settled, start_plain, wait_until
from supervisor.tree.contract import TreeGone, TreeUnknown
from supervisor.work.command import Command
from supervisor.work.contract import Alive, Stopped
from supervisor.work.parked_command import PROOF_S, ParkedCommand
from tests.simulation.replaced import Replaced
from tests.simulation.simulate import Plant

_begin = supervisor.steps.launch.begin
_bring_down = ParkedCommand.bring_down
_confirm_stopped = Command.confirm_stopped
_go = ParkedCommand.go
_park = Command.park
_put_away = ParkedCommand.put_away


def _go_at_once(run: Running, attempt: Attempt) -> Any:
    """The command goes while the store is still asked whether its attempt may begin."""
    parked = attempt._parked
    if parked is not None:
        attempt.number = run.number + 1
        parked.going = start_plain(_go(parked, run.work._program(attempt)))
    return _begin(run, attempt)


async def _gone_already(parked: Any, _program: Any) -> None:
    await parked.going


async def _refused_stays_parked(run: Running, attempt: Attempt, answer: Any) -> Refused | None:
    """Refused by begin, an attempt leaves its warden parked."""
    refused: Refused | None = await settled(answer, run.note_cancelled)
    attempt._started_at = run.effects.clock.now()
    if refused is not None:
        await give_up_place(run)
        return refused
    run.start_charged = False
    return None


async def _late_parking_stays(self: Command, attempt: Attempt, lock: Any) -> bool:
    """Cancelled while it parks, a command does not take notice of the tree that gets ready all the same."""
    parking = start_plain(_park(self, attempt, lock))
    return await asyncio.shield(parking)


async def _park_for_long(run: Running, attempt: Attempt, work: Any, lock: Any) -> bool:
    """A warden is waited for, however long it takes to be ready."""
    return bool(await work.park(attempt, lock))


async def _never_dismissed(parked: ParkedCommand, attempt: Attempt) -> None:
    """A tree that never went is forgotten, not dismissed."""
    if parked.went:
        await _put_away(parked, attempt)
    else:
        parked.streams.close()
        attempt._parked = None


async def _nothing_was_started(self: Command, attempt: Attempt) -> Stopped | Alive:
    """An attempt that was cancelled before it went has nothing to stop."""
    parked = attempt._parked
    if parked is None or not parked.went:
        return Stopped("nothing was started")
    return await _confirm_stopped(self, attempt)


async def _unknown_is_gone(self: Command, attempt: Attempt) -> Stopped | Alive:
    """A tree whose warden was killed counts as gone."""
    parked = attempt._parked
    if parked is not None and isinstance(await parked.gone(attempt), TreeUnknown):
        return Stopped("the warden has ended")
    return await _confirm_stopped(self, attempt)


async def _told_is_gone(parked: ParkedCommand, attempt: Attempt, *, leave: bool = False) -> tuple[str, ...]:
    """A tree that was told to stop counts as stopped."""
    parked.tree.stop(attempt._run.policy.attempt.grace_s)
    return ()


async def _word_is_proof(self: Command, attempt: Attempt) -> Stopped | Alive:
    parked = attempt._parked
    return Stopped("told to stop") if parked is not None and parked.went else await _confirm_stopped(self, attempt)


async def _bring_down_once(parked: ParkedCommand, attempt: Attempt, *, leave: bool = False) -> tuple[str, ...]:
    """A cancellation while the tree is brought down ends the waiting for it."""
    if leave:
        parked.tree.leave()
    else:
        parked.tree.stop(attempt._run.policy.attempt.grace_s)
    parked.proof_due = attempt._effects.clock.now() + attempt._run.policy.attempt.grace_s + PROOF_S
    gone = await parked.gone(attempt)
    return gone.left if isinstance(gone, TreeGone) else ()


async def _leave_always(parked: ParkedCommand, attempt: Attempt, *, leave: bool = False) -> tuple[str, ...]:
    """What a failed command has left may stay, too."""
    del leave
    return await _bring_down(parked, attempt, leave=attempt._run.policy.attempt.leave_children)


async def _own_lock(self: Command, attempt: Attempt, lock: Any) -> bool:
    """The lock is taken in this process's name: it is free as soon as this process says so, whatever lives."""
    if lock is not None and not attempt._take_now(lock):
        return False
    return await _park(self, attempt, None)


async def _wait_for_ever(parked: ParkedCommand, _attempt: Attempt) -> Any:
    """A tree is waited for until it is gone, however long that takes."""
    if parked.proof_due is None:
        parked.tree.dismiss()
    gone = await parked.tree.gone()
    parked.is_gone = isinstance(gone, TreeGone)
    return gone


async def _drains_for_long(parked: ParkedCommand, attempt: Attempt, *, leave: bool = False) -> tuple[str, ...]:
    """What a tree has written is waited for as if there were no end to the time for its proof."""
    left = await _bring_down(parked, attempt, leave=leave)
    await wait_until(parked.streams.drained, attempt._effects.clock.now() + 1.0)
    return left


PLANTED_TREES: dict[str, Callable[[], Plant]] = {
    "a command goes before its attempt has begun": lambda: Replaced(
        (supervisor.run, "begin", _go_at_once), (ParkedCommand, "go", _gone_already)
    ),
    "a refused begin leaves its warden parked": lambda: Replaced(
        (supervisor.steps.launch, "_begin", _refused_stays_parked)
    ),
    "a cancelled parking leaves its tree": lambda: Replaced((Command, "park", _late_parking_stays)),
    "what never went is not dismissed": lambda: Replaced(
        (ParkedCommand, "put_away", _never_dismissed), (Command, "confirm_stopped", _nothing_was_started)
    ),
    "a tree whose warden was killed counts as gone": lambda: Replaced((Command, "confirm_stopped", _unknown_is_gone)),
    "a tree that was told to stop counts as gone": lambda: Replaced(
        (ParkedCommand, "bring_down", _told_is_gone), (Command, "confirm_stopped", _word_is_proof)
    ),
    "a cancellation cuts a bring-down short": lambda: Replaced((ParkedCommand, "bring_down", _bring_down_once)),
    "a failed command leaves what it started": lambda: Replaced((ParkedCommand, "bring_down", _leave_always)),
    "a command's lock is not its tree's": lambda: Replaced((Command, "park", _own_lock)),
    "output is waited for beyond the time for the proof": lambda: Replaced(
        (ParkedCommand, "bring_down", _drains_for_long)
    ),
    "a proof is waited for without end": lambda: Replaced((ParkedCommand, "gone", _wait_for_ever)),
    "a tree has no time to be proved gone": lambda: Replaced((Command, "proof_s", 0.0)),
    "a warden that hangs as it starts is waited for": lambda: Replaced(
        (supervisor.steps.launch, "_park_in_time", _park_for_long)
    ),
}
