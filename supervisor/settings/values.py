"""The settings as plain frozen values, proved: what the engine reads. Needs no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from policies.budget import Bucket
from policies.catch_up import CatchUp
from policies.policy import Policy
from supervisor.settings.did_you_mean import did_you_mean

if TYPE_CHECKING:
    from policies.alerting import AlertKind
    from policies.schedule import Schedule

EMBEDDED: Final = "built-in defaults"
"""The `source` of settings that no file has a part in."""


@dataclass(frozen=True, slots=True)
class State:
    """Where sessions are remembered, and for how long.

    Attributes:
        url: "memory", "sqlite" (a file in the user's state folder) or "sqlite://" and an absolute path, taken as it
            is. None: nobody said; the library then takes memory, the command sqlite.
        lease_s: how long a silent owner of a session is believed to be alive without proof.
        keep_age_s, keep_runs: what is kept of the runs that have ended: those that are younger (None: of any age), and
            of these so many, the newest.
        quarantine_alarm_s: a quarantine that is older makes `turnkeeper status --healthy` fail; None: none does.
    """

    url: str | None = None
    lease_s: float = 30.0
    keep_age_s: float | None = 30 * 86400.0
    keep_runs: int = 100_000
    quarantine_alarm_s: float | None = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the host; None is off.

    Attributes:
        running: attempts at once, of all sessions.
        starts: (count, period in seconds): at most so many attempts are started within any such period.
        min_available_memory_bytes: what must be free before an attempt starts.
        retries: the bucket that every retry on the host draws from.
    """

    running: int | None = None
    starts: tuple[int, float] | None = None
    min_available_memory_bytes: int | None = None
    retries: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """A command that an operator is told by. It is killed after `timeout_s`; no shell reads it."""

    on: "tuple[AlertKind, ...]"
    command: tuple[str, ...]
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Serve:
    """How the jobs are run.

    Attributes:
        drain_s: how long what runs may go on once `turnkeeper serve` is told to end.
        overdue: a job without a success for so many of its periods is an alert; None: none is.
    """

    drain_s: float = 60.0
    overdue: int | None = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What is run, and when.

    Attributes:
        schedule: says when, in seconds since 1970; `schedule_text` is it for a person, and tells it from another one.
        stagger_s, offset_s: it starts `offset_s` later than its schedule says, which is less than `stagger_s`.
        policy: its rules, with what the job itself says in their place.
        env: variables beside those of the process.
        overdue: it is, without a success for so many periods; None: never.
    """

    name: str
    schedule: "Schedule"
    schedule_text: str
    session: str
    policy: Policy
    command: tuple[str, ...]
    stagger_s: float = 0.0
    offset_s: float = 0.0
    lock: str | None = None
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cwd: str | None = None
    catch_up: CatchUp = CatchUp.LAST
    overdue: int | None = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. `policies` always has a `default`.

    `source` is the file they came from, or `built-in defaults`; `warnings` has one line for each thing that looks
    wrong and may be meant.
    """

    source: str = EMBEDDED
    state: State = State()
    limits: Limits = Limits()
    policies: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({"default": Policy()}))
    alerts: tuple[Alert, ...] = ()
    warnings: tuple[str, ...] = ()
    serve: Serve = Serve()
    jobs: tuple[Job, ...] = ()

    def policy(self, name: str) -> Policy:
        """Return the policy of that name; ValueError, with the nearest name, if there is none."""
        if name not in self.policies:
            raise ValueError(f"no policy {name!r} in {self.source}{did_you_mean(name, self.policies)}")
        return self.policies[name]


def embedded_settings(warnings: tuple[str, ...] = ()) -> Settings:
    """Return the built-in defaults: the policy `default`, no limits, no alerts."""
    return Settings(warnings=warnings)
