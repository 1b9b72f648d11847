"""Runs that an operator wants ended, in whatever process: asked, waited for, and where nobody answers, taken by proof.

A process that lives hears of it within a tenth of a second, and stops its attempt itself. What a dead one had is ended
by its warden's proof. One that stands still is not waited for beyond the bound: the warden of its command is asked to
stop the tree; its work of its own cannot be stopped by others.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from policies.verdict import Reason
from supervisor.clock import Clock
from supervisor.recovery.lost_runs import LostRuns
from supervisor.store.sqlite import operate

if TYPE_CHECKING:
    from supervisor.store.sqlite.operate import Left, Stopping
    from supervisor.store.sqlite.store import SqliteStore

HEARD_S: Final = 0.25
_LOOK_S: Final = 0.01


class Stopped(NamedTuple):
    """What became of the runs: all that were asked to end, those of them that have not, and what keeps a session shut.

    `quarantined` is of any run, however long ago it ended: where something may still live, nothing was stopped.
    """

    run_ids: list[str]
    left: "list[Stopping]"
    quarantined: "list[Left]"


async def stop(clock: Clock, store: "SqliteStore", lost: LostRuns, session: str, reason: Reason) -> Stopped:
    """End every run of a session ('': of every session), and wait until each is over, as long as its grace allows."""
    run_ids = await store.database.run(operate.stop, session, reason.value, store.owner, clock.wall())
    asked = frozenset(run_ids)
    left = await store.database.read(operate.stopping, asked)
    grace_s = max((run.grace_s for run in left), default=0.0)
    until = clock.now() + HEARD_S + 2 * grace_s + 1.0
    while left and clock.now() < until:
        for owner in {run.owner for run in left}:
            await lost.bury_if_dead(owner)
        await clock.sleep(_LOOK_S)
        left = await store.database.read(operate.stopping, asked)
    if left:
        for owner in {run.owner for run in left}:
            await lost.take(owner, asked)
        await store.database.run(operate.end_unheard, [run.run_id for run in left], store.owner, store.moment())
        left = await store.database.read(operate.stopping, asked)
    await lost.lift_quarantines()
    return Stopped(run_ids, left, await store.database.read(operate.quarantined, session))
