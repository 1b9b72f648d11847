"""What the store's tables say, read after each commit by whoever checks: the second source of facts, beside the work.

Each change of a row is noted once: `row_recorded`, `row_unbegun`, `row_moved` and `row_came`, `row_began`, in this
order, then `committed`.
"""

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from supervisor.testing.process import Process
from tests.simulation.facts import Facts, RunFacts


class RunRow(NamedTuple):
    seq: int
    id: str
    session: str
    owner: str
    state: str
    number: int
    retries_below: int
    reserved: float | None
    replaces: bool
    stop: str | None
    slot: bool
    status: str | None
    reason: str | None


class AttemptRow(NamedTuple):
    fence: int
    run: int
    session: str
    number: int
    owner: str
    generation: int
    trial: bool
    tree_life: str | None
    began_at: float
    duration_s: float | None
    outcome: str | None
    kind: str | None
    receipt: str | None
    verdict: str | None
    ended_by: str | None

    @property
    def said(self) -> dict[str, Any]:
        """The verdict."""
        shape: dict[str, Any] = json.loads(self.verdict or "{}")
        return shape


class Place(NamedTuple):
    place: int
    run: int
    session: str
    newest: bool


@dataclass(slots=True)
class Tables:
    """All that is read, as it was after one commit. `ledger`: (tokens spent, when) by session, '' is the host."""

    runs: dict[int, RunRow] = field(default_factory=dict)
    attempts: dict[int, AttemptRow] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    quarantines: set[tuple[str, str]] = field(default_factory=set)
    ledger: dict[str, tuple[float, float]] = field(default_factory=dict)
    owners: dict[str, float] = field(default_factory=dict)  # when each was last heard
    host_places: int = 0

    def under_way(self, session: str) -> list[AttemptRow]:
        return [each for each in self.attempts.values() if each.session == session and each.outcome is None]


class Rows:
    """Reads the tables and tells the checkers what has changed. `before` and `now` are the last two states."""

    def __init__(self, facts: Facts, connection: sqlite3.Connection) -> None:
        self.facts = facts
        self._read = connection.cursor()
        self.before, self.now = Tables(), Tables()
        self.process_of: dict[str, Process] = {}  # by owner
        self.committer: Process | None = None

    def run(self, seq: int) -> RunFacts:
        return self.facts.by_id[self.now.runs[seq].id]

    def committed(self, process: Process, name: str) -> None:
        """A transaction of a process was committed."""
        self.before, self.now, self.committer = self.now, self._tables(), process
        for owner in self.now.owners:
            if owner not in self.process_of:
                self.process_of[owner] = process
        self._tell_attempts_ended()
        self._tell_attempts_gone()
        self._tell_runs()
        for fence, attempt in self.now.attempts.items():
            if fence not in self.before.attempts:
                self.facts.note("row_began", self.run(attempt.run), attempt, shown=f"{attempt.number} fence {fence}")
        self.facts.note("committed", process, name, shown=f"{process.name} {name}")

    def _tell_attempts_ended(self) -> None:
        for fence, row in self.now.attempts.items():
            was = self.before.attempts.get(fence)
            if was is None or row == was:
                continue
            run = self.run(row.run)
            if was.outcome is not None:
                self.facts.violation("I2", f"attempt {row.number} of run {run.key} was recorded, and is once more")
            elif row.outcome is not None:
                by = "" if row.ended_by == row.owner else f" by {self.name_of(row.ended_by)}"
                shown = f"{row.number} {row.outcome} {row.kind or ''}{by} -> {row.said.get('action')}"
                self.facts.note("row_recorded", run, row, shown=shown)

    def _tell_attempts_gone(self) -> None:
        """One that was begun as its run arrived, and that nobody asked for, is as if it had never been."""
        for fence, row in self.before.attempts.items():
            if fence in self.now.attempts:
                continue
            run = self.run(row.run)
            if row.outcome is not None or row.number in run.bodies:
                self.facts.violation("rows", f"the row of attempt {row.number} of run {run.key} is gone")
            self.facts.note("row_unbegun", run, row, shown=f"{row.number} fence {fence}")

    def name_of(self, owner: str | None) -> str:
        process = self.process_of.get(owner or "")
        return "another" if process is None else process.name

    def _tell_runs(self) -> None:
        for seq, row in self.now.runs.items():
            was = self.before.runs.get(seq)
            if was is None:
                self.facts.note("row_came", self.run(seq), row, shown=row.state)
            elif was != row:
                shown = f"{was.state} -> {row.state} {row.status or ''}".rstrip()
                self.facts.note("row_moved", self.run(seq), was, row, shown=shown)
        for seq in self.before.runs:
            if seq not in self.now.runs:
                self.facts.violation("rows", f"the row of a run ({self.before.runs[seq].id}) is gone")

    def _tables(self) -> Tables:
        read = self._read.execute
        runs = [RunRow._make(row) for row in read(f"SELECT {', '.join(RunRow._fields)} FROM runs")]
        attempts = [AttemptRow._make(row) for row in read(f"SELECT {', '.join(AttemptRow._fields)} FROM attempts")]
        return Tables(
            {row.seq: row for row in runs},
            {row.fence: row for row in attempts},
            [Place._make(row) for row in read("SELECT place, run, session, newest FROM places ORDER BY place")],
            set(read("SELECT session, run_id FROM quarantines")),
            {session: (spent, at) for session, spent, at in read("SELECT session, spent, spent_at FROM sessions")},
            dict(read("SELECT id, renewed_at FROM owners").fetchall()),
            read("SELECT count(*) FROM host_places").fetchone()[0],
        )
