"""The allowance for retries: attempts and deadline of a run, token buckets of a session and of the host.

A bucket's state is what was *spent*, not what is left: it is free of any rule, so two policies may read the same
state each with its own capacity. What was spent heals at the asking rule's refill.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

MOST_ATTEMPTS: Final = 32
"""A session that failed 32 times in a row is not mended by a 33rd attempt: gateways that allowed 160 died of them."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The rule of a token bucket.

    Attributes:
        capacity: tokens in a full bucket.
        refill: tokens that come back a minute.
        deposit: the part of a token (0 to 1) that each first attempt puts in.
    """

    capacity: float = 10.0
    refill: float = 1.0
    deposit: float = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """The rule of a run: `attempts` (1 to 32) in all, before `deadline_s` after its admission, waits included.

    `deadline_s` None: no end. `session` is the bucket that every run of the session draws its retries from.
    """

    attempts: int = 4
    deadline_s: float | None = 1800.0
    session: Bucket = Bucket()


class Tokens(NamedTuple):
    """The state of a bucket: so many tokens were spent as of the moment `at`, in seconds of the store's clock."""

    spent: float = 0.0
    at: float = 0.0


FULL: Final = Tokens()


def spent(rule: Bucket, state: Tokens, now: float) -> float:
    """Return the tokens still missing at `now`. A clock that was set back heals nothing and breaks nothing."""
    if state.spent == 0.0:
        return 0.0
    return max(0.0, state.spent - max(0.0, now - state.at) * rule.refill / 60.0)


def left(rule: Bucket, state: Tokens, now: float) -> float:
    """Return the tokens that may be withdrawn at `now`; below zero where a larger rule spent more."""
    return rule.capacity - spent(rule, state, now)


def _changed(rule: Bucket, state: Tokens, by: float, now: float) -> Tokens:
    missing = max(0.0, spent(rule, state, now) + by)
    return Tokens(missing, now) if missing else FULL


def deposit(rule: Bucket, state: Tokens, now: float) -> Tokens:
    """Return the state after a first attempt."""
    return _changed(rule, state, -rule.deposit, now) if state.spent else state


def withdraw(rule: Bucket, state: Tokens, tokens: float, now: float) -> Tokens | None:
    """Return the state after taking so many tokens, None where they are not there."""
    if tokens <= 0.0:
        return state
    missing = spent(rule, state, now) + tokens
    # Sums of tenths are not exact: a bucket that is full but for the rounding gives its last token.
    return Tokens(missing, now) if missing <= rule.capacity + 1e-9 else None


def give_back(rule: Bucket, state: Tokens, tokens: float, now: float) -> Tokens:
    """Return the state after a withdrawal whose retry was not launched.

    As in any token bucket, a token that comes back after the bucket has refilled is there to be taken at once.
    """
    return _changed(rule, state, -tokens, now)
