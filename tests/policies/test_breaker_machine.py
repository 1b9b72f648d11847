"""The breaker under any order of attempts, late reports and time, against a model that knows each attempt."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.breaker import (
    CLOSED,
    Admitted,
    Breaker,
    Closed,
    HalfOpen,
    Open,
    Refused,
    Report,
    State,
    admit,
    look,
    record,
)

WAITS = st.sampled_from([1.0, 10.0])


@dataclass(eq=False)
class Attempt:
    admitted: Admitted
    era: int


@dataclass
class Model:
    """What the diagram in the module says, with a set of attempts where the breaker has a number."""

    rule: Breaker
    era: int = 0  # grows with each transition
    phase: str = "closed"
    row: int = 0
    until: float = 0.0
    trips: int = 0
    not_before: float = 0.0
    trials: set[Attempt] = field(default_factory=set)

    def cooldown_s(self) -> float:
        return min(self.rule.cooldown_s * 2.0**self.trips, self.rule.cooldown_cap_s)

    def refuses(self, now: float) -> Refused | None:
        if self.phase == "open":
            return Refused(self.until) if now < self.until else None
        if self.phase == "half_open":
            if len(self.trials) >= self.rule.trials:
                return Refused(None)
            return Refused(self.not_before) if now < self.not_before else None
        return None

    def admits(self, attempt: Attempt) -> None:
        if self.phase == "open":
            self.phase, self.era, self.not_before = "half_open", self.era + 1, 0.0
        if self.phase == "half_open":
            self.trials.add(attempt)
        attempt.era = self.era

    def turns(self, phase: str) -> None:
        self.phase, self.era, self.row = phase, self.era + 1, 0
        self.trials.clear()

    def hears(self, attempt: Attempt, report: Report, now: float) -> None:
        if attempt.era != self.era:
            return
        self.trials.discard(attempt)
        if self.phase == "closed" and report is Report.COUNTED:
            self.row += 1
            if self.row >= self.rule.failures:
                self.turns("open")
                self.trips = 0
                self.until = now + self.cooldown_s()
        elif self.phase == "closed" and report is Report.SUCCESS:
            self.row = 0
        elif self.phase == "half_open" and report is Report.SUCCESS:
            self.turns("closed")
        elif self.phase == "half_open" and report is Report.COUNTED:
            self.trips += 1
            self.turns("open")
            self.until = now + self.cooldown_s()
        elif self.phase == "half_open" and report is Report.BUSY:
            self.not_before = now + self.cooldown_s()


class BreakerMachine(RuleBasedStateMachine):
    @initialize(trials=st.sampled_from([1, 2]), opened=st.booleans())
    def a_session_begins(self, trials: int, *, opened: bool) -> None:
        self.rule = Breaker(failures=2, minimum=10**9, cooldown_s=1.0, cooldown_cap_s=10.0, trials=trials)
        self.model = Model(self.rule)
        self.state: State = CLOSED
        self.now = 1000.0
        self.under_way: list[Attempt] = []
        # Half of the histories begin where most happens: a trial under way.
        if opened:
            for _ in range(2):
                self.an_attempt_comes()
                self.an_attempt_ends(0, Report.COUNTED)
            self.time_passes(1.0)
            self.an_attempt_comes()

    @rule(seconds=WAITS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def an_attempt_comes(self) -> None:
        expected = self.model.refuses(self.now)
        state, answer = admit(self.rule, self.state, self.now)
        if isinstance(answer, Refused):
            assert answer == expected
            assert state is self.state
            return
        assert expected is None
        attempt = Attempt(answer, 0)
        self.model.admits(attempt)
        self.under_way.append(attempt)
        self.state = state
        assert answer.trial == (self.model.phase == "half_open")

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 7), report=st.sampled_from(Report))
    def an_attempt_ends(self, which: int, report: Report) -> None:
        attempt = self.under_way.pop(which % len(self.under_way))
        self.model.hears(attempt, report, self.now)
        self.state = record(self.rule, self.state, attempt.admitted, report, self.now, lambda: 0.0)

    @invariant()
    def breaker_and_model_agree(self) -> None:
        assert look(self.rule, self.state, self.now) == self.model.refuses(self.now)
        match self.state:
            case Closed(in_a_row=row):
                assert (self.model.phase, self.model.row) == ("closed", row)
            case Open(until=until, trips=trips):
                assert (self.model.phase, self.model.until, self.model.trips) == ("open", until, trips)
            case HalfOpen(taken=taken, trips=trips):
                assert (self.model.phase, len(self.model.trials), self.model.trips) == ("half_open", taken, trips)

    @invariant()
    def no_more_trials_are_under_way_than_the_rule_allows(self) -> None:
        trials = [a for a in self.under_way if a.admitted.trial and a.admitted.generation == self.state.generation]
        assert len(trials) <= self.rule.trials

    def teardown(self) -> None:
        """Whatever happened: once all have reported and the longest cooldown is over, a success closes it."""
        for attempt in self.under_way:
            self.state = record(self.rule, self.state, attempt.admitted, Report.UNCOUNTED, self.now, lambda: 0.0)
        self.state, answer = admit(self.rule, self.state, self.now + 10.0)
        assert isinstance(answer, Admitted)
        self.state = record(self.rule, self.state, answer, Report.SUCCESS, self.now + 10.0, lambda: 0.0)
        assert isinstance(self.state, Closed)
        assert self.state.in_a_row == 0


TestBreakerMachine = pytest.mark.once(BreakerMachine.TestCase)
TestBreakerMachine.settings = settings(max_examples=400, stateful_step_count=40)
