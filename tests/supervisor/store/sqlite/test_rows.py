"""What goes into columns comes out of them as it was."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.backoff import Backoff, Strategy
from policies.breaker import CLOSED, Breaker, Closed, HalfOpen, Open, State
from policies.budget import Bucket, Budget
from policies.failure import DEFAULT_EFFECTS, Effect, Gone, Kind, Refusal
from policies.policy import OnLost, Policy
from policies.verdict import FINISH, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.store.sqlite.rows import (
    breaker_of,
    breaker_text,
    moved,
    reason_of,
    rules_of,
    rules_text,
    verdict_of,
    verdict_text,
)

MOMENTS = st.floats(0.0, 1e9, allow_nan=False)
COUNTS = st.integers(0, 1000)
OUTCOMES = st.lists(st.tuples(MOMENTS, COUNTS, COUNTS), max_size=5)
STATES = (
    st.builds(Closed, COUNTS, COUNTS, OUTCOMES.map(lambda each: tuple(x for one in each for x in one)))
    | st.builds(Open, COUNTS, MOMENTS, COUNTS, MOMENTS)
    | st.builds(HalfOpen, COUNTS, COUNTS, COUNTS, MOMENTS, MOMENTS)
)
POSITIVE = st.floats(0.1, 1e6)
POLICIES = st.builds(
    Policy,
    st.text(min_size=1, max_size=5),
    budget=st.builds(
        Budget, st.integers(1, 32), st.none() | POSITIVE, st.builds(Bucket, POSITIVE, POSITIVE, st.floats(0.0, 1.0))
    ),
    backoff=st.builds(Backoff, st.sampled_from(Strategy), POSITIVE, POSITIVE),
    breaker=st.builds(Breaker, failures=st.integers(1, 99), cooldown_s=POSITIVE, trials=st.integers(1, 9)),
    kinds=st.builds(Effect, st.booleans(), st.booleans(), st.integers(0, 5)).map(
        lambda effect: {**DEFAULT_EFFECTS, Kind.LOST: effect}
    ),
    on_lost=st.sampled_from(OnLost),
)
VERDICTS = (
    st.just(FINISH)
    | st.builds(GiveUp, st.sampled_from([*Reason, *Refusal]))
    | st.builds(Quarantine, st.lists(st.text(), max_size=3).map(tuple))
    | st.builds(Retry, MOMENTS, MOMENTS, MOMENTS, st.just(Gone()))
)


@given(state=STATES)
def test_a_breaker_comes_back_as_it_was(state: State) -> None:
    assert breaker_of(breaker_text(state)) == state


def test_a_breaker_that_is_the_default_takes_no_room() -> None:
    assert breaker_text(CLOSED) is None
    assert breaker_of(None) is CLOSED


FAR_AHEAD = 1e15


@given(state=STATES, by=st.integers(-1000, 1000).map(float))
def test_a_breaker_that_is_moved_differs_in_its_moments_alone(state: State, by: float) -> None:
    there = moved(state, by, FAR_AHEAD)
    assert type(there) is type(state)
    match there:
        case Closed():
            assert isinstance(state, Closed)
            assert (there.generation, there.in_a_row) == (state.generation, state.in_a_row)
            assert there.outcomes[1::3] == state.outcomes[1::3]
            assert there.outcomes[2::3] == state.outcomes[2::3]
            assert there.outcomes[::3] == tuple(at + by for at in state.outcomes[::3])
        case Open():
            assert isinstance(state, Open)
            assert there == replace(state, until=state.until + by)
        case HalfOpen():
            assert isinstance(state, HalfOpen)
            assert there == replace(state, not_before=state.not_before + by)


@given(policy=POLICIES)
def test_the_rules_that_a_lost_run_is_judged_by_come_back_as_they_were(policy: Policy) -> None:
    read = rules_of(policy.name, rules_text(policy))
    assert (read.budget, read.backoff, read.breaker) == (policy.budget, policy.backoff, policy.breaker)
    assert read.effect(Kind.LOST) == policy.effect(Kind.LOST)
    assert read.on_lost is policy.on_lost


@given(verdict=VERDICTS)
def test_a_verdict_comes_back_as_it_was(verdict: Verdict) -> None:
    assert verdict_of(verdict_text(verdict), Gone()) == verdict


def test_every_reason_is_found_by_its_name() -> None:
    for reason in [*Reason, *Refusal]:
        found = reason_of(reason.value)
        assert found.value == reason.value
