"""The tables of jobs: what is run, when, and under which rules."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from policies.catch_up import CatchUp
from policies.policy import OnLost
from supervisor.settings.policy_tables import (
    AttemptTable,
    BackoffTable,
    BreakerTable,
    BudgetTable,
    GateTable,
    KindsTable,
)
from supervisor.settings.proofs import Argv, Duration, Environ, Instant, Name, OneOf, Whole
from supervisor.settings.table import Table, key
from supervisor.settings.values import Serve


class ServeTable(Table):
    """How `turnkeeper serve` runs the jobs."""

    drain: Annotated[float, Duration(zero=True)] = key(
        "1m", "How long it waits, when it is told to end, for what runs; then that is stopped, and proved gone."
    )
    overdue: Annotated[int | None, Whole(1, off=True)] = key(
        3, "A job without a success for so many of its periods is an alert; off: none is."
    )

    def value(self) -> Serve:
        return Serve(self.drain, self.overdue)


class JobTable(Table):
    """A job: a command, run when its schedule says so, as one run under a policy. It has one of cron, every and at."""

    name: Annotated[str, Name()] = key(..., "What it is known by: each job has its own.")
    cron: Annotated[str, Name()] | None = key(
        None, 'Five fields, or six with the seconds first, as croner reads them: "0 8 * * MON-FRI".'
    )
    tz: Annotated[str, Name()] = key("UTC", "The time zone of cron, and of a moment that names none.")
    every: Annotated[float, Duration()] | None = key(None, "The length of its period.")
    anchor: Annotated[datetime, Instant()] | None = key(
        None, "A moment at which a period of `every` begins: 1970-01-01T00:00Z, if left out."
    )
    at: Annotated[datetime, Instant()] | None = key(None, "The one moment at which it runs.")
    stagger: Annotated[float, Duration(zero=True)] = key(
        "0s", "It starts so much later at most, always by the same part of it, which follows from its name."
    )
    session: Annotated[str, Name()] | None = key(None, "Whose turn it is: `job:` and its name, if left out.")
    policy: Annotated[str, Name()] = key("default", "The rules, by their name.")
    lock: Annotated[str, Name()] | None = key(
        None,
        "The session's file: `<lock>.lock` is held during each attempt. Relative: from cwd, else this file's folder.",
    )
    command: Annotated[tuple[str, ...], Argv()] = key(..., "The program and its arguments; no shell reads them.")
    env: Annotated[dict[str, str], Environ()] = Field(
        default_factory=dict, description="Variables beside those of `turnkeeper serve` itself."
    )
    cwd: Annotated[str, Name()] | None = key(
        None, "The folder it starts in: that of `turnkeeper serve`, if left out. Relative: from this file's folder."
    )
    catch_up: Annotated[CatchUp, OneOf(CatchUp)] = key(
        "last", "Ticks that were missed: none is started, the last one is, or all are, one after the other."
    )
    overdue: Annotated[int | None, Whole(1, off=True)] | None = key(
        None, "In place of serve.overdue, for this job; off: it never is."
    )
    attempt: AttemptTable | None = key(None, "In place of its policy's, key by key, as are all the tables below.")
    budget: BudgetTable | None = key(None, "What a run of it may spend.")
    backoff: BackoffTable | None = key(None, "The wait before a retry.")
    breaker: BreakerTable | None = key(None, "When its session is left alone.")
    gate: GateTable | None = key(None, "What a run of it does while others of its session are under way.")
    kinds: KindsTable | None = key(None, "What failures do: is a turn that timed out safe to repeat?")
    on_lost: Annotated[OnLost, OneOf(OnLost)] | None = key(None, "What follows for a run whose supervisor died.")


OVERRIDES: tuple[str, ...] = ("attempt", "budget", "backoff", "breaker", "gate", "kinds", "on_lost")
"""Keys of a job that its policy has too."""


def overrides(raw: Any) -> dict[str, Any]:
    """Return what a job's raw table says in place of its policy."""
    return {key: raw[key] for key in OVERRIDES if key in raw} if isinstance(raw, dict) else {}
