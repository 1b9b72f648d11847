"""What an alert's command reads on its stdin: one JSON object in ASCII, and a line's end."""

import json
from typing import Any

from policies.alerting import AlertKind, Summary
from supervisor.clock import iso_utc
from supervisor.events import AttemptLost, BreakerOpened, JobOverdue, RunEnded, SessionQuarantined
from supervisor.log import fields_of, one_line, what_happened
from supervisor.report import Status

Told = RunEnded | BreakerOpened | SessionQuarantined | AttemptLost | JobOverdue
"""The events that an alert can be of."""


def kind_of(event: Any) -> AlertKind | None:
    """Return which alert an event is; None for one that nobody is told about."""
    match event:
        case RunEnded():
            return AlertKind.GIVE_UP if event.status is Status.FAILED else None
        case BreakerOpened():
            return AlertKind.BREAKER_OPENED
        case SessionQuarantined():
            return AlertKind.QUARANTINE
        case AttemptLost():
            return AlertKind.LOST
        case JobOverdue():
            return AlertKind.OVERDUE
        case _:
            return None


def alert_json(kind: AlertKind, event: Told, job: str | None, repeats: int, last_failure: str | None) -> bytes:
    """Return `{"kind", "session", "job", "run_id", "at", "message", ...}`, and what else the event has.

    `job` is the one whose tick the run is of, or that the event names; null: no job's. `repeats` is how many of its
    kind the session had since it was told of one; `last_failure` is a run's last one.
    """
    said = what_happened(event) + ("" if last_failure is None else f"; the last failure: {last_failure}")
    shape = {
        "kind": kind.value,
        "session": event.session,
        "job": event.job if isinstance(event, JobOverdue) else job,
        "run_id": event.run_id,
        "at": iso_utc(event.unix),
        "message": one_line(said),
    }
    shape |= {key: value for key, value in fields_of(event).items() if key != "event" and key not in shape}
    return _bytes(shape | {"repeats": repeats})


def summary_json(summary: Summary, unix: float) -> bytes:
    """Return `{"kind": "summary", "at", "since", "message", "counts", "sessions"}`."""
    counts = {each.kind.value: each.count for each in summary.summed}
    sessions = dict.fromkeys(session for each in summary.summed for session in each.sessions)
    message = "more alerts than are told one by one: " + ", ".join(
        f"{number} {kind}" for kind, number in counts.items()
    )
    shape = {
        "kind": "summary",
        "at": iso_utc(unix),
        "since": iso_utc(unix - summary.length_s),
        "message": message,
        "counts": counts,
        "sessions": list(sessions),
    }
    return _bytes(shape)


def _bytes(shape: dict[str, Any]) -> bytes:
    return json.dumps(shape).encode() + b"\n"
