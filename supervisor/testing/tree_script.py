"""What one simulated tree does: frozen data, as it is drawn from a seed, printed, and kept as JSON."""

from dataclasses import dataclass
from enum import StrEnum


class Happening(StrEnum):
    """What happens to a tree. Each happens once, in about this order; not each to every tree."""

    SPAWNED = "spawned"  # its warden
    PARKED = "parked"  # ready, its files linked
    WENT = "went"  # told to go
    STARTED = "started"
    NOT_STARTED = "not_started"  # its command could not be
    SAID = "said"  # the last time that the command wrote something
    OVER_MEMORY = "over_memory"
    EXITED = "exited"  # the command itself
    TOLD = "told"  # to end, in whatever way
    GONE = "gone"
    UNKNOWN = "unknown"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class TreeScript:
    """A command, what it starts, and its warden. All lengths are seconds, and None is for ever.

    Attributes:
        cannot_park: why the machine refuses to start a warden; empty: it does not.
        parks_in_s: how long the warden takes to be ready.
        starts_in_s: how long the command takes to be started.
        cannot_start: the command cannot be started; a shell would exit with this status, as 127.
        runs_s: how long the command runs.
        code, signal: how it then exits; with a signal the code does not count.
        ignores_sigterm_s: how long the command lives on when it is asked to end.
        daemons: how many processes it leaves, which keep its output open.
        daemons_run_s: how long they live, from the start of the command.
        daemons_ignore_sigterm_s: as the command's.
        output: what it writes as it exits.
        says_every_s: it writes something each so many seconds, too; None: never.
        over_memory_after_s: after its start; None: never.
        ends_in_s: how long the warden takes to end once no process is left.
        warden_dies: the warden is killed so many seconds after that has happened to the tree.
        reader_stalls: nobody takes what the command writes, as of a terminal that was stopped.
    """

    cannot_park: str = ""
    parks_in_s: float = 0.0
    starts_in_s: float = 0.0
    cannot_start: int | None = None
    runs_s: float | None = 0.0
    code: int = 0
    signal: int | None = None
    ignores_sigterm_s: float | None = 0.0
    daemons: int = 0
    daemons_run_s: float | None = None
    daemons_ignore_sigterm_s: float | None = 0.0
    output: str = ""
    says_every_s: float | None = None
    over_memory_after_s: float | None = None
    ends_in_s: float = 0.0
    warden_dies: "tuple[Happening, float] | None" = None
    reader_stalls: bool = False
