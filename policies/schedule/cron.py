"""A cron expression in a zone, with the meaning that croner 10 gives it.

Which moments are due: those at which the zone's clocks show a reading that the expression means. Where clocks are set
back, the readings that are shown twice count once. Where clocks are set forward, the first of the readings that are
left out counts as if the clocks had not yet been set, so `30 2 * * *` comes at 3:30; what else would be due up to there
is not.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import date, tzinfo
from typing import Final

from policies.schedule.days import days_due, is_ever_due, month_of
from policies.schedule.error import NeverDue
from policies.schedule.fields import Fields, parse
from policies.schedule.readings import change_between, moment_of, offset_s

_DAY_S: Final = 86400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST_YEAR, _LAST_YEAR = 2, 9990
_FIRST: Final = (date(_FIRST_YEAR, 1, 1).toordinal() - _EPOCH_DAY) * _DAY_S
_LAST: Final = (date(_LAST_YEAR, 1, 1).toordinal() - _EPOCH_DAY) * _DAY_S


@dataclass(frozen=True, slots=True)
class Cron:
    """Due by the expression, read in the zone. ScheduleError where it is wrong, NeverDue where it means no day."""

    expression: str
    zone: tzinfo
    fields: Fields = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = parse(self.expression)
        if not is_ever_due(fields.days, fields.months):
            raise NeverDue("day of month", "a day that one of its months has: this is never due", self.expression)
        object.__setattr__(self, "fields", fields)

    def next_after(self, moment: float) -> float | None:
        """Return the first tick later than the moment; None beyond the year 9989, where calendars end."""
        if moment >= _LAST:
            return None
        now = math.floor(max(moment, _FIRST))
        offset = offset_s(self.zone, now)
        if offset == offset_s(self.zone, now - _DAY_S) == offset_s(self.zone, now + _DAY_S):
            due = _next_reading(self.fields, now + offset)
            if due is not None and due < now + offset + _DAY_S // 2:  # no clock is set until long after
                return due - offset
        elif (left_out := self._left_out(now)) is not None:
            return left_out
        else:
            due = _next_reading(self.fields, self._counted_until(now))
        return None if due is None else moment_of(self.zone, due)

    def as_croner_reads(self, moment: float) -> float:
        """Return the moment that croner takes this one for: where a reading is shown twice, the one that counts.

        croner looks for what is due after a reading. Asked in an hour that clocks repeat, it answers for the first
        pass, with moments that are over.
        """
        if not _FIRST <= moment < _LAST:
            return moment
        now = math.floor(moment)
        return moment_of(self.zone, now + offset_s(self.zone, now)) + (moment - now)

    def _left_out(self, now: int) -> int | None:
        """Return the tick of the readings that were left out a moment ago, where it is still to come."""
        before, offset = offset_s(self.zone, now - _DAY_S), offset_s(self.zone, now)
        ahead = offset - before
        if ahead <= 0 or offset_s(self.zone, now - ahead) != before:
            return None
        first_left_out = change_between(self.zone, now - ahead, now) + before
        due = _next_reading(self.fields, first_left_out - 1)
        tick = None if due is None else moment_of(self.zone, due)
        return tick if tick is not None and tick > now else None

    def _counted_until(self, now: int) -> int:
        """Return the last reading that counts not later than now: that of now, unless it is shown twice."""
        reading = now + offset_s(self.zone, now)
        counted = moment_of(self.zone, reading)
        if counted < now:  # the second pass, and the first one counts: go on where clocks show something new
            return change_between(self.zone, counted, now) + offset_s(self.zone, counted) - 1
        if counted > now:  # the first pass, and the second one counts
            return change_between(self.zone, now, counted) + offset_s(self.zone, counted) - 1
        return reading


def _next_reading(fields: Fields, reading: int) -> int | None:
    """Return the first reading later than the given one that the fields mean."""
    day, second = divmod(reading + 1, _DAY_S)
    today = date.fromordinal(day + _EPOCH_DAY)
    days = days_due(fields.days, month_of(today.year, today.month)) if today.month in fields.months else []
    index = bisect_left(days, today.day)
    if index < len(days) and days[index] == today.day:
        if (found := _next_second(fields, second)) is not None:
            return day * _DAY_S + found
        index += 1
    first = (fields.hours[0] * 60 + fields.minutes[0]) * 60 + fields.seconds[0]
    if index < len(days):
        return (day + days[index] - today.day) * _DAY_S + first
    month = _next_month(fields, today.year, today.month)
    return None if month is None else (month.toordinal() - _EPOCH_DAY) * _DAY_S + first


def _next_month(fields: Fields, year: int, after: int) -> date | None:
    """Return the first day that is meant in a later month than this one."""
    while year < _LAST_YEAR:
        for month in fields.months:
            if month > after and (days := days_due(fields.days, month_of(year, month))):
                return date(year, month, days[0])
        year, after = year + 1, 0
    return None


def _next_second(fields: Fields, second: int) -> int | None:
    """Return the first second of a day, not earlier than the given one, that the fields mean."""
    minute_of_day, second = divmod(second, 60)
    hour, minute = divmod(minute_of_day, 60)
    at_hour = bisect_left(fields.hours, hour)
    if at_hour == len(fields.hours):
        return None
    if fields.hours[at_hour] == hour:
        at_minute = bisect_left(fields.minutes, minute)
        if at_minute < len(fields.minutes) and fields.minutes[at_minute] == minute:
            at_second = bisect_left(fields.seconds, second)
            if at_second < len(fields.seconds):
                return minute_of_day * 60 + fields.seconds[at_second]
            at_minute += 1
        if at_minute < len(fields.minutes):
            return (hour * 60 + fields.minutes[at_minute]) * 60 + fields.seconds[0]
        at_hour += 1
    if at_hour == len(fields.hours):
        return None
    return (fields.hours[at_hour] * 60 + fields.minutes[0]) * 60 + fields.seconds[0]
