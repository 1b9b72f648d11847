"""What the engine asks of a store. Each call is one transaction, asked once.

`leave` and `end` change nothing when asked again. A store that asks a database again, because an answer was lost, has
to give the first answer: the run, its number and its fence tell a repetition from the next question.
A store that has its answer at once returns it; one that must wait for it returns a coroutine (`Now`). One that cannot
be reached, or cannot keep what it is given, raises StoreUnavailable.
"""

from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from policies.breaker import Admitted, State
from policies.budget import Bucket
from policies.failure import Failed, Receipt, Refusal
from policies.policy import Policy
from policies.verdict import Finish, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.clock import Clock
from supervisor.events import Events
from supervisor.owner import RecordedTree
from supervisor.report import Status
from supervisor.tasks import Now


@dataclass(frozen=True, slots=True)
class Refused:
    """The run may not start an attempt now.

    `until` is a moment of the store's clock at which it may ask again; None: unknown. `detail` is for a person. `seen`
    is the breaker that refused it: what `breaker_moved` is told.
    """

    reason: Refusal
    detail: str = ""
    until: float | None = None
    seen: State | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run stands in line: ask for its `turn`."""


WAITING = Waiting()


class Ending(NamedTuple):
    """How a run ended. `detail` says more about a refusal."""

    status: Status
    reason: str | None = None
    detail: str = ""


SUCCEEDED = Ending(Status.SUCCEEDED)
_STOPPED = frozenset({Reason.CANCELLED, Reason.REPLACED, Reason.CLOSED, Reason.STOPPED, Reason.PAUSED})


class Standing:
    """A run as a store sees it: what it is under, and what it holds. The engine's run derives from it.

    Attributes:
        number: of its attempt that runs or ran last; 0 before the first.
        parent: the run within whose attempt it was started.
        retries_below: retries that runs started within it have taken from its budget.
        retry_reserved: a retry was granted that is not launched yet; `tokens` are what it took.
        holds_permit: it has one of its session's permits.
        replaces: it cancelled every older run of its session, and waits until each of them is over.
        never_launched: the run was told to end while its attempt was begun: that one's work never started.
        failed_below: its last failure is that of a run within it.
        left_tasks, left_elsewhere: what an attempt that is not proved dead has left: tasks of this process, work that
            only its own far end can tell of.
        is_written: the last attempt's end is in the store; False: the store could not take it yet.
        when_written: what the store calls once it could.
        started_at, started_unix: when it was asked for: a moment of the clock, seconds since 1970.
        lock_path: the session's file that it names.
        reaches_out: its work has a far end, which may live on when this process is dead.
        tree: the warden of the attempt that is about to begin; None: its work is this process's own.
        is_tick: a job's tick asked for it: the ledger of ticks is told what becomes of it.
        turn: resolved when its turn comes, with None, or with the refusal that ends its waiting.
        admitted, fence: of the attempt that `begin` began.
    """

    session: str
    policy: Policy
    started_at: float = 0.0
    started_unix: float = 0.0
    lock_path: Path | None = None
    reaches_out: bool = False
    tree: RecordedTree | None = None
    failed_below: bool = False
    left_tasks: bool = False
    left_elsewhere: bool = False
    is_written: bool = True
    when_written: Callable[[], None] | None = None
    number: int = 0
    deadline: float | None = None
    parent: "Standing | None" = None
    retries_below: int = 0
    retry_reserved: bool = False
    tokens: float = 0.0
    holds_permit: bool = False
    replaces: bool = False
    is_tick: bool = False
    never_launched: bool = False
    turn: "Future[Refused | None] | None" = None
    admitted: Admitted
    fence: int = 0

    @property
    def run_id(self) -> str:
        """The run's id."""
        raise NotImplementedError

    @property
    def begins_at_once(self) -> bool:
        """Nothing is made ready between its permit and its first attempt: a store may begin that as it lets it in."""
        return False

    def interrupt(self, reason: Reason) -> None:
        """Ask the run to end, wherever it is; it is not awaited."""
        raise NotImplementedError

    def ending_of(self, end: Verdict | Refused, failed: Failed | None) -> Ending:
        """Return how the run ends by its last verdict, or by a refusal; `failed` is its last failure."""
        match end:
            case Finish():
                return SUCCEEDED
            case GiveUp(reason):
                if reason in _STOPPED:
                    return Ending(Status.CANCELLED, reason)
                if reason is Refusal.BUSY and self.number == 1 and not self.failed_below:
                    return Ending(Status.REFUSED, reason, "" if failed is None else failed.message)
                return Ending(Status.FAILED, reason)
            case Refused(reason, detail):
                return Ending(Status.FAILED if self.number else Status.REFUSED, reason, detail)
            case Quarantine(alive):
                return Ending(Status.QUARANTINED, Reason.UNCONFIRMED, ", ".join(alive))
            case Retry():
                raise AssertionError("a run does not end with a retry")

    def retries_left(self) -> int:
        """Return how many retries the run's budget still allows, its own and those of runs within it counted."""
        return self.policy.budget.attempts - max(self.number, 1) - self.retries_below

    def retries_left_above(self) -> int | None:
        """Return the fewest retries that any run above this one has left; None where it has no parent."""
        fewest, above = None, self.parent
        while above is not None:
            left = above.retries_left()
            fewest = left if fewest is None else min(fewest, left)
            above = above.parent
        return fewest

    def charge_parents(self, retries: int) -> None:
        """Take so many retries (or give back, where negative) from the budget of every run above this one."""
        above = self.parent
        while above is not None:
            above.retries_below += retries
            above = above.parent


class Store(Protocol):
    """Where leases, lines, breakers, tokens and quarantines live.

    Attributes:
        alive: the folder of the life files of those whom it remembers; None: it forgets all when this process ends.
    """

    @property
    def alive(self) -> Path | None: ...

    def open(self, clock: Clock, events: Events, host: Bucket | None) -> Now[None]:
        """Begin to serve; `host` is the rule of the host's bucket."""

    def close(self) -> Now[None]:
        """End to serve; every run is over."""

    def change_host(self, host: Bucket | None) -> None:
        """Have another rule of the host's bucket from now on."""

    def arrive(self, run: Standing) -> Now[Refused | Waiting | None]:
        """Look, and ask the gate. None: the run holds a permit; Waiting: it stands in line."""

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        """Wait in line until a moment. None: the run holds a permit; Refused: it is out of the line."""

    def leave(self, run: Standing) -> Now[None]:
        """Take the run out of the line, or its permit back, and pass it on. Does nothing to one that has neither."""

    def begin(self, run: Standing) -> Now[Refused | None]:
        """Admit one attempt and give it its fence. Refused: the permit is given back."""

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Now[Verdict]:
        """Write how the attempt ended, give its permit back, and return the verdict, with its token taken.

        A retry whose work was never launched gives back what it took.
        An unknown receipt quarantines the session in the same transaction: until `lift`, nothing starts for it.
        """

    def end(self, run: Standing, ending: Ending) -> Now[None]:
        """The run is over without a last record: refused, cancelled or broken. It no longer counts as under way.

        What it still has comes back: a permit, a place in line, the tokens of a retry that is not launched.
        """

    async def slot(self, run: Standing, slots: Callable[[], int], rank: int, until: float | None) -> bool:
        """Wait for one of the host's slots until a moment, in a line by rank, then by arrival; False: not in time.

        How many there are is asked each time: it may change meanwhile.

        Asked only of a store that many processes share (`alive` is set). What `leave`, `record` and `end` give back
        includes it; `give_slot` gives it back alone.
        """

    async def give_slot(self, run: Standing) -> None: ...

    async def breaker_moved(self, session: str, seen: State | None, until: float | None) -> None:
        """Wait until the session's breaker is not as it was `seen` (None: until it next changes), or until a moment."""

    async def lift(self, session: str, run_id: str) -> None:
        """What the run had left behind was seen to end."""

    async def reset(self, session: str) -> None:
        """Forget the session's breaker, tokens and quarantines: an operator says that it is well."""
