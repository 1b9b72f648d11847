import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.backoff import Backoff, Strategy, backoff_s

DURATIONS = st.floats(min_value=0.0, max_value=1e9, allow_nan=False)
DRAWS = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@pytest.mark.parametrize(
    ("strategy", "waits"),
    [
        (Strategy.CONSTANT, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
        (Strategy.EXPONENTIAL, [2.0, 4.0, 8.0, 16.0, 20.0, 20.0]),
        (Strategy.FULL_JITTER, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
        (Strategy.EQUAL_JITTER, [1.25, 2.5, 5.0, 10.0, 12.5, 12.5]),
    ],
)
def test_the_formula_of_each_strategy(strategy: Strategy, waits: list[float]) -> None:
    rule = Backoff(strategy, base_s=2.0, cap_s=20.0)
    assert [backoff_s(rule, failed, lambda: 0.25) for failed in range(1, 7)] == waits


def test_the_default_draws_from_the_whole_of_2_s_doubling_to_2_minutes() -> None:
    highest = [backoff_s(Backoff(), failed, lambda: 1.0) for failed in (1, 2, 6, 7, 8)]
    assert highest == [2.0, 4.0, 64.0, 120.0, 120.0]
    assert Backoff().strategy is Strategy.FULL_JITTER


@pytest.mark.parametrize("strategy", Strategy)
def test_a_base_of_zero_retries_at_once_however_often(strategy: Strategy) -> None:
    rule = Backoff(strategy, base_s=0.0, cap_s=0.0)
    assert [backoff_s(rule, failed, lambda: 0.9) for failed in (1, 5, 10_000)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("strategy", Strategy)
def test_a_cap_below_the_base_bounds_the_wait(strategy: Strategy) -> None:
    assert backoff_s(Backoff(strategy, base_s=9.0, cap_s=4.0), 1, lambda: 0.999) <= 4.0


def test_a_tiny_base_reaches_any_cap_and_no_attempt_number_overflows() -> None:
    rule = Backoff(Strategy.EXPONENTIAL, base_s=0.001, cap_s=1e9)
    assert backoff_s(rule, 10_000, lambda: 0.0) == 1e9
    assert backoff_s(rule, 10**400, lambda: 0.0) == 1e9
    assert backoff_s(Backoff(Strategy.EXPONENTIAL, base_s=1e308, cap_s=1e308), 10_000, lambda: 0.0) == 1e308


def test_the_doublings_are_not_cut_short_within_reach_of_a_cap() -> None:
    rule = Backoff(Strategy.EXPONENTIAL, base_s=1.0, cap_s=math.inf)
    assert [backoff_s(rule, failed, lambda: 0.0) for failed in (1, 2, 32, 64, 65)] == [1, 2, 2**31, 2**63, 2**63]


@pytest.mark.parametrize("failed", [0, -1, -10_000])
def test_no_failure_yet_waits_as_after_the_first(failed: int) -> None:
    assert backoff_s(Backoff(Strategy.EXPONENTIAL, base_s=3.0), failed, lambda: 0.0) == 3.0


@given(st.sampled_from(Strategy), DURATIONS, DURATIONS, st.integers(1, 10_000), DRAWS)
def test_a_wait_is_never_negative_and_never_over_the_cap(
    strategy: Strategy, base_s: float, cap_s: float, failed: int, draw: float
) -> None:
    assert 0.0 <= backoff_s(Backoff(strategy, base_s, cap_s), failed, lambda: draw) <= cap_s


@given(DURATIONS, DURATIONS, st.integers(1, 64), DRAWS)
def test_equal_jitter_waits_at_least_half_of_what_exponential_does(
    base_s: float, cap_s: float, failed: int, draw: float
) -> None:
    whole = backoff_s(Backoff(Strategy.EXPONENTIAL, base_s, cap_s), failed, lambda: draw)
    assert whole / 2 <= backoff_s(Backoff(Strategy.EQUAL_JITTER, base_s, cap_s), failed, lambda: draw) <= whole


@pytest.mark.parametrize(
    ("strategy", "draws"), [("constant", 0), ("exponential", 0), ("full_jitter", 1), ("equal_jitter", 1)]
)
def test_only_jitter_throws_the_dice(strategy: str, draws: int) -> None:
    dice = iter([0.25, 0.75])
    backoff_s(Backoff(Strategy(strategy)), 1, dice.__next__)
    assert len([*dice]) == 2 - draws
