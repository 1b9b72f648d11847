"""Which days of a month a cron expression means."""

from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

EVERY_WEEK: Final = 0b11111
LAST_WEEK: Final = 0b100000
"""A bit beside those of the first to the fifth: a weekday's last occurrence in its month."""

_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Month(NamedTuple):
    """What decides on its days: how many there are, and the weekday of the first; Sunday is 0."""

    length: int
    first: int


_SHAPES: Final = {length: tuple(Month(length, first) for first in range(7)) for length in (28, 29, 30, 31)}


@dataclass(frozen=True, slots=True)
class Days:
    """The rule of the two fields for days.

    Attributes:
        is_any: the day of month is `*`.
        numbers: days by their number.
        nearest: days by the weekday nearest to their number, within the month.
        is_last: the last day, too.
        is_last_weekday: the last day from Monday to Friday.
        weekdays: for Sunday to Saturday the bits of the weeks, the first of the month in the lowest; None: `*`.
        is_and: both fields must hold, else one of them is enough.
    """

    is_any: bool
    numbers: frozenset[int]
    nearest: frozenset[int]
    is_last: bool
    is_last_weekday: bool
    weekdays: tuple[int, ...] | None
    is_and: bool


def month_of(year: int, month: int) -> Month:
    """Return the shape of a month, 1 to 12."""
    length = _LENGTHS[month - 1]
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        length = 29
    return _SHAPES[length][date(year, month, 1).isoweekday() % 7]


def is_ever_due(rule: Days, months: tuple[int, ...]) -> bool:
    """Say whether one of these months has such a day in some year: within 28 years each begins on every weekday."""
    for month in months:
        for length in (28, 29) if month == 2 else (_LENGTHS[month - 1],):
            if any(days_due(rule, shape) for shape in _SHAPES[length]):
                return True
    return False


def days_due(rule: Days, month: Month) -> list[int]:
    """Return the days of the month that are meant, sorted."""
    if rule.weekdays is None and rule.is_any:
        return list(range(1, month.length + 1))
    by_number = _by_number(rule, month)
    if rule.weekdays is None:
        return sorted(by_number)
    by_weekday = _by_weekday(rule.weekdays, month)
    return sorted(by_number & by_weekday if rule.is_and else by_number | by_weekday)


def _by_number(rule: Days, month: Month) -> set[int]:
    days = {day for day in rule.numbers if day <= month.length}
    days.update(_nearest_weekday(day, month) for day in rule.nearest if day <= month.length)
    if rule.is_last:
        days.add(month.length)
    if rule.is_last_weekday:
        days.add(_nearest_weekday(month.length, month))
    return days


def _nearest_weekday(day: int, month: Month) -> int:
    """Return the day from Monday to Friday that is nearest, and still in this month."""
    match (month.first + day - 1) % 7:
        case 0:  # Sunday
            return day + 1 if day < month.length else day - 2
        case 6:
            return day - 1 if day > 1 else day + 2
        case _:
            return day


def _by_weekday(weekdays: tuple[int, ...], month: Month) -> set[int]:
    days: set[int] = set()
    for weekday, weeks in enumerate(weekdays):
        occurrences = range(1 + (weekday - month.first) % 7, month.length + 1, 7)
        if weeks & EVERY_WEEK == EVERY_WEEK:
            days.update(occurrences)
        elif weeks:
            days.update(day for week, day in enumerate(occurrences) if weeks >> week & 1)
            if weeks & LAST_WEEK:
                days.add(occurrences[-1])
    return days
