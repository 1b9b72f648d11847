"""Outcomes of an attempt, the kinds of failure, and what each kind does by default (one table)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple


class Kind(StrEnum):
    """Why an attempt did not succeed."""

    TIMEOUT = "timeout"
    IDLE = "idle"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    NETWORK = "network"
    CRASH = "crash"
    ERROR = "error"
    MEMORY = "memory"
    AUTH = "auth"
    INVALID = "invalid"
    BUSY = "busy"
    LOST = "lost"
    CANCELLED = "cancelled"
    UNCONFIRMED = "unconfirmed"


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCONFIRMED = "unconfirmed"


class Refusal(StrEnum):
    """Why a run was not allowed to start an attempt. Not a failure: it spends nothing and counts for nothing."""

    BREAKER_OPEN = "breaker_open"
    QUEUE_FULL = "queue_full"
    WAIT_OVER = "wait_over"
    BUSY = "busy"
    OVERLAP = "overlap"
    QUARANTINED = "quarantined"
    ANCESTOR = "ancestor"
    HOST_FULL = "host_full"
    LOW_MEMORY = "low_memory"
    DEADLINE = "deadline"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a failure of one kind does.

    Attributes:
        retried: whether another attempt may follow it.
        counts: whether it counts as a failure for the session's breaker.
        tokens: what a retry after it costs, in tokens of the session's and the host's bucket; zero or more.
    """

    retried: bool
    counts: bool
    tokens: float = 1.0


DEFAULT_EFFECTS: Final[Mapping[Kind, Effect]] = MappingProxyType(
    {
        # A timed-out turn has used the model for its whole length already: its retry costs double.
        Kind.TIMEOUT: Effect(retried=True, counts=True, tokens=2.0),
        Kind.IDLE: Effect(retried=True, counts=True, tokens=2.0),
        # A rate limit says nothing about the session's health: it must not open its breaker.
        Kind.RATE_LIMITED: Effect(retried=True, counts=False),
        Kind.OVERLOADED: Effect(retried=True, counts=True),
        Kind.SERVER_ERROR: Effect(retried=True, counts=True),
        Kind.NETWORK: Effect(retried=True, counts=True),
        Kind.CRASH: Effect(retried=True, counts=True),
        Kind.ERROR: Effect(retried=True, counts=True),
        Kind.MEMORY: Effect(retried=False, counts=True),
        Kind.AUTH: Effect(retried=False, counts=True),
        Kind.INVALID: Effect(retried=False, counts=False),
        Kind.BUSY: Effect(retried=False, counts=False, tokens=0.0),
        Kind.LOST: Effect(retried=True, counts=True),  # and only where the policy's on_lost says retry
        Kind.CANCELLED: Effect(retried=False, counts=False, tokens=0.0),
        Kind.UNCONFIRMED: Effect(retried=False, counts=True, tokens=0.0),
    }
)

FIXED_KINDS: Final = frozenset({Kind.BUSY, Kind.CANCELLED, Kind.UNCONFIRMED})
"""Kinds whose effect no setting changes: they are not about the work, or nothing may follow them."""

ONLY_FOUND: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.LOST: "that is found by recovery",
        Kind.UNCONFIRMED: "that is what the supervisor could not prove",
        Kind.CANCELLED: "that is what a caller or an operator does",
    }
)
"""Kinds that neither work nor a rule can say of a failure, each with the reason: only the engine can know them."""

LEAST_RETRYABLE: Final[tuple[Kind, ...]] = (
    Kind.UNCONFIRMED,
    Kind.CANCELLED,
    Kind.INVALID,
    Kind.AUTH,
    Kind.MEMORY,
    Kind.LOST,
    Kind.BUSY,
    Kind.ERROR,
    Kind.CRASH,
    Kind.TIMEOUT,
    Kind.IDLE,
    Kind.SERVER_ERROR,
    Kind.NETWORK,
    Kind.OVERLOADED,
    Kind.RATE_LIMITED,
)
"""Every kind, the one that makes a retry least sensible first: of several failures at once, the first here speaks."""


def least_retryable(kinds: frozenset[Kind]) -> Kind:
    """Return the kind that speaks for several failures at once; ValueError if there is none."""
    return min(kinds, key=LEAST_RETRYABLE.index)


class Failed(NamedTuple):
    """What is known of a failed attempt: text and numbers only, never the exception.

    Attributes:
        kind: its class; decides what follows.
        message: one line for a person.
        retry_after_s: seconds from the end of the attempt before which the other side asked not to be called again.
        exit_code: of a command that exited.
        signal: the number of the signal that a command died by.
        traceback: where it was raised, as text, at most 8 KiB.
        output_tail: the last 4 KiB of a command's output.
        repeatable: what the attempt was given can be given again; False: its stdin was too long to be kept.
    """

    kind: Kind
    message: str
    retry_after_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    traceback: str = ""
    output_tail: str = ""
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """The proof that nothing of an attempt is left: no task, no process, no lock, nothing on its scope."""

    receipt: ClassVar = "gone"

    steps: tuple[str, ...] = ()
    seconds: float = 0.0
    processes_killed: int = 0
    lock_reclaimed: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The attempt ended without that proof. `alive` names, for a person, each thing that may still live."""

    receipt: ClassVar = "unknown"

    alive: tuple[str, ...]
    steps: tuple[str, ...] = ()
    seconds: float = 0.0
    processes_killed: int = 0
    lock_reclaimed: bool = False


Receipt = Gone | Unknown


def not_proved_dead(failed: Failed | None) -> Failed:
    """Return the failure of an attempt that may still live; its message keeps the first cause."""
    if failed is None:
        return Failed(Kind.UNCONFIRMED, "it had succeeded, then not proved dead")
    return failed._replace(kind=Kind.UNCONFIRMED, message=f"{failed.message}, then not proved dead", retry_after_s=None)


def outcome_of(failed: Failed) -> Outcome:
    """Return the outcome of an attempt that failed so."""
    if failed.kind is Kind.UNCONFIRMED:
        return Outcome.UNCONFIRMED
    return Outcome.CANCELLED if failed.kind is Kind.CANCELLED else Outcome.FAILED
