"""One line for each event: for people, or as JSON.

A line never has what a model or a command wrote (its output, a traceback, a value), hides what looks like a
credential in what a failure or a release step says, and stays one line whatever a session is called.
"""

import json
import re
from dataclasses import fields
from typing import Any, Final

from policies.failure import Gone, Receipt
from policies.verdict import Finish, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.clock import iso_utc
from supervisor.credentials import hidden, hide_credentials
from supervisor.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    AttemptStopping,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    JobOverdue,
    LockReclaimed,
    LockTaken,
    LockWaiting,
    QuarantineLifted,
    RunEnded,
    RunQueued,
    SessionQuarantined,
)
from supervisor.report import AttemptReport, Status, receipt_json

AnyEvent = (
    RunQueued
    | AttemptStarted
    | AttemptStopping
    | AttemptEnded
    | RunEnded
    | BreakerOpened
    | BreakerHalfOpened
    | BreakerClosed
    | LockTaken
    | LockWaiting
    | LockReclaimed
    | SessionQuarantined
    | AttemptLost
    | QuarantineLifted
    | JobOverdue
)
"""Every event that there is: a new one without a line is an error of the type checker."""

_MOST_MESSAGE: Final = 300
_LOST: Final = (
    "it stood still, for longer than its lease or where an operator told it to stop, and its session was taken from it"
)
"""Only a process that has come to again ends a run so: the others ended it as a lost attempt."""
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


def line(event: AnyEvent, job: str | None = None) -> str:
    """Return the event as one line for a person: when, run, session, and what happened.

    `job`: whose run it is; it is named where the session is not the job's own.
    """
    run = f"{event.run_id} " if event.run_id else ""
    of_job = "" if job is None or event.session == f"job:{job}" else f" (job {job})"
    return one_line(f"{iso_utc(event.unix)} {run}{event.session}{of_job}: {what_happened(event)}")


def json_line(event: AnyEvent) -> str:
    """Return the event as one JSON object in ASCII, of `fields_of` it."""
    return json.dumps(fields_of(event))  # ASCII: no control character is left in it, DEL included


def fields_of(event: AnyEvent) -> dict[str, Any]:
    """Return the event as plain values: `event`, `at` (ISO UTC), `run_id`, `session`, and its own fields.

    An attempt has the shape that it has in a report, without its output.
    """
    shape: dict[str, Any] = {"event": _CAPITAL.sub("_", type(event).__name__).lower(), "at": iso_utc(event.unix)}
    shape |= {"run_id": event.run_id, "session": event.session}
    for one in fields(event):
        if one.name not in ("run_id", "session", "unix"):
            shape[one.name] = _plain(getattr(event, one.name))
    return shape


def is_bad(event: AnyEvent) -> bool:
    """Tell whether an event says that something went wrong."""
    match event:
        case AttemptEnded():
            return event.attempt.failure is not None
        case RunEnded():
            return event.status is not Status.SUCCEEDED
        case BreakerOpened() | SessionQuarantined() | AttemptLost() | JobOverdue():
            return True
        case _:
            return False


def is_refusal(event: AnyEvent) -> bool:
    """Tell whether an event says that a run was not allowed to start."""
    return isinstance(event, RunEnded) and event.status is Status.REFUSED


def what_happened(event: AnyEvent) -> str:  # noqa: C901, PLR0911, PLR0912 - a table, one row an event
    """Return what an event says, without when and of whom; `one_line` makes it one."""
    match event:
        case RunQueued():
            return "waits for its session" if event.line == "gate" else f"waits for the {event.line}"
        case AttemptStarted():
            limit = "no time limit" if event.timeout_s is None else f"{seconds(event.timeout_s)} at most"
            return f"attempt {event.number} started, {limit}"
        case AttemptStopping():
            return f"attempt {event.number} is told to end ({event.cause}), forced after {seconds(event.grace_s)}"
        case AttemptEnded():
            return _attempt(event.attempt)
        case RunEnded():
            why = f" ({event.reason})" if event.reason else ""
            detail = event.detail or (_LOST if event.reason == Reason.LOST else "")
            detail = f": {short(detail)}" if detail else ""
            return f"run {event.status}{why} after {seconds(event.duration_s)}, attempts: {event.attempts}{detail}"
        case BreakerOpened():
            again = f", {event.trips + 1} times in a row" if event.trips else ""
            return f"breaker open{again}: nothing starts for {seconds(event.cooldown_s)}"
        case BreakerHalfOpened():
            return "breaker half open: a trial may start"
        case BreakerClosed():
            return "breaker closed"
        case LockTaken():
            return f"lock {event.path} taken"
        case LockWaiting():
            return f"lock {event.path} is held by {event.holder}: waiting"
        case LockReclaimed():
            return f"lock {event.path} reclaimed, its holder is dead: {event.proof}"
        case SessionQuarantined():
            return f"session quarantined; {_receipt(event.receipt)}"
        case AttemptLost():
            return f"attempt {event.number} lost, its supervisor died: {short(hide_credentials(event.message))}"
        case QuarantineLifted():
            return "quarantine lifted: what may have lived has ended"
        case JobOverdue():
            known = "" if event.ever_succeeded else ", nor ever"
            since, paused = seconds(event.since_s), "; it is paused" if event.paused else ""
            return f"job {event.job} is overdue: no success for {event.periods} of its periods, {since}{known}{paused}"


def _attempt(attempt: AttemptReport) -> str:
    """Return how an attempt ended, what was released, and what happens next."""
    failed = attempt.failure
    how = f"attempt {attempt.number} {attempt.outcome}"
    if failed is None:
        how += f" after {seconds(attempt.duration_s)}"
    else:
        message = short(hide_credentials(failed.message))
        how += f": {failed.kind} after {seconds(attempt.duration_s)}: {message}"
        if failed.retry_after_s is not None:
            how += f"; it asked for {seconds(failed.retry_after_s)}"
    return "; ".join(part for part in (how, _receipt(attempt.released), _next(attempt.verdict)) if part)


def _receipt(receipt: Receipt) -> str:
    done = [hide_credentials(step) for step in receipt.steps]
    if receipt.processes_killed:
        number = receipt.processes_killed
        done.append("1 process ended" if number == 1 else f"{number} processes ended")
    if receipt.lock_reclaimed:
        done.append("lock reclaimed")
    steps = ", ".join(done)
    if isinstance(receipt, Gone):
        return f"gone in {seconds(receipt.seconds)}: {steps}"
    return f"MAY STILL LIVE: {hide_credentials(', '.join(receipt.alive))}" + (f"; {steps}" if steps else "")


def _next(verdict: Verdict) -> str:
    match verdict:
        case Finish():
            return ""
        case Retry():
            return f"next attempt in {seconds(verdict.delay_s)}"
        case GiveUp():
            return f"no further attempt: {verdict.reason}"
        case Quarantine():
            return "no further attempt: the session is quarantined"


def _plain(value: Any) -> Any:
    match value:
        case AttemptReport():
            shape = value.as_json()
            if shape["failure"] is not None:
                del shape["failure"]["output_tail"]
            return hidden(shape)
        case float():
            return round(value, 6)
        case str() | int() | None:
            return value
        case receipt:
            return hidden(receipt_json(receipt))


def seconds(length: float) -> str:
    """Return a length of time as a person reads it: three digits, in milliseconds, seconds, minutes or hours."""
    if length < 0.9995:
        return f"{length * 1000:.3g} ms" if length >= 0.0001 else "0 ms"
    if length < 100:
        return f"{length:.3g} s"
    return f"{length / 60:.3g} min" if length < 5970 else f"{length / 3600:.3g} h"


def short(message: str) -> str:
    """Return the first line of a message, and how much of it fits; the report has it all."""
    first, *more = message.strip().splitlines() or ("",)
    return first if not more and len(first) <= _MOST_MESSAGE else first[: _MOST_MESSAGE - 2] + " …"


def one_line(text: str) -> str:
    """Escape what a terminal would obey, or break the line at: control and formatting characters, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
