"""The ledger of ticks, as transactions: each due tick of a job is found once, and ends once.

A tick is *open* from when somebody found it until its run has begun an attempt (started) or was refused (skipped); both
are written with the run's own rows. One that is open in the hands of a dead process is started again, under its run id.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from policies.catch_up import ON_TIME_S, due, tick_id
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.jobs import Asked, is_paused, know, resume

CLOCK_SET_BACK_S: Final = 60.0
"""Where somebody has looked at a moment that is further ahead, the clock was set back: a smaller step is waited out."""


class Claimed(NamedTuple):
    """A tick to start. `late`: it was missed when it was due."""

    job: str
    tick: float
    run_id: str
    late: bool


def claim(database: Connection, jobs: Sequence[Asked], me: str, clock: Callable[[], float]) -> list[Claimed]:
    """Write down every tick that is due and that nobody has found yet; return those that are to be started here.

    The clock on the wall is read in here, where nobody else writes: a moment that was read before a process stood
    still would look like a clock that was set back.
    """
    wall = clock()
    return [claimed for job in jobs for claimed in _claim(database, job, me, wall)]


def _claim(database: Connection, job: Asked, me: str, wall: float) -> list[Claimed]:
    now = wall - job.offset_s
    know(database, job, wall, ON_TIME_S)  # forgotten while nobody named it: of the last minute the ledger knows
    decided, looked, paused = database.execute(
        "SELECT decided_wall, looked_wall, paused_wall FROM jobs WHERE name = ?", (job.name,)
    ).fetchone()
    if looked > wall + CLOCK_SET_BACK_S:
        decided = min(decided, now)
        _forget_what_never_came(database, job.name, now)
        _note_decided(database, job.name, decided, wall)
    found = due(job.schedule, decided, now, job.catch_up)
    if not found.start and not found.expired:
        return []
    if found.older is not None:
        first, last = found.older
        _add(database, job.name, last, wall, "expired", first=first)
    for tick in found.expired:
        _add(database, job.name, tick, wall, "expired")
    claimed = []
    for tick in found.start:
        run_id = tick_id(job.name, tick)
        if paused is not None:
            _add(database, job.name, tick, wall, "skipped", "paused")
        elif _add(database, job.name, tick, wall, None, run_id=run_id, owner=me):
            claimed.append(Claimed(job.name, tick, run_id, found.is_late or tick != found.start[-1]))
    newest = (found.start or found.expired)[-1]
    _note_decided(database, job.name, newest, wall)
    return claimed


def _note_decided(database: Connection, name: str, newest: float, wall: float) -> None:
    database.execute(
        "UPDATE jobs SET decided_wall = ?, looked_wall = ?, seen_wall = ? WHERE name = ?", (newest, wall, wall, name)
    )


def _add(  # noqa: PLR0913, PLR0917 - the columns
    database: Connection,
    job: str,
    tick: float,
    wall: float,
    outcome: str | None,
    reason: str | None = None,
    first: float | None = None,
    run_id: str | None = None,
    owner: str | None = None,
) -> bool:
    """Add a tick, unless it is known: after a clock was set back a moment may come twice."""
    cursor = database.execute(
        "INSERT INTO ticks(job, tick_wall, first_wall, outcome, reason, run_id, owner, found_wall)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (job, tick, first, outcome, reason, run_id, owner, wall),
    )
    return cursor.rowcount == 1


def _forget_what_never_came(database: Connection, job: str, now: float) -> None:
    """The clock was set back: ticks ahead of it that had expired, by a wrong clock, are not due yet."""
    database.execute(
        "DELETE FROM ticks WHERE job = ? AND outcome = 'expired' AND coalesce(first_wall, tick_wall) > ?", (job, now)
    )
    database.execute(
        "UPDATE ticks SET tick_wall = ? WHERE job = ? AND outcome = 'expired' AND tick_wall > ?", (now, job, now)
    )


# --- how a tick ends: written with its run's own rows


def note_started(database: Connection, run_id: str) -> None:
    """Its run has begun an attempt."""
    database.execute("UPDATE ticks SET outcome = 'started' WHERE run_id = ? AND outcome IS NULL", (run_id,))


def note_not_started(database: Connection, run_id: str) -> None:
    """It has not: what was begun was not carried out."""
    database.execute("UPDATE ticks SET outcome = NULL WHERE run_id = ? AND outcome = 'started'", (run_id,))


def note_refused(database: Connection, run_id: str, me: str, reason: str) -> None:
    """Its run is over without an attempt."""
    database.execute(
        "UPDATE ticks SET outcome = 'skipped', reason = ? WHERE run_id = ? AND owner = ? AND outcome IS NULL",
        (reason, run_id, me),
    )


def give_up(database: Connection, reasons: Mapping[str, str], me: str) -> None:
    """Those of its finder that it does not start, by their runs' ids: each with its reason."""
    for run_id, reason in reasons.items():
        note_refused(database, run_id, me, reason)


def note_succeeded(database: Connection, run_id: str, wall: float) -> None:
    """Its run has succeeded: its job is not overdue."""
    database.execute(
        "UPDATE jobs SET succeeded_wall = ?, succeeded_tick = tick_wall, overdue_wall = NULL"
        " FROM ticks WHERE run_id = ? AND job = name",
        (wall, run_id),
    )


# --- what operators do, and see


def resume_from_now(database: Connection, job: Asked, clock: Callable[[], float]) -> bool:
    """Do as `resume`; what came while it was paused and nobody looked is skipped, as if somebody had."""
    if is_paused(database, job.name):
        claim(database, [job], "", clock)  # it is paused: none of what is found is to be started
    return resume(database, job.name)


class Tick(NamedTuple):
    """A row of the ledger, with how its run ended where it has."""

    job: str
    tick: float
    first: float | None
    outcome: str | None
    reason: str | None
    run_id: str | None
    status: str | None
    run_reason: str | None


def ledger_of(database: Connection, name: str, limit: int) -> list[Tick]:
    """Return the newest ticks of a job, the newest first."""
    rows = database.execute(
        "SELECT job, tick_wall, first_wall, outcome, ticks.reason, run_id, status, runs.reason FROM ticks"
        " LEFT JOIN runs ON runs.id = run_id WHERE job = ? ORDER BY tick_wall DESC LIMIT ?",
        (name, limit),
    )
    return [Tick(*row) for row in rows]


def counts_since(database: Connection, since: float) -> dict[str, dict[str, int]]:
    """Return, by job and outcome, how many ticks came since then."""
    rows = database.execute(
        "SELECT job, coalesce(outcome, 'open'), count(*) FROM ticks WHERE tick_wall > ? GROUP BY job, outcome", (since,)
    )
    counts: dict[str, dict[str, int]] = {}
    for job, outcome, number in rows:
        counts.setdefault(job, {})[outcome] = number
    return counts


def forget_ticks(database: Connection, keep_age_s: float | None, keep: int, wall: float, batch: int) -> int:
    """Forget a batch of ticks that have ended, with their runs, by age and number; return how many."""
    [newest] = database.execute("SELECT coalesce(max(seq), 0) FROM ticks").fetchone()
    oldest = -1.0 if keep_age_s is None else wall - keep_age_s
    cursor = database.execute(
        "DELETE FROM ticks WHERE seq IN (SELECT seq FROM (SELECT seq, tick_wall FROM ticks WHERE outcome IS NOT NULL"
        " AND (run_id IS NULL OR run_id NOT IN (SELECT id FROM runs WHERE state <> 'ended')) ORDER BY seq LIMIT ?)"
        " WHERE seq <= ? OR tick_wall < ?)",
        (batch, newest - keep, oldest),
    )
    return cursor.rowcount
