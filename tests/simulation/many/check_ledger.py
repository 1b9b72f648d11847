"""I3 and I6 by the store's rows: each commit takes and gives back exactly the tokens that what it did is worth."""

import policies.breaker
from policies.budget import Bucket
from policies.failure import Failed, Gone, Kind, Receipt, Unknown
from policies.verdict import Reason
from supervisor.testing.process import Process
from tests.simulation.check_breaker import Breakers, Model
from tests.simulation.facts import Facts, RunFacts
from tests.simulation.many.rows import AttemptRow, Rows, RunRow
from tests.simulation.scenario import Scenario

EPS = 1e-3
STOPPED = frozenset({Reason.CANCELLED, Reason.REPLACED, Reason.CLOSED, Reason.STOPPED, Reason.PAUSED})
HOST = ""


class Tokens:
    """What each commit should have changed, summed up while it is told, and compared at its end."""

    def __init__(self, facts: Facts, rows: Rows, scenario: Scenario) -> None:
        self.facts, self.rows = facts, rows
        self.host_rule = None if scenario.host_bucket is None else Bucket(*scenario.host_bucket)
        self.changes: list[tuple[RunFacts, float]] = []
        self.unlaunched = 0.0  # what the retry took that is recorded, if it never came to its work

    def on_row_began(self, run: RunFacts, row: AttemptRow) -> None:
        if row.number == 1:
            self.changes.append((run, -run.policy.budget.session.deposit))

    def on_row_recorded(self, run: RunFacts, row: AttemptRow) -> None:
        if row.number > 1 and row.number not in run.bodies:
            before = [each for each in self.rows.now.attempts.values() if each.run == row.run and each is not row][-1]
            self.unlaunched = before.said.get("tokens", 0.0)
        if row.said.get("action") != "retry":
            return
        tokens = row.said["tokens"]
        short = self._spent(run) + tokens - run.policy.budget.session.capacity
        if tokens and short > EPS and row.kind != Kind.CANCELLED:
            who = f"run {run.key} gets a retry for {tokens:g} tokens"
            self.facts.violation("I3", f"{who}, and {run.session} is short of {short:.3f}")
        self.changes.append((run, tokens))
        row_of_run = self.rows.now.runs[row.run]
        if row_of_run.reserved != tokens:
            self.facts.violation("I3", f"run {run.key} has {row_of_run.reserved} tokens reserved, and took {tokens:g}")

    def on_row_moved(self, run: RunFacts, was: RunRow, row: RunRow) -> None:
        """A retry that will not be launched gives its tokens back, unless its process died with it."""
        if was.reserved is not None and row.reserved is None and row.number == was.number:
            self.changes.append((run, -was.reserved))
        if was.reserved is not None and row.state == "ended" and row.reserved is not None:
            process = self.rows.process_of[row.owner]
            if process.lives:
                self.facts.violation("I6", f"run {run.key} is over, and its token was not given back")

    def on_committed(self, process: Process, name: str) -> None:
        changes, self.changes = self.changes, []
        unlaunched, self.unlaunched = self.unlaunched, 0.0
        if name == "reset":
            return
        runs = {run.session: run for run, _ in changes}
        moved = {s for s in {*self.rows.now.ledger, *self.rows.before.ledger} if s != HOST and self._moved(s)}
        for session in sorted(moved | set(runs)):
            run = runs.get(session) or next((r for r in self.facts.runs.values() if r.session == session), None)
            if run is None:
                continue
            of_session = [tokens for other, tokens in changes if other.session == session]
            self._check(run, of_session, unlaunched, name)

    def _moved(self, session: str) -> bool:
        return self.rows.now.ledger.get(session, (0.0, 0.0)) != self.rows.before.ledger.get(session, (0.0, 0.0))

    def _spent(self, run: RunFacts) -> float:
        return _at(run.policy.budget.session, self.rows.before.ledger.get(run.session), self.facts.clock.now())

    def _check(self, run: RunFacts, tokens: list[float], unlaunched: float, name: str) -> None:
        rule, before = run.policy.budget.session, self.rows.before.ledger.get(run.session)
        now = self.facts.clock.now()
        if self._moved(run.session) and (at := self.rows.now.ledger.get(run.session, (0.0, 0.0))[1]):
            now = at  # of when it was asked, which a slow store answers later
        after = _at(rule, self.rows.now.ledger.get(run.session), now)
        sums = {_added(rule, before, each, now) for each in (tokens, [-unlaunched, *tokens])}
        if not any(abs(after - expected) < EPS for expected in sums):
            said = " or ".join(f"{each:.3f}" for each in sums)
            self.facts.violation(
                "I6", f"{run.session} lacks {after:.3f} tokens after {name} of run {run.key}, not {said}"
            )


def _at(rule: Bucket, ledger: tuple[float, float] | None, now: float) -> float:
    if ledger is None:
        return 0.0
    spent, at = ledger
    return max(0.0, spent - max(0.0, now - at) * rule.refill / 60.0)


def _added(rule: Bucket, ledger: tuple[float, float] | None, tokens: list[float], now: float) -> float:
    spent = _at(rule, ledger, now)
    for each in tokens:
        spent = max(0.0, spent + each)
    return spent


class _Model(Breakers):
    """That of the single process; a cooldown begins when the record was asked for, which a frozen process does late."""

    asked_at = 0.0

    def _wait(self, model: Model, rule: policies.breaker.Breaker) -> None:
        super()._wait(model, rule)
        model.opened_at = self.asked_at


class Breaker:
    """The model, told by rows in the order of their commits."""

    def __init__(self, facts: Facts, rows: Rows) -> None:
        self.facts, self.rows = facts, rows
        self.model = _Model(facts)

    def on_row_began(self, run: RunFacts, row: AttemptRow) -> None:
        self.model.on_began(run, None, None)  # type: ignore[arg-type]  # it looks at neither
        _, trial = self.model.admitted[run.key]
        if trial != bool(row.trial) and not self.model.model(run.session).unsure:
            self.facts.violation("I6", f"attempt {row.number} of run {run.key} is {'a' if row.trial else 'no'} trial")

    def on_row_recorded(self, run: RunFacts, row: AttemptRow) -> None:
        failed = None if row.kind is None else Failed(Kind(row.kind), "")
        unconfirmed = row.outcome == "unconfirmed"
        receipt: Receipt = Unknown((), ("something",)) if unconfirmed else Gone(())
        reason = row.said.get("reason")
        stopped = Reason(reason) if reason in STOPPED else None
        self.model.asked_at = row.began_at + (row.duration_s or 0.0)
        self.model.on_recording(run, None, failed, receipt, stopped)  # type: ignore[arg-type]

    def on_row_unbegun(self, run: RunFacts, row: AttemptRow) -> None:
        """It gives its place at the breaker back, uncounted."""
        self.model.asked_at = row.began_at
        cancelled = Failed(Kind.CANCELLED, "")
        self.model.on_recording(run, None, cancelled, Gone(()), Reason.CANCELLED)  # type: ignore[arg-type]

    def on_reset(self, session: str) -> None:
        self.model.on_reset(session)
