"""When a job is due, from its table; and a schedule as keys of a table, and as text: the same for the same one."""

from datetime import UTC, datetime, tzinfo
from typing import Any

from policies.schedule import At, Cron, Every, Schedule, ScheduleError
from supervisor.clock import utc
from supervisor.settings.job_tables import JobTable
from supervisor.settings.problems import Path, Problem
from supervisor.settings.units import duration_text
from supervisor.settings.zones import UnknownZone, zone_named

SHORTEST_S = 1.0
"""A period."""


def schedule_of(table: JobTable, at: Path, wrong: list[Problem]) -> Schedule | None:
    """Return when the job of a table is due; what is wrong with that is added to `wrong`."""
    said = [key for key in ("cron", "every", "at") if getattr(table, key) is not None]
    if table.anchor is not None and table.every is None:
        wrong.append(Problem((*at, "anchor"), "is for every alone"))
    if len(said) != 1:
        got = "none of them" if not said else " and ".join(said)
        wrong.append(Problem(at, f"needs one of cron, every and at, got {got}"))
    try:
        zone = zone_named(table.tz)
    except UnknownZone as error:
        wrong.append(Problem((*at, "tz"), str(error)))
        zone = UTC  # what else is wrong is told too
    moments = {key: _moment(getattr(table, key), zone, (*at, key), wrong) for key in ("anchor", "at")}
    try:
        if table.cron is not None:
            return Cron(table.cron, zone)
    except ScheduleError as error:
        wrong.append(Problem((*at, "cron"), str(error)))
        return None
    if table.every is not None and table.every < SHORTEST_S:
        wrong.append(Problem((*at, "every"), f"needs 1s or more, got {duration_text(table.every)}"))
    elif table.every is not None:
        return Every(table.every, moments["anchor"] or 0.0)
    return None if moments["at"] is None else At(moments["at"])


def _moment(moment: datetime | None, zone: tzinfo, at: Path, wrong: list[Problem]) -> float | None:
    if moment is None:
        return None
    try:
        unix = (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).timestamp()
        utc(unix)
    except (ValueError, OverflowError):  # in the year 1 or 9999 a zone may lead out of the calendar
        wrong.append(Problem(at, f"needs a moment that has a date in UTC, got {moment.isoformat()}"))
        return None
    return unix


def keys_of(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the keys of a job's table."""
    match schedule:
        case Cron():
            return {"cron": schedule.expression, "tz": str(schedule.zone)}
        case Every():
            return {"every": duration_text(schedule.period_s), "anchor": _iso(schedule.anchor)}
        case At():
            return {"at": _iso(schedule.moment)}


def text_of(schedule: Schedule) -> str:
    """Return a schedule for a person: the same text for the same schedule, however it was written."""
    match schedule:
        case Cron():
            zone = str(schedule.zone)
            return f"cron {schedule.expression}" if zone == "UTC" else f"cron {schedule.expression} ({zone})"
        case Every():
            anchor = f" from {_iso(schedule.anchor)}" if schedule.anchor else ""
            return f"every {duration_text(schedule.period_s)}{anchor}"
        case At():
            return f"at {_iso(schedule.moment)}"


def _iso(unix: float) -> str:
    """Return a moment as text that loses nothing of it."""
    return utc(unix).isoformat().replace("+00:00", "Z")
