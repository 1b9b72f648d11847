"""I3: retries never exceed the buckets of session and host; what is reserved is launched or given back, once."""

from dataclasses import dataclass
from typing import Any

from policies.budget import FULL, Bucket, spent
from policies.failure import Kind, Refusal
from policies.verdict import GiveUp, Reason, Retry, Verdict
from supervisor.store.contract import Refused, Standing
from tests.simulation.facts import BodyFacts, Facts, Recorded, RunFacts
from tests.simulation.scenario import Scenario

EPS = 1e-6


@dataclass(slots=True)
class Spent:
    """What a bucket lacks as of a moment."""

    tokens: float = 0.0
    at: float = 0.0

    def now(self, rule: Bucket, now: float) -> float:
        return max(0.0, self.tokens - (now - self.at) * rule.refill / 60.0)

    def add(self, rule: Bucket, tokens: float, now: float) -> None:
        self.tokens, self.at = max(0.0, self.now(rule, now) + tokens), now


class TokenBuckets:
    """A bucket for each session, and the host's."""

    def __init__(self, facts: Facts, scenario: Scenario) -> None:
        self.facts = facts
        self.sessions: dict[str, Spent] = {}
        self.host = Spent()
        self.taken: dict[RunFacts, int] = {}  # retries of a run and of those within it, reserved ones included
        self.host_rule = None if scenario.host_bucket is None else Bucket(*scenario.host_bucket)

    def _add(self, run: RunFacts, tokens: float) -> None:
        if not tokens:
            return  # nothing is written: what is missing heals on, at the rate of whoever asks next
        now = self.facts.clock.now()
        self.sessions.setdefault(run.session, Spent()).add(run.policy.budget.session, tokens, now)
        if self.host_rule is not None:
            self.host.add(self.host_rule, tokens, now)

    def _short(self, run: RunFacts, tokens: float) -> float:
        """By how many tokens the buckets are short; zero or less: they are not."""
        now, rule = self.facts.clock.now(), run.policy.budget.session
        short = tokens - (rule.capacity - self.sessions.setdefault(run.session, Spent()).now(rule, now))
        if self.host_rule is not None:
            short = max(short, tokens - (self.host_rule.capacity - self.host.now(self.host_rule, now)))
        return short

    def on_began(self, run: RunFacts, standing: Standing, refused: Refused | None) -> None:
        if refused is not None:
            return
        if run.number == 1:
            self._deposit(run)
        elif run.reserved is None:
            self.facts.violation("I3", f"attempt {run.number} of run {run.key} begins without its token")

    def _deposit(self, run: RunFacts) -> None:
        now, rule = self.facts.clock.now(), run.policy.budget.session
        self.sessions.setdefault(run.session, Spent()).add(rule, -rule.deposit, now)
        if self.host_rule is not None:
            self.host.add(self.host_rule, -self.host_rule.deposit, now)

    def on_body_starting(self, body: BodyFacts) -> None:
        """Launched: its token is spent."""
        body.run.reserved = None

    def on_recorded(self, run: RunFacts, standing: Standing, verdict: Verdict) -> None:
        record = run.records[-1]
        if run.reserved is not None:
            if record.failed is not None and record.failed.kind is Kind.CANCELLED:
                self.on_gave_back(run, standing, standing.tokens)  # told to end while it was begun: it never started
            run.reserved = None  # its lock, or a warden, cannot be had at all: an attempt like any other
        self._decided(run, record, verdict)
        self._check_session(run)

    def _check_session(self, run: RunFacts) -> None:
        """What the store says is missing is what was taken and not given back."""
        now, rule = self.facts.clock.now(), run.policy.budget.session
        left = spent(rule, self.facts.store._tokens.get(run.session, FULL), now)
        mine = self.sessions.setdefault(run.session, Spent()).now(rule, now)
        if abs(left - mine) > 1e-3:
            self.facts.violation("I6", f"{run.session} lacks {left:.3f} tokens after run {run.key}, not {mine:.3f}")

    def _decided(self, run: RunFacts, record: Recorded, verdict: Verdict) -> None:
        if record.failed is None:
            return
        tokens = run.policy.effect(record.failed.kind).tokens
        if isinstance(verdict, Retry):
            for above in run.line():
                self.taken[above] = self.taken.get(above, 0) + 1
            if tokens > 0 and (short := self._short(run, tokens)) > EPS:
                who = f"run {run.key} gets a retry for {tokens:g} tokens"
                self.facts.violation("I3", f"{who}, and a bucket is short of {short:.3f}")
            run.reserved = tokens
            self._add(run, tokens)
        elif isinstance(verdict, GiveUp):
            self._check_given_up(run, verdict.reason, tokens)

    def _check_given_up(self, run: RunFacts, reason: Reason | Refusal, tokens: float) -> None:
        """Nobody gives up what is there."""
        of: list[RunFacts] = []
        match reason:
            case Reason.ATTEMPTS:
                of = run.line()[:1]
            case Reason.PARENT_BUDGET:
                of = run.line()[1:]
            case Reason.SESSION_BUDGET | Reason.HOST_BUDGET if self._short(run, tokens) < -EPS:
                self.facts.violation("I6", f"run {run.key} is denied {tokens:g} tokens, and they are there")
            case _:
                pass
        if of and all(self.taken.get(each, 0) + 1 < each.policy.budget.attempts for each in of):
            self.facts.violation("I3", f"run {run.key} gives up ({reason}), and retries are left")

    def on_gave_back(self, run: RunFacts, standing: Standing, tokens: float) -> None:
        if run.reserved is None:
            self.facts.violation("I3", f"run {run.key} gives back a token that it does not have")
            return
        for above in run.line():
            self.taken[above] -= 1
        self._add(run, -run.reserved)
        run.reserved = None

    def on_over(self, run: RunFacts, end: Any) -> None:
        if run.reserved is not None:
            self.facts.violation("I6", f"run {run.key} is over, and its token was not given back")

    def on_reset(self, session: str) -> None:
        self.sessions.pop(session, None)

    def on_end(self, store: Any) -> None:
        now = self.facts.clock.now()
        for session, mine in self.sessions.items():
            state = store._tokens.get(session)
            left = 0.0 if state is None else state.spent
            if abs(left - mine.tokens) > 1e-3 and abs((0.0 if state is None else state.at) - mine.at) < EPS:
                self.facts.violation("I6", f"{session} lacks {left:.3f} tokens at {now:.1f}, not {mine.tokens:.3f}")
