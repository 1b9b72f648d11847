"""Which ticks of a job are due, and what becomes of those that were missed while nobody looked.

A *tick* is a moment at which a job's schedule says that it runs. Moments are seconds since 1970, by the schedule: a
job's stagger is taken off `now` before anything is asked here.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from policies.schedule import Schedule

ON_TIME_S: Final = 60.0
"""A tick that is found later than that was missed."""

MOST_CAUGHT_UP: Final = 100
"""So many missed ticks of a job are started under `all`, the newest."""

MOST_COUNTED: Final = 1_000
"""Missed ticks are told one by one up to here; older ones in one span, which nobody counts."""


class CatchUp(StrEnum):
    """What becomes of missed ticks: all expire; the newest is started; each is, one after the other."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Due:
    """What a look finds.

    Attributes:
        start: ticks to start now, the oldest first; those but the newest, and that too if it `is_late`, were missed.
        expired: ticks that nobody starts.
        older: the first and the last of still older ones, which expire uncounted.
    """

    start: tuple[float, ...] = ()
    expired: tuple[float, ...] = ()
    older: tuple[float, float] | None = None
    is_late: bool = False


NOTHING: Final = Due()


def due(schedule: "Schedule", decided: float, now: float, catch_up: CatchUp) -> Due:
    """Decide on every tick after `decided`, up to `now`."""
    first = schedule.next_after(decided)
    if first is None or first > now:
        return NOTHING
    from policies.schedule import newest  # every store reads this file, and mostly nothing is due

    second = schedule.next_after(first)
    ticks = [first] if second is None or second > now else newest(schedule, decided, now, MOST_COUNTED)
    older = None
    if first < ticks[0]:
        [last] = newest(schedule, decided, math.nextafter(ticks[0], -math.inf))
        older = (first, last)
    is_late = now - ticks[-1] > ON_TIME_S
    match catch_up:
        case CatchUp.NONE:
            number = 0 if is_late else 1
        case CatchUp.LAST:
            number = 1
        case CatchUp.ALL:
            number = MOST_CAUGHT_UP
    at = max(0, len(ticks) - number)
    return Due(tuple(ticks[at:]), tuple(ticks[:at]), older, is_late)


def starts_again(tick: float, last: float, now: float, catch_up: CatchUp) -> bool:
    """Say whether a tick is started again whose run began no attempt before its process died.

    `last` is the newest tick of its job that anybody has decided on.
    """
    match catch_up:
        case CatchUp.NONE:
            return now - tick <= ON_TIME_S
        case CatchUp.LAST:
            return tick >= last
        case CatchUp.ALL:
            return True


def overdue_at(schedule: "Schedule", since: float, periods: int, took_s: float = 0.0) -> float | None:
    """Return when a job is overdue that has not succeeded since a moment: None, where its schedule ends before that.

    That is when `periods` ticks have come, and each has had the time that the last success took from its own tick.
    """
    moment: float | None = since
    for _ in range(periods):
        assert moment is not None, "it was looked at"
        moment = schedule.next_after(moment)
        if moment is None:
            return None
    assert moment is not None, "there is at least one period"
    return moment + took_s


def tick_id(job: str, tick: float) -> str:
    """Return the id of a tick's run: the same whoever starts it, and however often."""
    moment = datetime.fromtimestamp(tick, UTC).isoformat(timespec="milliseconds")
    stamp = moment.replace("-", "").replace(":", "").replace(".000", "").partition("+")[0]
    return f"{tick_mark(job)}-{stamp}Z"


def tick_mark(job: str) -> str:
    """Return what the ids of a job's ticks begin with, up to their last hyphen."""
    return f"tick-{sha256(job.encode()).hexdigest()[:10]}"
