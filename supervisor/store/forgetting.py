"""What a store in memory forgets, so that session keys that are new for each run do not fill it."""

import math
from collections.abc import Container
from typing import Final

from policies.breaker import Closed, HalfOpen, Open, State
from policies.budget import Tokens

FORGET_AFTER_S: Final = 7 * 86400.0
"""A row of failures that nothing was added to for a week is forgotten: session keys may be new for each run."""


def forget_old(breakers: dict[str, State], tokens: dict[str, Tokens], in_use: Container[str], now: float) -> None:
    """Take out what nothing was added to for a week; the breakers of sessions that are in use stay."""
    long_ago = now - FORGET_AFTER_S
    for session, state in tuple(breakers.items()):
        if session in in_use:
            continue
        if isinstance(state, HalfOpen):  # nobody is on trial: as good as open until now, and that has a moment
            breakers[session] = Open(state.generation, max(state.not_before, now), state.trips, state.wait_s)
        elif _last_change(state) < long_ago:
            del breakers[session]
    for session, spent in tuple(tokens.items()):
        if spent.at < long_ago:
            del tokens[session]


def _last_change(state: Closed | Open) -> float:
    """Return a moment that nothing has happened since."""
    match state:
        case Closed():
            return state.outcomes[-3] if state.outcomes else -math.inf
        case Open():
            return state.until
