"""Schedules as sets of moments: against an oracle that looks at every minute, and as values that are asked."""

import math
import pickle
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.schedule import At, Cron, Every, NeverDue, Schedule, ScheduleError, between, newest, stagger_s

DAY_S = 86400
NEW_YORK, LORD_HOWE, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Europe/Berlin")
CHANGES = {
    NEW_YORK: ("2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
    LORD_HOWE: ("2026-10-03T15:30:00Z", "2026-04-04T15:00:00Z"),
    BERLIN: ("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),
}


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """One field, small enough for an oracle to read: `*`, a value, a range with a step, `*/n`."""
    value = st.integers(low, high)
    ranges = st.tuples(value, value, st.integers(1, 7)).map(lambda t: f"{min(t[:2])}-{max(t[:2])}/{t[2]}")
    return st.one_of(st.just("*"), value.map(str), ranges, st.integers(1, 7).map(lambda step: f"*/{step}"))


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
ZONES = st.sampled_from(
    [NEW_YORK, LORD_HOWE, BERLIN, ZoneInfo("Africa/Casablanca"), UTC, timezone(timedelta(hours=-3))]
)
MOMENTS = st.integers(unix("2025-01-01T00:00:00Z"), unix("2030-01-01T00:00:00Z"))


def meant(text: str, value: int, low: int, high: int) -> bool:
    values, _, step = text.partition("/")
    first, _, last = (f"{low}-{high}" if values == "*" else values).partition("-")
    return int(first) <= value <= int(last or first) and (value - int(first)) % int(step or 1) == 0


def means(expression: str, shown: datetime) -> bool:
    minute, hour, day, month, weekday = expression.split()
    by_day = meant(day, shown.day, 1, 31)
    by_weekday = meant(weekday, shown.isoweekday() % 7, 0, 6)
    is_day = by_day and by_weekday if "*" in (day, weekday) else by_day or by_weekday
    return (
        meant(minute, shown.minute, 0, 59)
        and meant(hour, shown.hour, 0, 23)
        and meant(month, shown.month, 1, 12)
        and is_day
    )


def by_the_minute(expression: str, zone: tzinfo, after: int, until: int) -> list[int]:
    """Walk through each minute as clocks show it, and say what was due: the rules of Cron, in another way.

    A minute that is shown twice counts at its first time; on Lord Howe, whose clocks change by half an hour, at its
    second. Of the minutes that are left out, the first that is meant is due as late after the change as it is after
    the first that is left out; minutes shown until then are not due.
    """
    due: list[int] = []
    held_until = 0
    counts_second = zone is LORD_HOWE
    shown_before = datetime.fromtimestamp(after // 60 * 60 - 4 * 3600, zone).replace(tzinfo=None)
    for moment in range(after // 60 * 60 - 4 * 3600 + 60, until + 1, 60):
        aware = datetime.fromtimestamp(moment, zone)
        shown = aware.replace(tzinfo=None)
        left_out = shown_before + timedelta(minutes=1)
        while left_out < shown:
            if means(expression, left_out) and held_until <= moment:
                held_until = moment + int((left_out - shown_before).total_seconds()) - 60
                due.append(held_until)
                break
            left_out += timedelta(minutes=1)
        shown_before = shown
        is_twice = aware.utcoffset() != aware.replace(fold=1 - aware.fold).utcoffset()
        counts = not is_twice or aware.fold == counts_second
        if counts and means(expression, shown) and moment > held_until:
            due.append(moment)
    return [moment for moment in due if after < moment <= until]


@pytest.mark.once
@given(EXPRESSIONS, st.sampled_from(list(CHANGES)), st.integers(0, 1), st.integers(-6 * 3600, 3 * 3600))
@example("20-40/20 * * * *", LORD_HOWE, 0, -3600)
@example("* * * * *", NEW_YORK, 1, 1800)
@example("* * * * *", LORD_HOWE, 1, -900)
@example("30 2 * * *", BERLIN, 0, 600)
@example("45 * * * *", NEW_YORK, 0, 600)
def test_around_a_change_of_clocks_ticks_are_those_of_a_walk_by_the_minute(
    expression: str, zone: ZoneInfo, change: int, start: int
) -> None:
    after = unix(CHANGES[zone][change]) + start
    until = after + 9 * 3600
    try:
        cron = Cron(expression, zone)
    except NeverDue:
        return
    assert list(between(cron, after, until)) == by_the_minute(expression, zone, after, until)


@given(EXPRESSIONS, ZONES, MOMENTS, st.integers(0, 90 * DAY_S))
def test_the_next_tick_is_later_and_nothing_between_has_another(
    expression: str, zone: tzinfo, moment: int, ahead: int
) -> None:
    cron = Cron(expression, zone)
    tick = cron.next_after(moment)
    assert tick is not None
    assert tick > moment
    later = cron.next_after(moment + ahead)
    assert later is not None
    assert later == tick if moment + ahead < tick else later > tick


SCHEDULES: list[Schedule] = [
    Cron("*/7 * * * *", NEW_YORK),
    Cron("0 0 29 2 *", UTC),
    Cron("* * * * * *", LORD_HOWE),
    Every(90.5, 1_790_000_000.25),
    At(1_790_001_000.0),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(after=st.floats(1.789e9, 1.791e9), length=st.floats(0, 1000), most=st.integers(0, 5))
def test_the_newest_ticks_are_the_last_of_all(schedule: Schedule, after: float, length: float, most: int) -> None:
    ticks = list(between(schedule, after, after + length))
    assert newest(schedule, after, after + length, most) == (ticks[-most:] if most else [])


def test_of_a_year_of_seconds_the_newest_are_found_at_once() -> None:
    until = 1_790_000_000.0
    assert newest(Cron("* * * * * *", BERLIN), until - 365 * DAY_S, until, 3) == [until - 2, until - 1, until]


@given(st.floats(0.001, 1e6), st.floats(0, 2e9), st.floats(0, 4e9))
@example(2.4, 0.0, 91.19999999999999)  # a quotient that is rounded up to the number of a tick to come
@example(0.1, 0.0, 0.3)
def test_every_tick_is_the_anchor_and_whole_periods(period_s: float, anchor: float, moment: float) -> None:
    tick = Every(period_s, anchor).next_after(moment)
    assert tick is not None
    assert tick > moment
    number = round((tick - anchor) / period_s)
    assert tick == anchor + number * period_s
    assert number == 0 or anchor + (number - 1) * period_s <= moment


def test_a_period_counts_from_its_anchor_on_whoever_asks() -> None:
    every = Every(3600, 1_790_000_000)
    assert list(islice(between(every, 0, math.inf), 2)) == [1_790_000_000, 1_790_003_600]
    assert every.next_after(1_790_000_000) == 1_790_003_600


def test_once_is_once() -> None:
    assert At(100.5).next_after(100) == 100.5
    assert At(100.5).next_after(100.5) is None
    assert newest(At(100.5), 100.5, 200) == []


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Every(0, 0), "every needs a period of at least 1 ms, got '0 s'"),
        (lambda: Every(math.nan, 0), "every needs a period of at least 1 ms, got 'nan s'"),
        (lambda: Every(math.inf, 0), "every needs a period"),
        (lambda: Every(60, math.inf), "every needs an anchor that is a moment, got 'inf'"),
        (lambda: At(math.nan), "at needs a moment, got 'nan'"),
    ],
)
def test_a_period_or_moment_that_is_none_is_refused(made: object, says: str) -> None:
    assert callable(made)
    with pytest.raises(ScheduleError, match=says):
        made()


def test_a_tick_in_a_repeated_half_hour_is_the_same_a_day_before() -> None:
    second_pass = unix("2026-04-04T15:15:00Z")
    cron = Cron("45 1 * * *", LORD_HOWE)
    for before in (DAY_S + 1500, DAY_S + 600, DAY_S - 600, 3600, 2100, 1500, 600):
        assert cron.next_after(second_pass - before) == second_pass, before


def test_of_the_centuries_only_every_fourth_has_a_leap_day() -> None:
    cron = Cron("0 0 29 2 *", UTC)
    assert cron.next_after(unix("1999-06-01T00:00:00Z")) == unix("2000-02-29T00:00:00Z")
    assert cron.next_after(unix("2099-06-01T00:00:00Z")) == unix("2104-02-29T00:00:00Z")
    assert cron.next_after(unix("2399-06-01T00:00:00Z")) == unix("2400-02-29T00:00:00Z")


def test_beyond_the_calendar_nothing_is_due() -> None:
    cron = Cron("0 0 29 2 *", BERLIN)
    assert cron.next_after(unix("9989-01-01T00:00:00Z")) is None
    assert cron.next_after(unix("9999-01-01T00:00:00Z")) is None
    assert cron.next_after(-math.inf) == cron.next_after(unix("0001-12-31T00:00:00Z"))
    assert cron.as_croner_reads(unix("9999-12-31T23:59:59Z")) == unix("9999-12-31T23:59:59Z")


@given(st.text(), st.floats(0.001, 1e6))
def test_a_stagger_is_within_its_window_and_always_the_same(name: str, window_s: float) -> None:
    assert 0 <= stagger_s(name, window_s) < window_s
    assert stagger_s(name, window_s) == stagger_s(name, window_s)


def test_staggers_are_spread_and_no_window_is_no_stagger() -> None:
    staggers = [stagger_s(f"job {number}", 300) for number in range(1000)]
    assert all(60 < sum(at <= each < at + 100 for each in staggers) / 4 < 110 for at in (0, 100, 200))
    assert stagger_s("job", 0) == 0
    assert stagger_s("hourly", 300) == 130.181


def test_a_schedule_is_a_value() -> None:
    assert Cron("0 0 * * *", BERLIN) == Cron("0 0 * * *", BERLIN) != Cron("0 0 * * *", NEW_YORK)
    assert pickle.loads(pickle.dumps(Cron("0 0 L * *", BERLIN))).next_after(0) == Cron("0 0 L * *", BERLIN).next_after(
        0
    )
