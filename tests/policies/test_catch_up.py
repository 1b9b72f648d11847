"""Which ticks are due, and what becomes of those that were missed."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catch_up import (
    MOST_CAUGHT_UP,
    MOST_COUNTED,
    NOTHING,
    ON_TIME_S,
    CatchUp,
    Due,
    due,
    overdue_at,
    starts_again,
    tick_id,
)
from policies.schedule import At, Cron, Every, Schedule, between

T0 = 1_767_225_600.0  # 2026-01-01T00:00:00Z
MINUTELY = Every(60.0, T0)
BERLIN = Cron("*/20 * * * *", ZoneInfo("Europe/Berlin"))

schedules = st.one_of(
    st.sampled_from([BERLIN, Cron("*/10 * * * * *", ZoneInfo("UTC")), At(T0 + 100.0)]),
    st.builds(Every, st.floats(0.5, 500.0), st.floats(T0 - 1000.0, T0 + 1000.0)),
)


@pytest.mark.once
@given(schedules, st.floats(0.0, 4000.0), st.floats(0.0, 8000.0), st.sampled_from(CatchUp))
def test_each_tick_is_started_or_expires_once_and_in_order(
    schedule: Schedule, after_s: float, later_s: float, catch_up: CatchUp
) -> None:
    decided, now = T0 + after_s, T0 + after_s + later_s
    ticks = list(between(schedule, decided, now))
    found = due(schedule, decided, now, catch_up)
    told = [*found.expired, *found.start]
    if found.older is not None:
        first, last = found.older
        uncounted = len(ticks) - len(told)
        assert uncounted > 0
        assert (first, last) == (ticks[0], ticks[uncounted - 1])
        assert len(told) == MOST_COUNTED
        ticks = ticks[uncounted:]
    assert told == ticks
    most = MOST_CAUGHT_UP if catch_up is CatchUp.ALL else 1
    assert len(found.start) <= most
    if ticks:
        is_late = now - ticks[-1] > ON_TIME_S
        assert found.is_late is is_late
        wanted = {CatchUp.NONE: 0 if is_late else 1, CatchUp.LAST: 1, CatchUp.ALL: min(most, len(ticks))}
        assert len(found.start) == wanted[catch_up]


@pytest.mark.once
@given(schedules, st.lists(st.floats(0.0, 500.0), max_size=30), st.sampled_from(CatchUp))
def test_however_often_one_looks_each_tick_is_found_once(
    schedule: Schedule, pauses: list[float], catch_up: CatchUp
) -> None:
    decided = now = T0
    found: list[float] = []
    for pause_s in pauses:
        now += pause_s
        look = due(schedule, decided, now, catch_up)
        assert look.older is None
        found += [*look.expired, *look.start]
        decided = found[-1] if found else decided
    assert found == list(between(schedule, T0, now))


def test_nothing_is_due_before_the_next_tick_or_after_the_last_one() -> None:
    assert due(MINUTELY, T0, T0 + 59.9, CatchUp.ALL) == NOTHING
    assert due(At(T0), T0, T0 + 1e6, CatchUp.ALL) == NOTHING


@pytest.mark.parametrize("catch_up", CatchUp)
def test_a_tick_that_is_found_within_a_minute_was_not_missed(catch_up: CatchUp) -> None:
    assert due(At(T0), T0 - 1.0, T0 + ON_TIME_S, catch_up) == Due((T0,))


@pytest.mark.parametrize(
    ("catch_up", "start", "expired"),
    [
        (CatchUp.NONE, (), (T0 + 60, T0 + 120, T0 + 180)),
        (CatchUp.LAST, (T0 + 180,), (T0 + 60, T0 + 120)),
        (CatchUp.ALL, (T0 + 60, T0 + 120, T0 + 180), ()),
    ],
)
def test_missed_ticks_expire_or_start_as_the_job_says(
    catch_up: CatchUp, start: tuple[float, ...], expired: tuple[float, ...]
) -> None:
    late = due(Cron("1-3 0 1 1 *", ZoneInfo("UTC")), T0, T0 + 300.0, catch_up)
    assert late == Due(start, expired, None, is_late=True)


def test_of_a_long_time_the_oldest_ticks_are_told_in_one_span() -> None:
    found = due(Every(1.0, T0), T0, T0 + 1e6, CatchUp.ALL)
    assert found.older == (T0 + 1, T0 + 1e6 - MOST_COUNTED)
    assert found.start == tuple(T0 + 1e6 - n for n in reversed(range(MOST_CAUGHT_UP)))
    assert len(found.expired) == MOST_COUNTED - MOST_CAUGHT_UP


@pytest.mark.parametrize(
    ("catch_up", "tick", "last", "now", "again"),
    [
        (CatchUp.NONE, T0, T0, T0 + ON_TIME_S, True),
        (CatchUp.NONE, T0, T0, T0 + ON_TIME_S + 1, False),
        (CatchUp.LAST, T0, T0, T0 + 1e6, True),
        (CatchUp.LAST, T0, T0 + 60, T0 + 61, False),
        (CatchUp.ALL, T0, T0 + 60, T0 + 1e6, True),
    ],
)
def test_a_tick_whose_process_died_is_started_again_as_a_missed_one_is(
    catch_up: CatchUp, tick: float, last: float, now: float, *, again: bool
) -> None:
    assert starts_again(tick, last, now, catch_up) is again


def test_a_job_is_overdue_when_so_many_ticks_have_come_and_each_had_its_time() -> None:
    assert overdue_at(MINUTELY, T0, 3) == T0 + 180
    assert overdue_at(MINUTELY, T0 + 1, 1, took_s=7.0) == T0 + 67
    assert overdue_at(At(T0), T0 - 1, 1) == T0
    assert overdue_at(At(T0), T0 - 1, 2) is None
    assert overdue_at(At(T0), T0, 3) is None


def test_a_ticks_run_has_the_same_id_whoever_starts_it() -> None:
    assert tick_id("backup", T0) == "tick-54d00d8677-20260101T000000Z"
    assert tick_id("backup", T0 + 0.25) == "tick-54d00d8677-20260101T000000.250Z"
    assert tick_id("another", T0) != tick_id("backup", T0)


@given(st.floats(0.001, 3.0), st.floats(0.0, 1e6))
def test_two_ticks_of_a_job_have_two_ids(period_s: float, past_s: float) -> None:
    every = Every(round(period_s, 3), T0)
    one = every.next_after(T0 + past_s)
    assert one is not None
    two = every.next_after(one)
    assert two is not None
    assert tick_id("backup", one) != tick_id("backup", two)
