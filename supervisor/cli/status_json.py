"""What `turnkeeper status --json` prints."""

from typing import Any

from policies.breaker import Closed
from supervisor.cli.looking import breaker_name, conditions, host_left, life_of, silent_s
from supervisor.clock import iso_utc
from supervisor.settings.values import Settings
from supervisor.store.sqlite.history import under_way
from supervisor.store.sqlite.overview import Overview, Session, UnderWay


def as_json(seen: Overview | None, settings: Settings, state: str) -> dict[str, Any]:
    """Return what `status --json` prints."""
    lease_s = settings.state.lease_s
    paused = None if seen is None else seen.all_paused_wall
    return {
        "state": state,
        "all_paused_at": None if paused is None else iso_utc(paused),
        "host": _host_json(seen, settings),
        "sessions": [] if seen is None else [_session_json(one, seen.now_at, lease_s) for one in seen.sessions],
    }


def _host_json(seen: Overview | None, settings: Settings) -> dict[str, Any]:
    left = None if settings.limits.retries is None else host_left(seen, settings)
    running = 0 if seen is None else sum(run.state == "running" for one in seen.sessions for run in one.runs)
    return {"running": running, "limit": settings.limits.running, "tokens": left}


def _session_json(session: Session, now_at: float, lease_s: float) -> dict[str, Any]:
    breaker = None
    if not isinstance(session.breaker, Closed):
        until = None if session.until_wall is None else iso_utc(session.until_wall)
        breaker = {"state": breaker_name(session), "until_at": until, "opened_in_a_row": session.breaker.trips + 1}
    return {
        "session": session.session,
        "is": conditions(session),
        "runs": [_run_json(run, silent_s(run, now_at, lease_s)) for run in session.runs],
        "breaker": breaker,
        "tokens": None if session.tokens is None else {"left": session.tokens[0], "capacity": session.tokens[1]},
        "quarantines": [
            {"run_id": one.run_id, "since_at": iso_utc(one.since_wall), "alive": list(one.alive)}
            for one in session.quarantines
        ],
        "paused_at": None if session.paused_wall is None else iso_utc(session.paused_wall),
    }


def _run_json(run: UnderWay, silence_s: float | None) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "policy": run.policy,
        "status": under_way(run.state),
        "attempt": run.number,
        "attempts_allowed": run.attempts,
        "since_at": iso_utc(run.since_wall),
        "stopping": run.stop,
        "pid": None if run.holder is None else run.holder.pid,
        "process": life_of(run),
        "silent_s": None if silence_s is None else round(silence_s, 3),
        "warden_pid": run.warden,
    }
