"""What a cron expression may say, and what a refusal says of it."""

import pickle
from datetime import UTC, datetime
from itertools import islice

import pytest

from policies.schedule import Cron, NeverDue, ScheduleError, between


def days(expression: str, count: int = 4) -> list[str]:
    """Return the next days at midnight from April 2026 on, as month and day."""
    after = datetime(2026, 3, 31, 12, tzinfo=UTC).timestamp()
    ticks = islice(between(Cron(f"0 0 {expression}", UTC), after, after + 400 * 86400), count)
    return [f"{datetime.fromtimestamp(tick, UTC):%m-%d}" for tick in ticks]


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("L * *", "04-30 05-31 06-30 07-31"),
        ("LW * *", "04-30 05-29 06-30 07-31"),
        ("L,15 * *", "04-15 04-30 05-15 05-31"),
        ("1W * *", "04-01 05-01 06-01 07-01"),
        ("1W 8,11 *", "08-03 11-02"),  # a Saturday, a Sunday
        ("31W * *", "05-29 07-31 08-31 10-30"),  # a Sunday and a Saturday at the end
        ("15W 8 *", "08-14"),
        ("* * MON#2", "04-13 05-11 06-08 07-13"),
        ("* * 5#5", "05-29 07-31 10-30 01-29"),
        ("* * FRI#L", "04-24 05-29 06-26 07-31"),
        ("* * 5L", "04-24 05-29 06-26 07-31"),
        ("* * 1-2#1", "04-06 04-07 05-04 05-05"),
        ("* * 1,1#2", "04-06 04-13 04-20 04-27"),
        ("13 * 5", "04-03 04-10 04-13 04-17"),
        ("13 * +5", "11-13"),
        ("* * +5", "04-03 04-10 04-17 04-24"),
        ("*/10 * *", "04-01 04-11 04-21 05-01"),
        ("* * 7", "04-05 04-12 04-19 04-26"),
        ("* * sat-sun", "04-04 04-05 04-11 04-12"),
        ("* * sun-tue/2", "04-05 04-07 04-12 04-14"),
        ("* * */4", "04-02 04-05 04-09 04-12"),
        ("1 FEB,Apr-jun *", "04-01 05-01 06-01 02-01"),
    ],
)
def test_days_are_meant_by_number_place_and_name(expression: str, due: str) -> None:
    assert days(expression) == due.split()


@pytest.mark.parametrize(
    ("nickname", "expression"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        (" @Daily ", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_a_nickname_is_its_expression(nickname: str, expression: str) -> None:
    assert Cron(nickname, UTC).fields == Cron(expression, UTC).fields


def test_with_six_fields_seconds_come_first() -> None:
    assert list(between(Cron("*/20 1 0 * * *", UTC), 0, 86400)) == [60, 80, 100]
    assert list(between(Cron("5,50 0,59 23 * * *", UTC), 0, 86400)) == [82805, 82850, 86345, 86390]


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("60 * * * * *", "second needs values from 0 to 59"),
        ("60 * * * *", "minute needs values from 0 to 59"),
        ("1-70 * * * *", "minute needs .* got '1-70'"),
        ("* 24 * * *", "hour needs values from 0 to 23"),
        ("* 22-2 * * *", "hour needs ranges that go up"),
        ("* * 0 * *", "day of month needs values from 1 to 31"),
        ("* * 32W * *", "day of month needs"),
        ("* * 5L * *", "day of month needs .* L, LW, 15W"),
        ("* * 1,,2 * *", "day of month needs .* got '1,,2'"),
        ("* * * 13 *", "month needs values from 1 to 12 or JAN to DEC"),
        ("* * * janfeb *", "month needs"),
        ("* * * mon *", "month needs"),
        ("* * * * 8", "day of week needs values from 0 to 7 or SUN to SAT"),
        ("* * * * L", "day of week needs"),
        ("* * * * 5#6", "day of week needs"),
        ("* * * * 5#", "day of week needs"),
        ("* * * * *#2", "day of week needs"),
        ("* * * * +", "day of week needs"),
        ("* * * * fri-mon", "day of week needs ranges that go up"),
        ("*/0 * * * *", "minute needs steps from 1 to 60"),
        ("* */25 * * *", "hour needs steps from 1 to 24"),
        ("5/10 * * * *", r"minute needs \* or a range before a step, as in 5-59/10"),
        ("/10 * * * *", "minute needs"),
        ("٣ * * * *", "minute needs"),  # a digit, elsewhere
        ("* * * *", "cron expression needs 5 fields"),
        ("0 0 0 1 1 * 2030", "cron expression needs 5 fields"),
        ("", "cron expression needs 5 fields"),
        ("@reboot", "cron nickname needs one of @yearly"),
        ("* " * 600, "cron expression needs at most 1000 characters, got .{65}$"),
    ],
)
def test_a_refusal_names_the_field_and_what_it_may_be(expression: str, named: str) -> None:
    with pytest.raises(ScheduleError, match=f"^{named}"):
        Cron(expression, UTC)


@pytest.mark.parametrize(
    "expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31W 2 *", "0 0 1 * +0#2", "0 0 L * +1#1"]
)
def test_what_never_comes_is_found_out_at_once(expression: str) -> None:
    with pytest.raises(NeverDue, match=r"day of month needs .* never due"):
        Cron(expression, UTC)


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 0 29 2 +1", "0 0 L 2 +1#4", "0 0 30 2,3 *", "0 0 30 2 5"])
def test_what_comes_seldom_is_due(expression: str) -> None:
    assert Cron(expression, UTC).next_after(1_790_000_000) is not None


def test_a_refusal_can_be_pickled() -> None:
    error = ScheduleError("minute", "values from 0 to 59", "60")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field, again.value) == (str(error), "minute", "60")
