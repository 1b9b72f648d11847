"""The circuit breaker of a session.

           `failures` in a row, or `failure_rate` over `window`
    closed ─────────────────────────────────────────────────────▶ open
       ▲                                                           │ admit, once `until` has passed
       │ a trial succeeds                                          ▼
       └─────────────────────────────────────────────────────── half_open
                                  a trial fails and counts: open again, with a longer cooldown

What a report does (a report of another generation changes nothing, in any state):

    | state     | success            | counted failure            | uncounted            | busy                      |
    | closed    | the row ends       | row + 1; opens at the rule | -                    | -                         |
    | open      | -                  | -                          | -                    | -                         |
    | half_open | closed             | open, longer cooldown      | the place comes back | the same; next one waits  |

Every transition begins a generation; whoever was admitted in an older one reports too late to matter. An operator's
`reset` closes it from any state.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from policies.dice import Draw

JITTER: Final = 0.2
"""A cooldown is lengthened by up to this part of itself, so that sessions do not reopen together."""

_SLICES: Final = 30
"""Outcomes within window / 30 of each other are kept as one sum: the window's resolution, and its bound in memory."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """The rule. It opens on `failures` in a row, or on `failure_rate` (0 to 1) of at least `minimum` outcomes within
    `window_s`. The nth cooldown in a row is min(cooldown_s * 2**n, cooldown_cap_s), n from 0, plus jitter.
    """

    failures: int = 5
    window_s: float = 600.0
    failure_rate: float = 0.5
    minimum: int = 10
    cooldown_s: float = 60.0
    cooldown_cap_s: float = 1800.0
    trials: int = 1


class Closed(NamedTuple):
    """Attempts may start. `outcomes` is a flat run of (moment, outcomes, failures) for each slice of the window; it
    begins with a failure: successes before it are not kept, so that a healthy session has no state.
    """

    generation: int = 0
    in_a_row: int = 0
    outcomes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """Nothing may start before `until`. `trips`: how often it opened in a row before. `wait_s`: how far ahead `until`
    was when it was noted.
    """

    generation: int
    until: float
    trips: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """`taken` trials are under way; none more starts before `not_before`, noted `wait_s` ahead."""

    generation: int
    trips: int
    taken: int
    not_before: float = 0.0
    wait_s: float = 0.0


State = Closed | Open | HalfOpen

CLOSED: Final = Closed()


class Report(StrEnum):
    """What an attempt that was admitted tells the breaker."""

    SUCCESS = "success"
    COUNTED = "counted"
    UNCOUNTED = "uncounted"
    BUSY = "busy"


class Admitted(NamedTuple):
    """The place of an attempt; it comes back with the attempt's report, on every path."""

    generation: int
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Not now. `until`: the moment to ask again; None: once a trial that is under way has reported."""

    until: float | None


def _is_ahead(rule: Breaker, moment: float, wait_s: float, now: float) -> bool:
    """Say whether a moment must be waited for. One further ahead than it was when it was noted, and than the rule's
    longest cooldown (the clock may have been set back a little), is not: it was noted by a clock that was set back
    since, and would hold the breaker open for as long as that.
    """
    return now < moment <= now + max(wait_s, rule.cooldown_cap_s * (1.0 + JITTER))


def _trial_refused(rule: Breaker, state: HalfOpen, now: float) -> Refused | None:
    if state.taken >= rule.trials:
        return Refused(None)
    return Refused(state.not_before) if _is_ahead(rule, state.not_before, state.wait_s, now) else None


def look(rule: Breaker, state: State, now: float) -> Refused | None:
    """Say whether an attempt would be admitted now. Changes nothing, and a refused look extends nothing."""
    match state:
        case Closed():
            return None
        case Open():
            return Refused(state.until) if _is_ahead(rule, state.until, state.wait_s, now) else None
        case HalfOpen():
            return _trial_refused(rule, state, now)


def admit(rule: Breaker, state: State, now: float) -> tuple[State, Admitted | Refused]:
    """Decide on one attempt. The returned state already counts it."""
    match state:
        case Closed():
            return state, Admitted(state.generation)
        case Open():
            if _is_ahead(rule, state.until, state.wait_s, now):
                return state, Refused(state.until)
            generation = state.generation + 1
            return HalfOpen(generation, state.trips, taken=1), Admitted(generation, trial=True)
        case HalfOpen():
            if (refused := _trial_refused(rule, state, now)) is not None:
                return state, refused
            return replace(state, taken=state.taken + 1), Admitted(state.generation, trial=True)


def cooldown_s(rule: Breaker, trips: int, draw: Draw) -> float:
    """Return how long a breaker that opened `trips` times in a row before stays open; jitter only lengthens it."""
    # 2.0**1024 overflows; 63 is past any cap.
    return min(rule.cooldown_s * 2.0 ** min(trips, 63), rule.cooldown_cap_s) * (1.0 + JITTER * draw())


def record(rule: Breaker, state: State, admitted: Admitted, report: Report, now: float, draw: Draw) -> State:
    """Return the state after an attempt's report."""
    if admitted.generation != state.generation:
        return state
    match state:
        case Closed():
            return _record_closed(rule, state, report, now, draw)
        case Open():
            return state
        case HalfOpen():
            return _record_half_open(rule, state, report, now, draw)


def reset(state: State) -> Closed:
    """Return the closed breaker that an operator asks for. Whoever was admitted before reports too late to matter."""
    return CLOSED if state == CLOSED else Closed(state.generation + 1)


def _record_closed(rule: Breaker, state: Closed, report: Report, now: float, draw: Draw) -> Closed | Open:
    match report:
        case Report.UNCOUNTED | Report.BUSY:
            return state
        case Report.SUCCESS:
            if not state.outcomes and not state.in_a_row:
                return state
            return Closed(state.generation, 0, _window(rule, state.outcomes, now, failed=False))
        case Report.COUNTED:
            in_a_row = state.in_a_row + 1
            outcomes = _window(rule, state.outcomes, now, failed=True)
            if in_a_row >= rule.failures or _rate_passed(rule, outcomes):
                return _opened(rule, state, 0, now, draw)
            return Closed(state.generation, in_a_row, outcomes)


def _record_half_open(rule: Breaker, state: HalfOpen, report: Report, now: float, draw: Draw) -> State:
    match report:
        case Report.SUCCESS:
            return Closed(state.generation + 1)
        case Report.COUNTED:
            return _opened(rule, state, state.trips + 1, now, draw)
        case Report.UNCOUNTED:
            return replace(state, taken=max(0, state.taken - 1))
        case Report.BUSY:
            wait_s = cooldown_s(rule, state.trips, draw)
            return replace(state, taken=max(0, state.taken - 1), not_before=now + wait_s, wait_s=wait_s)


def _opened(rule: Breaker, state: State, trips: int, now: float, draw: Draw) -> Open:
    wait_s = cooldown_s(rule, trips, draw)
    return Open(state.generation + 1, now + wait_s, trips, wait_s)


def _window(rule: Breaker, outcomes: tuple[float, ...], now: float, *, failed: bool) -> tuple[float, ...]:
    """Return the slices still within the window, with one outcome more; empty where no failure is left."""
    outcomes = _none_ahead(outcomes, now)
    kept = 0
    # A slice leaves when its first outcome does.
    while kept < len(outcomes) and outcomes[kept] <= now - rule.window_s:
        kept += 3
    # The window begins with a failure.
    while kept < len(outcomes) and outcomes[kept + 2] == 0:
        kept += 3
    outcomes = outcomes[kept:]
    if outcomes and now - outcomes[-3] < rule.window_s / _SLICES:
        return (*outcomes[:-2], outcomes[-2] + 1, outcomes[-1] + failed)
    return (*outcomes, now, 1, int(failed)) if outcomes or failed else ()


def _none_ahead(outcomes: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Return the slices, those from ahead of now (of a clock that was set back) as one of now."""
    if not outcomes or outcomes[-3] <= now:
        return outcomes
    first = next(n for n in range(0, len(outcomes), 3) if outcomes[n] > now)
    return (*outcomes[:first], now, sum(outcomes[first + 1 :: 3]), sum(outcomes[first + 2 :: 3]))


def _rate_passed(rule: Breaker, outcomes: tuple[float, ...]) -> bool:
    total = sum(outcomes[1::3])
    # 0.55 * 100 is a little more than 55: a rate that is reached exactly counts as reached.
    return total >= rule.minimum and sum(outcomes[2::3]) >= rule.failure_rate * total - 1e-9
