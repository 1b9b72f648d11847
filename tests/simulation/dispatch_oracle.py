"""Which ticks a job has, found the naive way: minute by minute, by what the clocks of its zone show.

Nothing of `policies.schedule` is used here. Cron expressions are those of `CronText`: a minute and an hour, each a
number, a step or any, and a weekday or any.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

MINUTE_S = 60


class CronText(NamedTuple):
    """An expression. None: any; a step is a negative number; weekdays as cron counts them, 0 is Sunday."""

    minute: int
    hour: int | None
    weekday: int | None
    zone: str

    def __str__(self) -> str:
        return f"{_field(self.minute)} {_field(self.hour)} * * {_field(self.weekday)}"


def _field(value: int | None) -> str:
    if value is None:
        return "*"
    return str(value) if value >= 0 else f"*/{-value}"


def _means(field: int | None, value: int) -> bool:
    return field is None or (value == field if field >= 0 else value % -field == 0)


def _matches(cron: CronText, shown: datetime) -> bool:
    weekday = (shown.weekday() + 1) % 7
    return _means(cron.minute, shown.minute) and _means(cron.hour, shown.hour) and _means(cron.weekday, weekday)


class _Zone(NamedTuple):
    """Of each minute of an hour the moments at which clocks show it, and what; and what they left out, and when."""

    shown: dict[int, list[tuple[int, datetime]]]
    gaps: list[tuple[int, list[datetime]]]


LATER: Final = frozenset({"Australia/Lord_Howe"})
"""Where of readings that are shown twice the second one counts: so croner means clocks that go back by half an hour."""


@cache
def _zone(name: str, after: int, until: int) -> _Zone:
    tz, first = ZoneInfo(name), after // MINUTE_S * MINUTE_S
    moments: dict[datetime, int] = {}
    gaps: list[tuple[int, list[datetime]]] = []
    before = _shown(first - 4 * 3600, tz)
    for moment in range(first - 4 * 3600 + MINUTE_S, until + 3600, MINUTE_S):
        shown = _shown(moment, tz)
        left_out = [before + timedelta(minutes=n) for n in range(1, (shown - before) // timedelta(minutes=1))]
        if left_out:
            gaps.append((moment, left_out))
        if shown not in moments or name in LATER:
            moments[shown] = moment
        before = shown
    by_minute: dict[int, list[tuple[int, datetime]]] = {minute: [] for minute in range(60)}
    for shown, moment in moments.items():
        by_minute[shown.minute].append((moment, shown))
    return _Zone(by_minute, gaps)


def _shown(moment: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(moment, UTC).astimezone(zone).replace(tzinfo=None)


def ticks_of_cron(cron: CronText, after: int, until: int) -> list[float]:
    """Return its ticks in (after, until]. The first of the readings that are left out counts by the old time."""
    zone = _zone(cron.zone, after, until)
    minutes = [minute for minute in range(60) if _means(cron.minute, minute)]
    ticks = {moment for minute in minutes for moment, shown in zone.shown[minute] if _matches(cron, shown)}
    for moment, left_out in zone.gaps:
        matching = [each for each in left_out if _matches(cron, each)]
        if matching:
            counts = moment + int((matching[0] - left_out[0]).total_seconds())
            ticks = {tick for tick in ticks if not moment <= tick < counts} | {counts}
    return sorted(float(tick) for tick in ticks if after < tick <= until)


def ticks_of_every(period_s: int, anchor: int, after: int, until: int) -> Iterator[float]:
    """Yield each period from the anchor on, second by second of the anchor's rest."""
    tick = anchor
    while tick <= until:
        if tick > after:
            yield float(tick)
        tick += period_s
