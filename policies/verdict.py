"""What happens after an attempt: the one place that combines the policies' answers.

A retry cannot be spelled without the proof that the attempt is gone: `Retry` has a field of type `Gone`, and an
`Unknown` receipt leads to `Quarantine` before anything else is asked.

What is made anew for each attempt is a NamedTuple: a frozen dataclass costs five times as much to make.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from policies.backoff import backoff_s
from policies.breaker import CLOSED, Admitted, Report, State, look, record
from policies.budget import FULL, Bucket, Tokens, withdraw
from policies.dice import Draw
from policies.failure import Effect, Failed, Gone, Kind, Receipt, Refusal, Unknown
from policies.policy import OnLost, Policy


class Reason(StrEnum):
    """Why a run got no further attempt. Refusals have their own list."""

    NOT_RETRIED = "not_retried"
    STDIN_CONSUMED = "stdin_consumed"
    ATTEMPTS = "attempts"
    PARENT_BUDGET = "parent_budget"
    SESSION_BUDGET = "session_budget"
    HOST_BUDGET = "host_budget"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    CLOSED = "closed"
    STOPPED = "stopped"
    PAUSED = "paused"
    LOST = "lost"
    STORE_UNAVAILABLE = "store_unavailable"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Finish:
    """The run succeeded."""


class Retry(NamedTuple):
    """Another attempt not before the moment `at`; its tokens are withdrawn already. Asks for the proof."""

    at: float
    delay_s: float
    tokens: float
    receipt: Gone


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run ends with its last failure. A refusal as its reason: what the next attempt would have been told."""

    reason: Reason | Refusal


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Something of the attempt may still live: nothing is started for its session until that has ended."""

    alive: tuple[str, ...]


Verdict = Finish | Retry | GiveUp | Quarantine

FINISH = Finish()


class Case(NamedTuple):
    """An attempt that ended, and all that the verdict depends on.

    Attributes:
        attempt: its number, from 1.
        failed: its failure; None where it succeeded.
        receipt: what is left of it.
        admitted: its place at the breaker.
        retries_left_above: the fewest retries that any run above it (its parent, and theirs) has left; None: no parent.
        deadline: the run's, as a moment; None: none.
        stopped: why nothing may follow whatever the failure was (cancelled, replaced); None: nobody asked.
        retries_below: retries that runs started within this run have taken from its budget.
    """

    policy: Policy
    attempt: int
    failed: Failed | None
    receipt: Receipt
    admitted: Admitted
    retries_left_above: int | None = None
    deadline: float | None = None
    stopped: Reason | None = None
    retries_below: int = 0


class Ledger(NamedTuple):
    """The state that a verdict reads and changes: breaker and tokens of the session, tokens of the host."""

    breaker: State = CLOSED
    session: Tokens = FULL
    host: Tokens = FULL


def report_of(case: Case) -> Report:
    """Return what the attempt tells the breaker."""
    if isinstance(case.receipt, Unknown):
        return Report.COUNTED
    if case.failed is None:
        return Report.SUCCESS
    if case.failed.kind is Kind.BUSY:
        return Report.BUSY
    wanted = case.stopped not in {None, Reason.LOST}  # that it is lost is nobody's wish
    counts = case.policy.effect(case.failed.kind).counts and not wanted
    return Report.COUNTED if counts else Report.UNCOUNTED


def decide(case: Case, ledger: Ledger, host: Bucket | None, now: float, draw: Draw) -> tuple[Ledger, Verdict]:
    """Return the verdict, and the state that it leaves behind. `host` is the rule of the host's bucket, if any."""
    state = record(case.policy.breaker, ledger.breaker, case.admitted, report_of(case), now, draw)
    if state is not ledger.breaker:
        ledger = Ledger(state, ledger.session, ledger.host)
    if isinstance(case.receipt, Unknown):
        return ledger, Quarantine(case.receipt.alive)
    if case.stopped is not None:
        return ledger, GiveUp(case.stopped)
    if case.failed is None:
        return ledger, FINISH
    return _after_failure(case, case.failed, case.receipt, ledger, host, now, draw)


def _after_failure(
    case: Case, failed: Failed, gone: Gone, ledger: Ledger, host: Bucket | None, now: float, draw: Draw
) -> tuple[Ledger, Verdict]:
    policy, effect = case.policy, case.policy.effect(failed.kind)
    if (reason := _no_retry(case, failed, effect)) is not None:
        return ledger, GiveUp(reason)
    at = _due(case, failed, ledger.breaker, now, draw)
    if case.deadline is not None and at >= case.deadline:
        return ledger, GiveUp(Refusal.DEADLINE)
    # The token comes last, when every other check has said yes: what is withdrawn is used or given back.
    session = withdraw(policy.budget.session, ledger.session, effect.tokens, now)
    if session is None:
        return ledger, GiveUp(Reason.SESSION_BUDGET)
    tokens = ledger.host if host is None else withdraw(host, ledger.host, effect.tokens, now)
    if tokens is None:
        return ledger, GiveUp(Reason.HOST_BUDGET)
    return Ledger(ledger.breaker, session, tokens), Retry(at, at - now, effect.tokens, gone)


def _no_retry(case: Case, failed: Failed, effect: Effect) -> Reason | Refusal | None:
    """Return why this failure has no retry, before time and tokens are asked."""
    if failed.kind is Kind.BUSY:
        return Refusal.BUSY
    if failed.kind is Kind.CANCELLED:
        return Reason.CANCELLED
    if not effect.retried or (failed.kind is Kind.LOST and case.policy.on_lost is OnLost.GIVE_UP):
        return Reason.NOT_RETRIED
    if not failed.repeatable:
        return Reason.STDIN_CONSUMED
    if case.attempt + case.retries_below >= case.policy.budget.attempts:
        return Reason.ATTEMPTS
    if case.retries_left_above is not None and case.retries_left_above <= 0:
        return Reason.PARENT_BUDGET
    return None


def _due(case: Case, failed: Failed, state: State, now: float, draw: Draw) -> float:
    """Return when the retry is due: a stated Retry-After is a floor, and a cooldown is waited out."""
    delay_s = backoff_s(case.policy.backoff, case.attempt, draw)
    if failed.retry_after_s is not None:
        delay_s = max(delay_s, failed.retry_after_s)
    # Looked at as of then: a full half-open breaker has no end to name, so that retry looks again when it is due.
    refused = look(case.policy.breaker, state, now + delay_s)
    if refused is None or refused.until is None:
        return now + delay_s
    return refused.until
