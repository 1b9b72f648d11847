"""What a transaction is given: who asks, for which run, at which moment. Frozen: the run goes on meanwhile."""

import sqlite3
from typing import NamedTuple

from policies.breaker import State
from policies.budget import Bucket
from policies.dice import Draw
from policies.failure import Failed, Receipt
from policies.policy import Policy
from policies.verdict import Reason, Verdict
from supervisor.owner import RecordedTree
from supervisor.store.contract import Refused, Standing

Connection = sqlite3.Connection


class Moment(NamedTuple):
    """Now: on the store's clock (CLOCK_BOOTTIME) and in seconds since 1970; and the dice."""

    at: float
    wall: float
    draw: Draw


class Asking(NamedTuple):
    """A run, as it was when it asked.

    Attributes:
        owner: the id of the process that carries it out.
        number: of its attempt that runs, or ran last.
        deadline_at: on the store's clock.
        parents: ids of the runs above it, the nearest first.
        fence: of the attempt that `begin` began.
        is_tick: a job's tick asked for it.
    """

    owner: str
    run_id: str
    session: str
    policy: Policy
    number: int
    deadline_at: float | None
    parents: tuple[str, ...]
    lock: str | None
    started_wall: float
    duration_s: float
    tree: RecordedTree | None
    reaches_out: bool
    fence: int
    is_tick: bool = False


def asking_of(run: Standing, owner: str, now: float, ahead_s: float) -> Asking:
    """Return a run as it asks at a moment of the loop's clock, by so much behind the store's."""
    parents, above = [], run.parent
    while above is not None:
        parents.append(above.run_id)
        above = above.parent
    return Asking(
        owner,
        run.run_id,
        run.session,
        run.policy,
        run.number,
        None if run.deadline is None else run.deadline + ahead_s,
        tuple(parents),
        None if run.lock_path is None else str(run.lock_path),
        run.started_unix,
        max(0.0, now - run.started_at),
        run.tree,
        run.reaches_out,
        run.fence,
        run.is_tick,
    )


class Ended(NamedTuple):
    """What an attempt came to: all that its record needs.

    Attributes:
        stopped: why nothing more may start, whatever it came to.
        unlaunched_tokens: what a retry took that was begun, and never launched.
        host: the rule of the host's bucket.
    """

    standing: Standing
    failed: Failed | None
    receipt: Receipt
    stopped: Reason | None
    unlaunched_tokens: float | None
    host: Bucket | None


class Changed(NamedTuple):
    """A breaker before and after a transaction: what an event may have to be told of."""

    before: State
    after: State

    @property
    def is_one(self) -> bool:
        return self.after is not self.before


class Began(NamedTuple):
    """What `begin` answers. `fence` is 0 where it is refused; `stop`: why the run was told to end meanwhile."""

    refused: Refused | None
    fence: int = 0
    generation: int = 0
    trial: bool = False
    breaker: Changed | None = None
    stop: str | None = None


class Recorded(NamedTuple):
    """What `record` answers."""

    verdict: Verdict
    breaker: Changed | None = None
    quarantined: bool = False
    tokens: float = 0.0
