import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    cooldown_s,
    look,
    record,
    reset,
)

RULE = Breaker(failures=2, window_s=600.0, failure_rate=0.5, minimum=10, cooldown_s=10.0, cooldown_cap_s=60.0, trials=2)
BY_RATE = Breaker(failures=1000, window_s=600.0, failure_rate=0.5, minimum=10, cooldown_s=10.0, cooldown_cap_s=60.0)


def half() -> float:
    """Return the middle of the die: a cooldown is lengthened by a tenth."""
    return 0.5


def none() -> float:
    return 0.0


CLOSED_ROW_OF_1 = Closed(4, 1, (90.0, 1, 1))
CLOSED_ROW_ENDED = Closed(4, 0, (90.0, 2, 1))
CLOSED_ROW_WITHOUT_A_WINDOW = Closed(4, 1)
OPEN = Open(5, until=150.0, trips=1)
ONE_TRIAL = HalfOpen(6, trips=1, taken=1)
TWO_TRIALS = HalfOpen(6, trips=1, taken=2)
AFTER_BUSY = HalfOpen(6, trips=1, taken=1, not_before=120.0)

# Every state x report at the moment 100, the report in the state's own generation.
RECORDED: dict[State, dict[Report, State]] = {
    CLOSED: {
        Report.SUCCESS: CLOSED,
        Report.COUNTED: Closed(0, 1, (100.0, 1, 1)),
        Report.UNCOUNTED: CLOSED,
        Report.BUSY: CLOSED,
    },
    CLOSED_ROW_OF_1: {
        Report.SUCCESS: CLOSED_ROW_ENDED,
        Report.COUNTED: Open(5, 111.0, trips=0, wait_s=11.0),
        Report.UNCOUNTED: CLOSED_ROW_OF_1,
        Report.BUSY: CLOSED_ROW_OF_1,
    },
    CLOSED_ROW_ENDED: {
        Report.SUCCESS: Closed(4, 0, (90.0, 3, 1)),
        Report.COUNTED: Closed(4, 1, (90.0, 3, 2)),
        Report.UNCOUNTED: CLOSED_ROW_ENDED,
        Report.BUSY: CLOSED_ROW_ENDED,
    },
    CLOSED_ROW_WITHOUT_A_WINDOW: {
        Report.SUCCESS: Closed(4),
        Report.COUNTED: Open(5, 111.0, trips=0, wait_s=11.0),
        Report.UNCOUNTED: CLOSED_ROW_WITHOUT_A_WINDOW,
        Report.BUSY: CLOSED_ROW_WITHOUT_A_WINDOW,
    },
    OPEN: dict.fromkeys(Report, OPEN),
    ONE_TRIAL: {
        Report.SUCCESS: Closed(7),
        Report.COUNTED: Open(7, 144.0, trips=2, wait_s=44.0),
        Report.UNCOUNTED: HalfOpen(6, trips=1, taken=0),
        Report.BUSY: HalfOpen(6, trips=1, taken=0, not_before=122.0, wait_s=22.0),
    },
    TWO_TRIALS: {
        Report.SUCCESS: Closed(7),
        Report.COUNTED: Open(7, 144.0, trips=2, wait_s=44.0),
        Report.UNCOUNTED: HalfOpen(6, trips=1, taken=1),
        Report.BUSY: HalfOpen(6, trips=1, taken=1, not_before=122.0, wait_s=22.0),
    },
    AFTER_BUSY: {
        Report.SUCCESS: Closed(7),
        Report.COUNTED: Open(7, 144.0, trips=2, wait_s=44.0),
        Report.UNCOUNTED: HalfOpen(6, trips=1, taken=0, not_before=120.0),
        Report.BUSY: HalfOpen(6, trips=1, taken=0, not_before=122.0, wait_s=22.0),
    },
}
CELLS = [(state, report, after) for state, row in RECORDED.items() for report, after in row.items()]


def test_the_table_has_every_report_for_every_state() -> None:
    assert all(set(row) == set(Report) for row in RECORDED.values())
    assert {type(state) for state in RECORDED} == {Closed, Open, HalfOpen}


@pytest.mark.parametrize(("state", "report", "after"), CELLS)
def test_a_report_does_what_the_table_says(state: State, report: Report, after: State) -> None:
    assert record(RULE, state, Admitted(state.generation), report, 100.0, half) == after


@pytest.mark.parametrize(("state", "report", "_"), CELLS)
@pytest.mark.parametrize("age", [1, 2, 7, -1])
def test_a_report_of_another_generation_changes_nothing(state: State, report: Report, _: State, age: int) -> None:
    for trial in (False, True):
        admitted = Admitted(state.generation - age, trial)
        assert record(RULE, state, admitted, report, 100.0, half) is state


@pytest.mark.parametrize(("state", "report", "after"), CELLS)
def test_every_transition_begins_a_generation_and_nothing_else_does(state: State, report: Report, after: State) -> None:
    moved = type(state) is not type(after)
    assert after.generation == state.generation + moved
    assert record(RULE, after, Admitted(state.generation), report, 100.0, half) is after or not moved


ADMITTED: list[tuple[State, float, State, Admitted | Refused]] = [
    (CLOSED, 100.0, CLOSED, Admitted(0)),
    (CLOSED_ROW_OF_1, 100.0, CLOSED_ROW_OF_1, Admitted(4)),
    (OPEN, 100.0, OPEN, Refused(150.0)),
    (OPEN, 149.999, OPEN, Refused(150.0)),
    (OPEN, 150.0, HalfOpen(6, trips=1, taken=1), Admitted(6, trial=True)),
    (OPEN, 1e9, HalfOpen(6, trips=1, taken=1), Admitted(6, trial=True)),
    (HalfOpen(6, trips=1, taken=0), 100.0, ONE_TRIAL, Admitted(6, trial=True)),
    (ONE_TRIAL, 100.0, TWO_TRIALS, Admitted(6, trial=True)),
    (TWO_TRIALS, 100.0, TWO_TRIALS, Refused(None)),
    (TWO_TRIALS, 1e9, TWO_TRIALS, Refused(None)),
    (HalfOpen(6, trips=1, taken=3), 100.0, HalfOpen(6, trips=1, taken=3), Refused(None)),
    (AFTER_BUSY, 100.0, AFTER_BUSY, Refused(120.0)),
    (AFTER_BUSY, 119.999, AFTER_BUSY, Refused(120.0)),
    (AFTER_BUSY, 120.0, HalfOpen(6, trips=1, taken=2, not_before=120.0), Admitted(6, trial=True)),
    (HalfOpen(6, 1, taken=2, not_before=120.0), 100.0, HalfOpen(6, 1, taken=2, not_before=120.0), Refused(None)),
]


@pytest.mark.parametrize(("state", "now", "after", "answer"), ADMITTED)
def test_each_state_admits_or_refuses_and_a_look_says_the_same(
    state: State, now: float, after: State, answer: Admitted | Refused
) -> None:
    assert admit(RULE, state, now) == (after, answer)
    assert look(RULE, state, now) == (answer if isinstance(answer, Refused) else None)


@pytest.mark.parametrize(("state", "now"), [(OPEN, 100.0), (TWO_TRIALS, 100.0), (AFTER_BUSY, 100.0), (CLOSED, 1.0)])
def test_who_is_refused_extends_nothing_however_often(state: State, now: float) -> None:
    for _ in range(1000):
        after, _answer = admit(RULE, state, now)
        look(RULE, state, now)
        assert after is state


def test_fifty_callers_at_the_end_of_a_cooldown_get_the_one_place() -> None:
    state: State = OPEN
    answers: list[Admitted | Refused] = []
    for _ in range(50):
        state, answer = admit(Breaker(trials=1), state, 150.0)
        answers.append(answer)
    assert answers == [Admitted(6, trial=True)] + [Refused(None)] * 49


def test_the_first_trial_that_succeeds_closes_and_the_others_report_too_late() -> None:
    state, second = admit(RULE, ONE_TRIAL, 100.0)
    assert isinstance(second, Admitted)
    closed = record(RULE, state, second, Report.SUCCESS, 101.0, half)
    assert closed == Closed(7)
    assert record(RULE, closed, Admitted(6, trial=True), Report.COUNTED, 102.0, half) is closed


def test_a_busy_trial_makes_the_next_one_wait_the_same_cooldown_without_growth() -> None:
    state: State = HalfOpen(6, trips=1, taken=1)
    now = 100.0
    for _ in range(5):
        state = record(RULE, state, Admitted(6, trial=True), Report.BUSY, now, none)
        assert look(RULE, state, now) == Refused(now + 20.0)
        now += 20.0
        state, answer = admit(RULE, state, now)
        assert answer == Admitted(6, trial=True)
    assert record(RULE, state, Admitted(6, trial=True), Report.COUNTED, now, none) == Open(
        7, now + 40.0, trips=2, wait_s=40.0
    )


def test_a_report_that_comes_twice_frees_no_second_place() -> None:
    state = record(RULE, HalfOpen(6, 0, taken=0), Admitted(6, trial=True), Report.UNCOUNTED, 100.0, half)
    assert state == HalfOpen(6, 0, taken=0)
    state = record(RULE, HalfOpen(6, 0, taken=0), Admitted(6, trial=True), Report.BUSY, 100.0, half)
    assert state == HalfOpen(6, 0, taken=0, not_before=111.0, wait_s=11.0)


# --- cooldowns


def test_each_cooldown_in_a_row_is_twice_as_long_up_to_the_cap() -> None:
    assert [cooldown_s(RULE, trips, none) for trips in range(5)] == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert cooldown_s(RULE, 10_000, none) == 60.0
    long = Breaker(cooldown_s=1.0, cooldown_cap_s=math.inf)
    assert [cooldown_s(long, trips, none) for trips in (62, 63, 64, 10**400)] == [2.0**62, 2.0**63, 2.0**63, 2.0**63]


def test_a_success_ends_the_row_of_cooldowns() -> None:
    state: State = Open(9, 0.0, trips=3)
    state, answer = admit(RULE, state, 0.0)
    assert isinstance(answer, Admitted)
    state = record(RULE, state, answer, Report.SUCCESS, 1.0, none)
    for _ in range(RULE.failures):
        state = record(RULE, state, Admitted(state.generation), Report.COUNTED, 1.0, none)
    assert state == Open(12, 11.0, trips=0, wait_s=10.0)


@given(
    st.floats(0.0, 1e6, exclude_min=True),
    st.floats(0.0, 1e6, exclude_min=True),
    st.integers(0, 10_000),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_jitter_only_lengthens_and_by_a_fifth_at_most(base_s: float, cap_s: float, trips: int, draw: float) -> None:
    rule = Breaker(cooldown_s=base_s, cooldown_cap_s=cap_s)
    plain = cooldown_s(rule, trips, none)
    assert plain <= cap_s
    assert plain <= cooldown_s(rule, trips, lambda: draw) <= plain * 1.2


def test_jitter_is_in_proportion_to_the_die() -> None:
    assert [cooldown_s(RULE, 0, iter([draw]).__next__) for draw in (0.0, 0.25, 0.5)] == [10.0, 10.5, 11.0]


# --- a clock that is set


@pytest.mark.parametrize("back_s", [100.0, 86_400.0, 1e9])
def test_a_clock_that_was_set_back_holds_no_breaker_open_for_longer_than_its_rule(back_s: float) -> None:
    opened = Open(5, until=1e9 + 72.0, trips=9)
    assert look(RULE, opened, 1e9) == Refused(1e9 + 72.0)
    assert look(RULE, opened, 1e9 - 0.001) is None
    assert look(RULE, opened, 1e9 - back_s) is None
    assert admit(RULE, opened, 1e9 - back_s) == (HalfOpen(6, 9, taken=1), Admitted(6, trial=True))


@pytest.mark.parametrize("back_s", [100.0, 86_400.0, 1e9])
def test_a_clock_that_was_set_back_keeps_no_trial_waiting_for_longer_than_its_rule(back_s: float) -> None:
    busy = HalfOpen(6, 9, taken=0, not_before=1e9 + 72.0)
    assert look(RULE, busy, 1e9) == Refused(1e9 + 72.0)
    assert look(RULE, busy, 1e9 - back_s) is None
    assert admit(RULE, busy, 1e9 - back_s)[1] == Admitted(6, trial=True)


def test_a_policy_with_a_smaller_cap_waits_for_the_breaker_that_another_policy_opened() -> None:
    long, short = Breaker(failures=1, cooldown_s=60.0), Breaker(cooldown_s=10.0, cooldown_cap_s=30.0)
    opened = record(long, CLOSED, Admitted(0), Report.COUNTED, 1000.0, none)
    assert [look(short, opened, now) for now in (1000.0, 1023.0, 1059.9)] == [Refused(1060.0)] * 3
    assert admit(short, opened, 1000.0)[1] == Refused(1060.0)
    assert look(short, opened, 1060.0) is None
    assert look(short, opened, 999.0) is None, "of a clock that was set back"


def test_a_policy_with_a_smaller_cap_waits_for_the_trial_that_another_policy_found_busy() -> None:
    long, short = Breaker(failures=1, cooldown_s=60.0), Breaker(cooldown_s=10.0, cooldown_cap_s=30.0)
    busy = record(long, HalfOpen(6, 0, taken=1), Admitted(6, trial=True), Report.BUSY, 1000.0, none)
    assert [look(short, busy, now) for now in (1000.0, 1059.9)] == [Refused(1060.0)] * 2
    assert look(short, busy, 1060.0) is None
    assert look(short, busy, 999.0) is None


def test_a_cooldown_over_its_cap_is_waited_out_where_the_cap_is_below_it() -> None:
    rule = Breaker(failures=1, cooldown_s=90.0, cooldown_cap_s=60.0)
    opened = record(rule, CLOSED, Admitted(0), Report.COUNTED, 0.0, lambda: 0.999)
    assert isinstance(look(rule, opened, 0.0), Refused)
    assert look(rule, opened, 72.0) is None


def test_failures_from_ahead_of_a_clock_that_was_set_back_leave_the_window_in_its_time() -> None:
    state: State = CLOSED
    for moment in (10_000.0, 10_030.0, 10_060.0):
        state = record(BY_RATE, state, Admitted(0), Report.COUNTED, moment, none)
    state = record(BY_RATE, state, Admitted(0), Report.SUCCESS, 5.0, none)
    assert isinstance(state, Closed)
    assert sum(state.outcomes[1::3]) == 4
    assert all(moment <= 5.0 for moment in state.outcomes[::3])
    assert record(BY_RATE, state, Admitted(0), Report.SUCCESS, 605.0, none) == CLOSED


@pytest.mark.parametrize(
    ("moments", "outcomes"),
    [
        ((0.0, 20.0, 40.0), (0.0, 100, 1, 20.0, 200, 1, 40.0, 301, 2)),  # none is ahead
        ((0.0, 30.0, 200.0), (0.0, 100, 1, 30.0, 200, 1, 50.0, 301, 2)),
        ((0.0, 50.0, 200.0), (0.0, 100, 1, 50.0, 200, 1, 50.0, 301, 2)),
        ((0.0, 100.0, 200.0), (0.0, 100, 1, 50.0, 501, 3)),
        ((51.0, 100.0, 200.0), (50.0, 601, 4)),
    ],
)
def test_slices_from_ahead_of_now_become_one_of_now(
    moments: tuple[float, float, float], outcomes: tuple[float, ...]
) -> None:
    first, second, third = moments
    # More outcomes than seconds on the clock: a number of outcomes is not taken for a moment ahead.
    state = Closed(0, 1, (first, 100, 1, second, 200, 1, third, 300, 2))
    assert record(BY_RATE, state, Admitted(0), Report.SUCCESS, 50.0, none) == Closed(0, 0, outcomes)


# --- the window


def test_a_healthy_session_has_no_state() -> None:
    state: State = CLOSED
    for moment in range(1000):
        state = record(RULE, state, Admitted(0), Report.SUCCESS, float(moment), none)
        assert state is CLOSED


def test_an_old_failure_is_forgotten_and_the_state_is_the_default_again() -> None:
    state = record(RULE, CLOSED, Admitted(0), Report.COUNTED, 100.0, none)
    state = record(RULE, state, Admitted(0), Report.SUCCESS, 101.0, none)
    assert record(RULE, state, Admitted(0), Report.SUCCESS, 699.9, none) != CLOSED
    assert record(RULE, state, Admitted(0), Report.SUCCESS, 700.0, none) == CLOSED


def outcomes_after(rule: Breaker, reports: list[tuple[float, Report]]) -> State:
    state: State = CLOSED
    for moment, report in reports:
        state = record(rule, state, Admitted(0), report, moment, none)
    return state


def test_the_window_begins_with_a_failure() -> None:
    state = outcomes_after(BY_RATE, [*((float(n), Report.SUCCESS) for n in range(50)), (50.0, Report.COUNTED)])
    assert state == Closed(0, 1, (50.0, 1, 1))
    state = outcomes_after(
        BY_RATE,
        [(0.0, Report.COUNTED), (100.0, Report.SUCCESS), (200.0, Report.SUCCESS), (300.0, Report.COUNTED)],
    )
    assert isinstance(state, Closed)
    assert state.outcomes == (0.0, 1, 1, 100.0, 1, 0, 200.0, 1, 0, 300.0, 1, 1)
    state = record(BY_RATE, state, Admitted(0), Report.SUCCESS, 600.0, none)
    assert state == Closed(0, 0, (300.0, 1, 1, 600.0, 1, 0)), "the first failure left, and the successes behind it"


@pytest.mark.parametrize("successes", range(5))
def test_with_the_first_failure_go_the_successes_up_to_the_next_however_many(successes: int) -> None:
    between = [(20.0 * n, Report.SUCCESS) for n in range(1, successes + 1)]
    state = outcomes_after(BY_RATE, [(0.0, Report.COUNTED), *between, (300.0, Report.COUNTED), (320.0, Report.COUNTED)])
    state = record(BY_RATE, state, Admitted(0), Report.SUCCESS, 600.0, none)
    assert state == Closed(0, 0, (300.0, 1, 1, 320.0, 1, 1, 600.0, 1, 0))


@pytest.mark.parametrize(
    ("after_s", "outcomes"),
    [
        (0.0, (100.0, 2, 1)),
        (19.999, (100.0, 2, 1)),
        (20.0, (100.0, 1, 1, 120.0, 1, 0)),
        (599.999, (100.0, 1, 1, 699.999, 1, 0)),
        (600.0, ()),
    ],
)
def test_outcomes_within_a_30th_of_the_window_are_one_slice(after_s: float, outcomes: tuple[float, ...]) -> None:
    state = record(BY_RATE, Closed(0, 1, (100.0, 1, 1)), Admitted(0), Report.SUCCESS, 100.0 + after_s, none)
    assert state == Closed(0, 0, outcomes)


def test_the_window_is_bounded_however_many_outcomes_there_are() -> None:
    state: State = CLOSED
    rule = Breaker(failures=10**9, window_s=600.0, failure_rate=1.0, minimum=10**9)
    for n in range(5000):
        state = record(rule, state, Admitted(0), Report.COUNTED if n % 3 == 0 else Report.SUCCESS, n * 0.7, none)
        assert isinstance(state, Closed)
        assert len(state.outcomes) <= 3 * 31
        assert n < 1000 or len(state.outcomes) >= 3 * 29


@pytest.mark.parametrize(
    ("reports", "opens"),
    [
        ("FSFSFSFSF", False),  # nine outcomes: below the minimum
        ("FSFSFSFSSF", True),  # five of ten
        ("FSFSFSSSSF", False),  # four of ten
        ("SSSSSSFSFSFSFSF", False),  # successes before the first failure are not kept
        ("FFFFFFFFFF", True),
        ("FFFFFFFFFS", False),  # a success opens nothing
        ("FSSSSSSSSS", False),
        ("FSSSSSSSSSFFFFFFFF", True),  # nine of eighteen
        ("FSSSSSSSSSFFFFFFF", False),  # eight of seventeen
    ],
)
def test_it_opens_on_the_rate_of_at_least_the_minimum(reports: str, *, opens: bool) -> None:
    moments = [(n * 7.0, Report.COUNTED if r == "F" else Report.SUCCESS) for n, r in enumerate(reports)]
    assert (outcomes_after(BY_RATE, moments) == Open(1, (len(reports) - 1) * 7.0 + 10.0, 0, 10.0)) is opens


def test_failures_further_apart_than_the_window_are_no_rate_but_a_row() -> None:
    apart = [(n * 601.0, Report.COUNTED) for n in range(50)]
    assert outcomes_after(BY_RATE, apart) == Closed(0, 50, (49 * 601.0, 1, 1))
    assert isinstance(outcomes_after(RULE, apart[:2]), Open)


def test_only_counted_outcomes_make_the_row_and_a_success_ends_it() -> None:
    fails = Report.COUNTED
    assert isinstance(
        outcomes_after(RULE, [(0.0, fails), (1.0, Report.UNCOUNTED), (2.0, Report.BUSY), (3.0, fails)]), Open
    )
    assert isinstance(outcomes_after(RULE, [(0.0, fails), (1.0, Report.SUCCESS), (2.0, fails)]), Closed)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 19.0, 20.0, 100.0, 599.0, 600.0]), st.booleans()), max_size=80),
)
def test_the_window_holds_what_an_exact_list_of_outcomes_does_within_a_slice(steps: list[tuple[float, bool]]) -> None:
    rule = Breaker(failures=10**9, window_s=600.0, failure_rate=1.0, minimum=10**9)
    state: State = CLOSED
    failures: list[float] = []
    now = 0.0
    for wait_s, failed in steps:
        now += wait_s
        failures += [now] if failed else []
        state = record(rule, state, Admitted(0), Report.COUNTED if failed else Report.SUCCESS, now, none)
        assert isinstance(state, Closed)
        kept = sum(state.outcomes[2::3])
        assert sum(t > now - 580.0 for t in failures) <= kept <= sum(t > now - 600.0 for t in failures)
        assert not state.outcomes or state.outcomes[2] > 0
        assert sum(state.outcomes[1::3]) >= kept


# --- an operator's reset


@pytest.mark.parametrize("state", [*RECORDED], ids=str)
def test_a_reset_closes_and_whoever_was_under_way_reports_too_late(state: State) -> None:
    after = reset(state)
    assert look(RULE, after, 0.0) is None
    assert after == (CLOSED if state == CLOSED else Closed(state.generation + 1))
    for generation in range(state.generation + 1) if state != CLOSED else ():
        assert record(RULE, after, Admitted(generation), Report.COUNTED, 0.0, none) is after


def test_a_reset_of_a_healthy_breaker_leaves_no_state() -> None:
    assert reset(CLOSED) is CLOSED


def test_the_defaults_are_the_documented_ones() -> None:
    assert Breaker() == Breaker(
        failures=5,
        window_s=600.0,
        failure_rate=0.5,
        minimum=10,
        cooldown_s=60.0,
        cooldown_cap_s=1800.0,
        trials=1,
    )
    assert Closed() == Closed(0, 0, ()) == CLOSED
    assert HalfOpen(1, 2, 3) == HalfOpen(1, 2, 3, not_before=0.0)


def test_words_of_reports_are_these() -> None:
    assert [*Report] == ["success", "counted", "uncounted", "busy"]


@pytest.mark.parametrize(
    ("rate", "failures", "total"), [(0.55, 55, 100), (0.07, 7, 100), (0.29, 29, 100), (0.5, 5, 10)]
)
def test_a_rate_that_is_reached_exactly_opens_whatever_its_digits(rate: float, failures: int, total: int) -> None:
    """0.55 * 100 is 55.00000000000001."""
    rule = Breaker(failures=10**9, failure_rate=rate, minimum=total)
    for counted, expected in ((failures, Open), (failures - 1, Closed)):
        state: State = CLOSED
        for n in range(total):
            fails = n == 0 or n > total - counted
            report = Report.COUNTED if fails else Report.SUCCESS
            state = record(rule, state, Admitted(state.generation), report, n * 0.1, lambda: 0.0)
        assert type(state) is expected
