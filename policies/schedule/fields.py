"""From the text of a cron expression to what its fields mean, in croner's grammar.

https://croner.56k.guru/usage/pattern/: five fields, or six with seconds first; `*` and `?`, values, names, ranges,
lists, steps after `*` or a range. In day of month L (the last), LW (the last weekday) and 15W (the weekday nearest to
the 15th); in day of week MON#2 (the second Monday), FRI#L or FRIL (the last Friday), and + before it all: that day of
week only where the day of month holds too. As in croner, nothing wraps around (`22-2`), and no step follows a mere
value (`5/10`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from policies.schedule.days import EVERY_WEEK, LAST_WEEK, Days
from policies.schedule.error import ScheduleError


class Fields(NamedTuple):
    """What an expression means: sorted values, and which days of a month."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)  # there are six of them, told apart by which they are
class _Field:
    """One field. `steps` is the greatest step; in day of week 7 is Sunday too, and the last value of no `*`."""

    name: str
    low: int
    high: int
    steps: int
    names: tuple[str, ...] = ()
    also: str = ""

    @property
    def needs(self) -> str:
        names = f" or {self.names[0].upper()} to {self.names[-1].upper()}" if self.names else ""
        return f"values from {self.low} to {self.high}{names}, as *, a, a-b, */n, a-b/n{self.also} or a list of them"


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_SECOND: Final = _Field("second", 0, 59, 60)
_MINUTE: Final = _Field("minute", 0, 59, 60)
_HOUR: Final = _Field("hour", 0, 23, 24)
_DAY: Final = _Field("day of month", 1, 31, 31, also=", L, LW, 15W")
_MONTH: Final = _Field("month", 1, 12, 12, _MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 7, 7, _WEEKDAYS, ", a#2, a#L")

_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_LONGEST: Final = 1000
_ITEM: Final = re.compile(r"(?:(\*)|([0-9]{1,4}|[a-z]{3})(?:-([0-9]{1,4}|[a-z]{3}))?)(?:/([0-9]{1,4}))?")
_NEAREST: Final = re.compile(r"([0-9]{1,4})w")
_WEEKS: Final = re.compile(r"([^*#]+|\*/[0-9]+)(?:#([1-5l])|l)")


def parse(expression: str) -> Fields:
    """Return what the expression means; ScheduleError names the field that is wrong, and what it may be."""
    second, minute, hour, day, month, weekday = _split(expression)
    return Fields(
        seconds=_values(_SECOND, second),
        minutes=_values(_MINUTE, minute),
        hours=_values(_HOUR, hour),
        days=_days(day, weekday),
        months=_values(_MONTH, month),
    )


def _split(expression: str) -> list[str]:
    """Return the six fields in lower case, `?` as the `*` that it means."""
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in _NICKNAMES:
            raise ScheduleError("cron nickname", f"one of {', '.join(_NICKNAMES)}", expression)
        text = _NICKNAMES[text]
    if len(text) > _LONGEST:
        raise ScheduleError("cron expression", f"at most {_LONGEST} characters", expression)
    fields = text.replace("?", "*").split()
    if len(fields) == 5:
        return ["0", *fields]
    if len(fields) != 6:
        needs = "5 fields (minute, hour, day of month, month, day of week), or 6 with the second first"
        raise ScheduleError("cron expression", needs, expression)
    return fields


@lru_cache(maxsize=1024)  # the same few texts stand in most expressions
def _values(field: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({value for item in text.split(",") for value in _item(field, item, text)}))


def _item(field: _Field, item: str, text: str) -> range:
    """Return the values of one part of a list; `text` is the whole field, for the error."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise ScheduleError(field.name, field.needs, text)
    star, first, last, step_text = match.groups()
    step = 1 if step_text is None else int(step_text)
    if not 1 <= step <= field.steps:
        raise ScheduleError(field.name, f"steps from 1 to {field.steps}", text)
    if star:
        return range(field.low, field.low + field.steps, step)
    low = _number(field, first, text)
    if last is None:
        if step_text is not None:
            raise ScheduleError(field.name, f"* or a range before a step, as in {first}-{field.high}/{step}", text)
        return range(low, low + 1)
    high = 7 if last == "sun" and field is _WEEKDAY else _number(field, last, text)
    if low > high:
        raise ScheduleError(field.name, "ranges that go up: nothing wraps around", text)
    return range(low, high + 1, step)


def _number(field: _Field, word: str, text: str) -> int:
    if word in field.names:
        return field.names.index(word) + field.low
    if not (word.isdecimal() and field.low <= int(word) <= field.high):
        raise ScheduleError(field.name, field.needs, text)
    return int(word)


@lru_cache(maxsize=1024)
def _days(day: str, weekday: str) -> Days:
    numbers: set[int] = set()
    nearest: set[int] = set()
    is_last = False
    items = [] if day == "lw" else day.split(",")
    for item in items:
        if item == "l":
            is_last = True
        elif match := _NEAREST.fullmatch(item):
            nearest.add(_number(_DAY, match[1], day))
        else:
            numbers.update(_item(_DAY, item, day))
    is_and = weekday.startswith("+")
    weekday = weekday.removeprefix("+")
    return Days(
        is_any=day == "*",
        numbers=frozenset(numbers),
        nearest=frozenset(nearest),
        is_last=is_last,
        is_last_weekday=day == "lw",
        weekdays=None if weekday == "*" else _weekdays(weekday),
        is_and=is_and or day == "*",
    )


def _weekdays(text: str) -> tuple[int, ...]:
    """Return for Sunday to Saturday in which weeks of a month it is meant: bits, as in `Days`."""
    weeks = [0] * 7
    for item in text.split(","):
        bits = EVERY_WEEK
        values = item
        if match := _WEEKS.fullmatch(item):
            values, week = match.groups()
            bits = LAST_WEEK if week in {None, "l"} else 1 << int(week) - 1
        for value in _item(_WEEKDAY, values, text):
            weeks[value % 7] |= bits
    return tuple(weeks)
