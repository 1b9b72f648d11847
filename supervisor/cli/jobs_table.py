"""Jobs and their ledger, as rows of JSON and as tables."""

from typing import TYPE_CHECKING, Any, Final

from supervisor.cli.looking import is_served
from supervisor.cli.table import cut, print_table
from supervisor.clock import SystemClock, iso_utc

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.values import Job, Settings
    from supervisor.store.sqlite.jobs import JobState
    from supervisor.store.sqlite.ticks import Tick

DAY_S: Final = 86400.0


def listed(settings: "Settings", path: "Path") -> list[dict[str, Any]]:
    """Return a row for each job of the settings, with what the state remembers of it. Raises StoreUnavailable."""
    from supervisor.store.sqlite import jobs as job_rows
    from supervisor.store.sqlite import operate, ticks
    from supervisor.store.sqlite.reading import reading

    wall = SystemClock().wall()
    states: dict[str, JobState] = {}
    counts: dict[str, dict[str, int]] = {}
    last: dict[str, Tick] = {}
    paused: frozenset[str] = frozenset()
    with reading(path) as database:
        if database is not None:
            paused = frozenset(operate.paused(database))
            states, counts = job_rows.states(database), ticks.counts_since(database, wall - DAY_S)
            last = {job.name: tick for job in settings.jobs for tick in ticks.ledger_of(database, job.name, 1)}
    served = is_served(path)
    rows = []
    for job in settings.jobs:
        row = _row(job, states.get(job.name), counts.get(job.name, {}), last.get(job.name), wall)
        rows.append(row | {"session_paused": not paused.isdisjoint(("", job.session)), "served": served})
    return rows


def _row(
    job: "Job", state: "JobState | None", counts: dict[str, int], last: "Tick | None", wall: float
) -> dict[str, Any]:
    from supervisor.dispatch.overdue import overdue_moment
    from supervisor.dispatch.timetable import next_moment

    following = next_moment(job, wall)
    overdue_at = None if state is None else overdue_moment(job, state)
    return {
        "name": job.name,
        "schedule": job.schedule_text,
        "session": job.session,
        "policy": job.policy.name,
        "policy_hash": job.policy.hash,
        "next_at": None if following is None else iso_utc(following),
        "last": None if last is None else _tick(last),
        "succeeded_at": None if state is None or state.succeeded is None else iso_utc(state.succeeded),
        "paused": state is not None and state.paused is not None,
        "overdue": overdue_at is not None and overdue_at <= wall,
        "last_day": {outcome: counts.get(outcome, 0) for outcome in ("started", "skipped", "expired", "open")},
    }


def print_jobs(rows: list[dict[str, Any]]) -> None:
    """Print them as a table."""
    cells = []
    for row in rows:
        day, marks = (
            row["last_day"],
            [mark.replace("_", " ") for mark in ("paused", "session_paused", "overdue") if row[mark]],
        )
        counts = f"{day['started']}/{day['skipped']}/{day['expired']}"
        following = "never" if row["next_at"] is None else row["next_at"][:19].replace("T", " ")
        last = "" if row["last"] is None else _last(row["last"])
        cells.append((cut(row["name"]), row["schedule"], row["policy"], following, last, counts, ", ".join(marks)))
    print_table(("job", "schedule", "policy", "next", "last", "started/skipped/expired", "is"), cells)


def ledger_rows(ledger: "list[Tick]") -> list[dict[str, Any]]:
    """Return ticks as rows."""
    return [_tick(tick) for tick in ledger]


def print_ledger(rows: list[dict[str, Any]]) -> None:
    """Print ticks as a table."""
    cells = [(_due(row), row["outcome"], row["reason"] or "", row["status"] or "", row["run_id"] or "") for row in rows]
    print_table(("tick", "outcome", "reason", "its run", "run"), cells)


def _tick(tick: "Tick") -> dict[str, Any]:
    return {
        "job": tick.job,
        "tick_at": iso_utc(tick.tick),
        "first_at": None if tick.first is None else iso_utc(tick.first),
        "outcome": tick.outcome or "open",
        "reason": tick.reason,
        "run_id": tick.run_id,
        "status": tick.status,
        "run_reason": tick.run_reason,
    }


def _due(row: dict[str, Any]) -> str:
    return row["tick_at"] if row["first_at"] is None else f"{row['first_at']} to {row['tick_at']}"


def _last(last: dict[str, Any]) -> str:
    """Return how the last tick went, in a word or two."""
    if last["outcome"] != "started":
        return last["outcome"] if last["reason"] is None else f"{last['outcome']}: {last['reason']}"
    if last["status"] is None:
        return "running"
    return last["status"] if last["run_reason"] is None else f"{last['status']}: {last['run_reason']}"
