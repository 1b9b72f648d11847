from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.budget import FULL, MOST_ATTEMPTS, Bucket, Budget, Tokens, deposit, give_back, left, spent, withdraw

BUCKET = Bucket(capacity=10.0, refill=1.0, deposit=0.1)
EMPTY = Tokens(spent=10.0, at=100.0)
HALF = Tokens(spent=5.0, at=100.0)


@dataclass
class Row:
    state: Tokens
    now: float
    spent: float
    after_deposit: Tokens
    after_one: Tokens | None
    after_two: Tokens | None
    after_one_given_back: Tokens


TABLE = {
    "full": Row(FULL, 100.0, 0.0, FULL, Tokens(1.0, 100.0), Tokens(2.0, 100.0), FULL),
    "half": Row(HALF, 100.0, 5.0, Tokens(4.9, 100.0), Tokens(6.0, 100.0), Tokens(7.0, 100.0), Tokens(4.0, 100.0)),
    "half, a minute on": Row(
        HALF, 160.0, 4.0, Tokens(3.9, 160.0), Tokens(5.0, 160.0), Tokens(6.0, 160.0), Tokens(3.0, 160.0)
    ),
    "half, healed to the second": Row(HALF, 400.0, 0.0, FULL, Tokens(1.0, 400.0), Tokens(2.0, 400.0), FULL),
    "half, healed long ago": Row(HALF, 1e9, 0.0, FULL, Tokens(1.0, 1e9), Tokens(2.0, 1e9), FULL),
    "half, clock set back": Row(
        HALF, 40.0, 5.0, Tokens(4.9, 40.0), Tokens(6.0, 40.0), Tokens(7.0, 40.0), Tokens(4.0, 40.0)
    ),
    "empty": Row(EMPTY, 100.0, 10.0, Tokens(9.9, 100.0), None, None, Tokens(9.0, 100.0)),
    "empty, just before a token": Row(
        EMPTY, 159.9, 9.0 + 0.1 / 60, Tokens(8.9 + 0.1 / 60, 159.9), None, None, Tokens(8.0 + 0.1 / 60, 159.9)
    ),
    "empty, one token on": Row(EMPTY, 160.0, 9.0, Tokens(8.9, 160.0), Tokens(10.0, 160.0), None, Tokens(8.0, 160.0)),
    "overdrawn by a larger rule": Row(
        Tokens(12.0, 100.0), 100.0, 12.0, Tokens(11.9, 100.0), None, None, Tokens(11.0, 100.0)
    ),
}


def same(state: Tokens | None, expected: Tokens | None) -> bool:
    if state is None or expected is None:
        return state is expected
    return state.at == expected.at and state.spent == pytest.approx(expected.spent, abs=1e-9)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_each_state_of_the_bucket_answers_each_question(row: Row) -> None:
    assert spent(BUCKET, row.state, row.now) == pytest.approx(row.spent)
    assert left(BUCKET, row.state, row.now) == pytest.approx(10.0 - row.spent)
    assert same(deposit(BUCKET, row.state, row.now), row.after_deposit)
    assert same(withdraw(BUCKET, row.state, 1.0, row.now), row.after_one)
    assert same(withdraw(BUCKET, row.state, 2.0, row.now), row.after_two)
    assert same(give_back(BUCKET, row.state, 1.0, row.now), row.after_one_given_back)


def test_a_retry_that_costs_nothing_is_paid_by_an_empty_bucket() -> None:
    assert withdraw(BUCKET, EMPTY, 0.0, 100.0) is EMPTY
    assert withdraw(Bucket(capacity=0.0), FULL, 0.0, 100.0) is FULL


@pytest.mark.parametrize(
    ("capacity", "tokens", "retries"),
    [
        (0.0, 1.0, 0),
        (0.5, 1.0, 0),
        (0.5, 0.5, 1),
        (1.0, 1.0, 1),
        (2.5, 1.0, 2),
        (3.0, 2.0, 1),
        (1.0, 0.1, 10),
        (3.0, 0.3, 10),
        (0.3, 0.1, 3),  # the sum is 0.30000000000000004
        (0.6, 0.2, 3),  # 0.6000000000000001
        (0.299999, 0.1, 2),
    ],
)
def test_a_bucket_gives_what_its_capacity_holds_and_no_fraction_more(
    capacity: float, tokens: float, retries: int
) -> None:
    bucket, state, count = Bucket(capacity=capacity, refill=0.0), FULL, 0
    while (after := withdraw(bucket, state, tokens, 7.0)) is not None:
        state, count = after, count + 1
    assert count == retries


def test_a_bucket_without_refill_never_heals_but_by_deposits() -> None:
    bucket = Bucket(capacity=1.0, refill=0.0, deposit=0.25)
    state = Tokens(1.0, 0.0)
    for n in range(4):
        assert withdraw(bucket, state, 1.0, 1e9) is None, n
        state = deposit(bucket, state, 1e9)
    assert state is FULL


def test_a_deposit_into_a_full_bucket_is_not_saved_up() -> None:
    assert deposit(BUCKET, FULL, 5.0) is FULL


def test_a_bucket_that_has_healed_has_no_state_again() -> None:
    assert deposit(BUCKET, HALF, 1e6) is FULL
    assert give_back(BUCKET, Tokens(1.0, 5.0), 1.0, 5.0) is FULL
    assert give_back(BUCKET, FULL, 3.0, 5.0) is FULL


def test_a_clock_that_was_set_back_is_followed_from_the_next_first_attempt_on() -> None:
    state = deposit(Bucket(capacity=10.0, refill=1.0, deposit=0.0), Tokens(10.0, at=86_400.0), now=0.0)
    assert state == Tokens(10.0, 0.0)
    assert withdraw(BUCKET, state, 1.0, 60.0) == Tokens(10.0, 60.0)


def test_two_policies_read_one_state_each_with_its_own_capacity_and_refill() -> None:
    small, large = Bucket(capacity=2.0, refill=1.0), Bucket(capacity=10.0, refill=6.0)
    state = withdraw(large, FULL, 5.0, 0.0)
    assert state == Tokens(5.0, 0.0)
    assert left(small, state, 0.0) == -3.0
    assert withdraw(small, state, 1.0, 0.0) is None
    assert withdraw(large, state, 5.0, 0.0) == Tokens(10.0, 0.0)
    assert spent(small, state, 30.0) == 4.5
    assert spent(large, state, 30.0) == 2.0
    assert withdraw(small, state, 1.0, 240.0) == Tokens(2.0, 240.0)


def test_the_defaults_are_the_documented_ones() -> None:
    assert Budget() == Budget(attempts=4, deadline_s=1800.0, session=Bucket(capacity=10.0, refill=1.0, deposit=0.1))
    assert MOST_ATTEMPTS == 32
    assert Tokens(0.0, 0.0) == FULL


@given(
    st.lists(st.tuples(st.floats(0.0, 600.0), st.sampled_from([0.5, 1.0, 2.0]), st.booleans()), max_size=60),
    st.sampled_from([0.5, 1.0, 3.0, 10.0]),
    st.sampled_from([0.0, 0.5, 1.0, 30.0]),
)
def test_in_no_stretch_of_time_is_more_withdrawn_than_capacity_refill_and_deposits(
    steps: list[tuple[float, float, bool]], capacity: float, refill: float
) -> None:
    bucket, state, now, paid, deposited = Bucket(capacity, refill, 0.1), FULL, 0.0, 0.0, 0.0
    for wait_s, tokens, first_attempt in steps:
        now += wait_s
        if first_attempt:
            state, deposited = deposit(bucket, state, now), deposited + 0.1
        elif (after := withdraw(bucket, state, tokens, now)) is not None:
            state, paid = after, paid + tokens
        assert paid <= capacity + refill * now / 60.0 + deposited + 1e-6


class BucketMachine(RuleBasedStateMachine):
    """Withdrawals, returns and deposits in any order, on a clock that may be set back."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now = FULL, 10_000.0
        self.noted, self.noted_at = 0.0, 0.0
        self.reserved: list[float] = []

    def missing(self) -> float:
        return max(0.0, self.noted - max(0.0, self.now - self.noted_at) / 60.0)

    def note(self, change: float) -> None:
        self.noted, self.noted_at = max(0.0, self.missing() + change), self.now

    @rule(seconds=st.sampled_from([1.0, 10.0, 60.0, -1.0, -3600.0]))
    def the_clock_moves(self, seconds: float) -> None:
        self.now += seconds

    @rule(tokens=st.sampled_from([1.0, 2.0, 4.0]))
    def take(self, tokens: float) -> None:
        after = withdraw(BUCKET, self.state, tokens, self.now)
        assert (after is not None) == (self.missing() + tokens <= 10.0 + 1e-6)
        if after is not None:
            self.state = after
            self.note(tokens)
            self.reserved.append(tokens)

    @precondition(lambda self: self.reserved)
    @rule()
    def retry_was_not_launched(self) -> None:
        tokens = self.reserved.pop()
        self.state = give_back(BUCKET, self.state, tokens, self.now)
        self.note(-tokens)

    @rule()
    def first_attempt(self) -> None:
        self.state = deposit(BUCKET, self.state, self.now)
        self.note(-0.1)

    @invariant()
    def as_much_is_missing_as_was_taken(self) -> None:
        assert spent(BUCKET, self.state, self.now) == pytest.approx(self.missing(), abs=1e-6)
        assert 0.0 <= self.state.spent <= 10.0 + 1e-6
        assert self.state is FULL or self.state.spent > 0.0


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(max_examples=60, stateful_step_count=30)
