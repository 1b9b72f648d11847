"""Every table of settings.toml: what each key means, what it must be, and the value that it becomes.

Those of a policy are in policy_tables.py, those of a job in job_tables.py. A default here is the text of the built-in
one; a test holds the two equal. Rules between keys are in between.py, inheritance in inherit.py.
"""

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from policies.alerting import AlertKind
from policies.classification import Rule
from policies.failure import ONLY_FOUND, Kind
from supervisor.settings.job_tables import JobTable, ServeTable
from supervisor.settings.policy_tables import BucketTable, PolicyTable
from supervisor.settings.proofs import (
    Argv,
    ClassName,
    Duration,
    OneOf,
    Pattern,
    Size,
    SomeOf,
    StoreUrl,
    Whole,
    needs,
)
from supervisor.settings.table import Table, key
from supervisor.settings.values import Alert, Limits, State


class KeepTable(Table):
    """What is kept of the runs that have ended, in a store that outlives its processes."""

    age: Annotated[float | None, Duration(off=True)] = key("30d", "Those that are younger; off: of any age.")
    runs: Annotated[int, Whole(1)] = key(100_000, "At most so many of them, the newest.")


class StateTable(Table):
    """Where sessions are remembered, and for how long."""

    url: Annotated[str, StoreUrl()] | None = key(
        None,
        "memory: each supervisor remembers its own sessions until it ends. sqlite: a file in the user's state folder; "
        "sqlite:///absolute/path: that file. Left out: memory for the library, sqlite for the command.",
    )
    lease: Annotated[float, Duration()] = key(
        "30s", "How long a silent owner of a session is believed to be alive without proof."
    )
    keep: KeepTable = Field(default_factory=KeepTable, description="What is kept of the runs that have ended.")
    quarantine_alarm: Annotated[float | None, Duration(off=True)] = key(
        "1h", "A quarantine that is older makes `turnkeeper status --healthy` fail; off: none does."
    )

    def value(self) -> State:
        return State(self.url, self.lease, self.keep.age, self.keep.runs, self.quarantine_alarm)


class StartsTable(Table):
    """At most `count` attempts are started within any `period`."""

    count: Annotated[int, Whole(1)] = key(..., "Attempts.")
    period: Annotated[float, Duration()] = key(..., "Any stretch of time of this length.")


class LimitsTable(Table):
    """Limits of the host, all sessions together. A key that is absent is off."""

    running: Annotated[int, Whole(1)] | None = key(None, "Attempts at once.")
    starts: StartsTable | None = key(None, "Attempts started within a period.")
    min_available_memory: Annotated[int, Size()] | None = key(
        None, "What must be free before an attempt starts, of the cgroup where there is one."
    )
    retries: BucketTable | None = key(None, "The bucket that every retry on the host draws from.")

    def value(self) -> Limits:
        return Limits(
            self.running,
            None if self.starts is None else (self.starts.count, self.starts.period),
            self.min_available_memory,
            None if self.retries is None else self.retries.rule(),
        )


class MatchTable(Table):
    """Conditions on how an attempt ended. Every one that is set must hold; at least one must be set."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    exception: Annotated[str, ClassName()] | None = key(
        None, "The dotted name of an exception's class, as the class states it; subclasses match."
    )
    exit_code: Annotated[int, Whole(0, 255)] | None = key(
        None, "A command's exit status; 0 too, for commands that fail politely."
    )
    output: Annotated[Any, Pattern()] | None = key(
        None, "A regular expression, searched for in a command's output or an exception's text."
    )

    @model_validator(mode="after")
    def has_a_condition(self) -> Self:
        if self.exception is None and self.exit_code is None and self.output is None:
            raise needs("needs a condition: exception, exit_code or output")
        return self


class FailureTable(Table):
    """One classification rule: what a failure that matches is."""

    match: MatchTable = key(..., "The conditions.")
    kind: Annotated[Kind, OneOf(Kind, never=tuple(ONLY_FOUND.items()))] = key(..., "The kind of such a failure.")

    def rule(self) -> Rule:
        return Rule(self.kind, self.match.exception, self.match.exit_code, self.match.output)


class AlertTable(Table):
    """A command that an operator is told by: it gets what happened as one JSON object on stdin."""

    on: Annotated[tuple[AlertKind, ...], SomeOf(AlertKind)] = key(
        ...,
        "What it is run for: a run that failed for good, a breaker that opened, a quarantine, a lost attempt, an "
        "overdue job.",
    )
    command: Annotated[tuple[str, ...], Argv()] = key(..., "The program and its arguments; no shell reads them.")
    timeout: Annotated[float, Duration()] = key("10s", "How long it may take before it is killed.")

    def value(self) -> Alert:
        return Alert(self.on, self.command, self.timeout)


class SettingsTable(Table):
    """The settings of Turnkeeper: a file, TURNKEEPER_ variables of the environment over it, the call over both."""

    state: StateTable = Field(default_factory=StateTable)
    limits: LimitsTable = Field(default_factory=LimitsTable)
    policies: dict[str, PolicyTable] = Field(default_factory=dict, description="Policies by name.")
    failures: list[FailureTable] = Field(
        default_factory=list, description="Classification rules; the first that matches says what a failure is."
    )
    alerts: list[AlertTable] = Field(default_factory=list, description="Whom to tell when something went wrong.")
    serve: ServeTable = Field(default_factory=ServeTable, description="How `turnkeeper serve` runs the jobs.")
    jobs: list[JobTable] = Field(default_factory=list, description="What is run, and when.")
