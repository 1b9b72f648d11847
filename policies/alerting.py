"""Which alerts go out now: one an hour of a session and kind, ten a minute in all, and of the rest one summary.

A provider's outage is a breaker in each of 74 sessions at once: whoever is told 74 times reads none of it. What is not
told at once is counted, in a summary or in the next alert of its session and kind.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

HOUR_S: Final = 3600.0
MINUTE_S: Final = 60.0
MOST_A_MINUTE: Final = 10
SOME_SESSIONS: Final = 20
"""So many sessions of each kind are named in a summary."""
FORGOTTEN_AFTER_S: Final = 7 * 86400.0
"""Repeats that nothing has followed for a week are not told any more: session keys may be new for each run."""


class AlertKind(StrEnum):
    """What an operator may be told of."""

    GIVE_UP = "give_up"
    BREAKER_OPENED = "breaker_opened"
    QUARANTINE = "quarantine"
    LOST = "lost"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Told:
    """A session and kind was told of at a moment, by itself or in a summary, and has come `repeats` times since."""

    at: float
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Minute:
    """What all sessions share: when alerts were sent in the last minute, and since when some are held for a summary."""

    sent: tuple[float, ...] = ()
    held_since: float | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Tell of it now. `repeats`: so many more of its session and kind have come since the last one was told."""

    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Tell of it in the summary, when the minute is over."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Its session and kind was told of within the hour: it is counted."""


HOLD: Final = Hold()
REPEAT: Final = Repeat()

Answer = Send | Hold | Repeat


@dataclass(frozen=True, slots=True)
class Summed:
    """How many of one kind a summary stands for, and some of their sessions."""

    kind: AlertKind
    count: int
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was held since `length_s` seconds ago."""

    summed: tuple[Summed, ...]
    length_s: float

    def of(self, kinds: Collection[AlertKind]) -> "Summary | None":
        """Return what it says of these kinds; None: nothing."""
        some = tuple(each for each in self.summed if each.kind in kinds)
        return Summary(some, self.length_s) if some else None


def claim(told: Told | None, minute: Minute, now: float) -> tuple[Told, Minute, Answer]:
    """Decide on one alert, `told` being what is known of its session and kind. A minute that is over was released.

    A moment ahead of `now` (a clock that was set back) keeps nobody silent.
    """
    if told is not None and _is_within(HOUR_S, told.at, now):
        return replace(told, repeats=told.repeats + 1), minute, REPEAT
    repeats = 0 if told is None or is_forgotten(told, now) else told.repeats
    sent = tuple(at for at in minute.sent if _is_within(MINUTE_S, at, now))
    if minute.held_since is None and len(sent) < MOST_A_MINUTE:
        return Told(now), Minute((*sent, now)), Send(repeats)
    # It is one of the summary's; what repeated before it is told with the next one that is sent by itself.
    return Told(now, repeats), Minute(sent, now if minute.held_since is None else minute.held_since), HOLD


def over_in_s(minute: Minute, now: float) -> float | None:
    """Return in how many seconds the summary is due: 0 now, None where nothing is held.

    Its minute begins with the first that it stands for, so that there is at most one summary a minute.
    """
    since = minute.held_since
    if since is None:
        return None
    return max(0.0, since + MINUTE_S - now) if since <= now else 0.0


def released(minute: Minute) -> Minute:
    """Return the state once the summary is taken."""
    return replace(minute, held_since=None)


def add(summed: tuple[Summed, ...], kind: AlertKind, session: str) -> tuple[Summed, ...]:
    """Return what a summary stands for, with one more."""
    if all(each.kind is not kind for each in summed):
        return (*summed, Summed(kind, 1, (session,)))
    return tuple(_one_more(each, session) if each.kind is kind else each for each in summed)


def _one_more(summed: Summed, session: str) -> Summed:
    names = summed.sessions if len(summed.sessions) == SOME_SESSIONS else (*summed.sessions, session)
    return Summed(summed.kind, summed.count + 1, names)


def is_forgotten(told: Told, now: float) -> bool:
    """Say whether nothing that was known of a session and kind matters any more."""
    return not _is_within(FORGOTTEN_AFTER_S if told.repeats else HOUR_S, told.at, now)


def _is_within(length_s: float, at: float, now: float) -> bool:
    return 0.0 <= now - at < length_s
