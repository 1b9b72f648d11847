"""What goes wrong in a simulation, as frozen data: so it can be drawn from a seed, printed, and made smaller.

All moments and lengths are seconds; moments count from the beginning of the simulation.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class CancelPlace:
    """Cancel a caller in its nth suspension: `rounds` of the loop after it began, or WOKEN, as it is about to go on."""

    job: str
    nth: int
    rounds: int


@dataclass(frozen=True, slots=True)
class CancelAt:
    """Cancel a caller at a moment."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class StepWall:
    """Set the wall clock forward, or back for a negative number."""

    at: float
    by: float


@dataclass(frozen=True, slots=True)
class HoldLock:
    """Somebody else holds a session's lock file; at `until` it lets go, or dies and leaves the file behind."""

    path: str
    at: float
    until: float
    dies: bool


@dataclass(frozen=True, slots=True)
class LowMemory:
    """The machine has no memory left to give."""

    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Reset:
    """An operator says that a session is well."""

    session: str
    at: float


@dataclass(frozen=True, slots=True)
class Leave:
    """`async with Supervisor` is left, whatever is under way."""

    at: float


class Blow(StrEnum):
    """What strikes a process in a transaction of its store."""

    FAILS = "fails"  # the transaction, though it may have been committed
    KILLED = "killed"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Strike:
    """A blow in a process's nth transaction of a name, just before its commit, or `committed`: just after it.

    `for_s` is how long a frozen process stays so; `times`, how many such transactions in a row fail.
    """

    process: str
    transaction: str
    nth: int
    blow: Blow
    committed: bool
    for_s: float = 0.0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9 of a process at a moment; with its `wardens`, as where its whole cgroup is killed."""

    process: str
    at: float
    wardens: bool = False


@dataclass(frozen=True, slots=True)
class KillPlace:
    """kill -9 of the process whose caller a job is, in that one's nth suspension: as `CancelPlace`."""

    job: str
    nth: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP of a process at a moment, SIGCONT `for_s` later."""

    process: str
    at: float
    for_s: float


@dataclass(frozen=True, slots=True)
class FreezePlace:
    """The same in a job's nth suspension."""

    job: str
    nth: int
    rounds: int
    for_s: float


Fault = CancelPlace | CancelAt | StepWall | HoldLock | LowMemory | Reset | Leave


ProcessFault = Strike | Kill | KillPlace | Freeze | FreezePlace
"""What befalls processes, where there are several."""


@dataclass(frozen=True, slots=True)
class Slowness:
    """How a store is slow.

    Attributes:
        share: of its calls, 0 to 1.
        rounds: of the loop that a slow call takes at most, before its commit and after it.
        seconds: that it takes at most, likewise; 0: no time passes.
    """

    share: float = 0.0
    rounds: int = 3
    seconds: float = 0.0
