"""What a run and its attempts came to: text and numbers only, so that a report keeps nothing alive."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from shlex import quote
from typing import Any

from policies.failure import Failed, Gone, Outcome, Receipt
from policies.verdict import Finish, GiveUp, Quarantine, Retry, Verdict
from supervisor.clock import iso_utc, utc


class Status(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"


@dataclass(slots=True)  # not frozen: one is built on each call, and a frozen one costs four times as much
class AttemptReport:
    """One attempt. `started_unix` is seconds since 1970 in UTC."""

    number: int
    started_unix: float
    duration_s: float
    outcome: Outcome
    failure: Failed | None
    released: Receipt
    verdict: Verdict

    @property
    def started_wall(self) -> datetime:
        """When it started, in UTC."""
        return utc(self.started_unix)

    def as_json(self) -> dict[str, Any]:
        """Return the attempt in the shape of `--report`."""
        return {
            "number": self.number,
            "started_at": iso_utc(self.started_unix),
            "duration_s": round(self.duration_s, 6),
            "outcome": self.outcome.value,
            "failure": None if self.failure is None else failure_json(self.failure),
            "released": receipt_json(self.released),
            "verdict": verdict_json(self.verdict),
        }


@dataclass(slots=True)
class RunReport:
    """One run. `reason` is None for a success; `detail` says more about a refusal; `value` is what the work returned.

    `policy_hash` names the rules that the run was admitted under, whatever the settings say by now.
    """

    run_id: str
    session: str
    policy: str
    policy_hash: str
    status: Status
    reason: str | None
    started_unix: float
    duration_s: float
    attempts: tuple[AttemptReport, ...]
    value: Any = field(default=None, repr=False)
    detail: str = ""

    @property
    def started_wall(self) -> datetime:
        """When it was asked for, in UTC."""
        return utc(self.started_unix)

    @property
    def ended_wall(self) -> datetime:
        """When it ended, in UTC: its start plus its duration, so that a stepped clock cannot reverse them."""
        return utc(self.started_unix + self.duration_s)

    def as_json(self) -> dict[str, Any]:
        """Return the run in the shape of `--report`: everything but the value."""
        return {
            "run_id": self.run_id,
            "session": self.session,
            "policy": self.policy,
            "policy_hash": self.policy_hash,
            "status": self.status.value,
            "reason": self.reason,
            "started_at": iso_utc(self.started_unix),
            "ended_at": iso_utc(self.started_unix + self.duration_s),
            "duration_s": round(self.duration_s, 6),
            "attempts": [attempt.as_json() for attempt in self.attempts],
        }


def failure_json(failed: Failed) -> dict[str, Any]:
    """Return a failure in the shape of `--report`."""
    return {
        "kind": failed.kind.value,
        "message": failed.message,
        "exit_code": failed.exit_code,
        "signal": failed.signal,
        "retry_after_s": failed.retry_after_s,
        "output_tail": failed.output_tail,
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt in the shape of `--report`; an unknown one also names what may live."""
    shape: dict[str, Any] = {
        "receipt": receipt.receipt,
        "seconds": round(receipt.seconds, 6),
        "processes_killed": receipt.processes_killed,
        "lock_reclaimed": receipt.lock_reclaimed,
        "steps": list(receipt.steps),
    }
    if not isinstance(receipt, Gone):
        shape["alive"] = list(receipt.alive)
    return shape


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict in the shape of `--report`."""
    match verdict:
        case Finish():
            return {"action": "finish", "delay_s": None, "reason": None}
        case Retry():
            return {"action": "retry", "delay_s": round(verdict.delay_s, 6), "reason": None}
        case GiveUp():
            return {"action": "give_up", "delay_s": None, "reason": verdict.reason.value}
        case Quarantine():
            return {"action": "quarantine", "delay_s": None, "reason": ", ".join(verdict.alive)}


def describe_attempt(attempt: AttemptReport) -> str:
    """Return one attempt as a person says it: number, kind, message, what is left of it."""
    what = "succeeded" if attempt.failure is None else f"{attempt.failure.kind}: {attempt.failure.message}"
    match attempt.released:
        case Gone():
            return f"attempt {attempt.number}: {what}"
        case unknown:
            return f"attempt {attempt.number}: {what}; may still live: {', '.join(unknown.alive)}"


def way_out(session: str) -> str:
    """Return what ends a quarantine whose end nobody sees, where other processes see it."""
    return f"look for it, end it, and then `turnkeeper reset {quote(session)}`"
