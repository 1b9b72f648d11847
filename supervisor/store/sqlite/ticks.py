"""The ledger of ticks, as transactions: each due tick of a job is found once, and ends once.

A tick is *open* from when somebody found it until its run has begun an attempt (started) or was refused (skipped); both
are written with the run's own rows. One that is open in the hands of a dead process is started again, under its run id.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from policies.catch_up import ON_TIME_S, CatchUp, due, tick_id
from policies.schedule import Schedule
from supervisor.store.sqlite.asking import Connection

CLOCK_SET_BACK_S: Final = 60.0
"""Where the newest tick that was decided on is further ahead, the clock was set back: a smaller step is waited out."""


class Asked(NamedTuple):
    """A job that may be due. `offset_s`: its stagger; `schedule_text`: what its schedule is known by."""

    name: str
    schedule: Schedule
    schedule_text: str
    offset_s: float
    catch_up: CatchUp


class Claimed(NamedTuple):
    """A tick to start. `late`: it was missed when it was due."""

    job: str
    tick: float
    run_id: str
    late: bool


class JobState(NamedTuple):
    """What is remembered of a job; moments are seconds since 1970."""

    known: float
    decided: float
    paused: float | None
    succeeded: float | None
    succeeded_tick: float | None
    overdue: float | None


def sync(database: Connection, jobs: Sequence[Asked], wall: float) -> dict[str, JobState]:
    """Take note of the jobs that there are; return what is remembered of each.

    Of a job that is new, or has another schedule than before, nothing was missed. One that is gone is forgotten; its
    ticks stay in the ledger.
    """
    known: dict[str, str] = dict(database.execute("SELECT name, schedule FROM jobs").fetchall())
    names = {job.name for job in jobs}
    database.executemany("DELETE FROM jobs WHERE name = ?", [(name,) for name in known if name not in names])
    for job in jobs:
        before = known.get(job.name)
        if before is None:
            database.execute(
                "INSERT INTO jobs(name, schedule, known_wall, decided_wall) VALUES (?, ?, ?, ?)",
                (job.name, job.schedule_text, wall, wall - job.offset_s),
            )
        elif before != job.schedule_text:
            database.execute(
                "UPDATE jobs SET schedule = ?, known_wall = ?, decided_wall = ?, succeeded_wall = NULL,"
                " succeeded_tick = NULL, overdue_wall = NULL WHERE name = ?",
                (job.schedule_text, wall, wall - job.offset_s, job.name),
            )
    return states(database)


def know(database: Connection, name: str, schedule_text: str, wall: float, decided: float | None = None) -> None:
    """Take note of a job that may be new."""
    database.execute(
        "INSERT OR IGNORE INTO jobs(name, schedule, known_wall, decided_wall) VALUES (?, ?, ?, ?)",
        (name, schedule_text, wall, wall if decided is None else decided),
    )


def states(database: Connection) -> dict[str, JobState]:
    """Return what is remembered of each job."""
    rows = database.execute(
        "SELECT name, known_wall, decided_wall, paused_wall, succeeded_wall, succeeded_tick, overdue_wall FROM jobs"
    )
    return {name: JobState(*row) for name, *row in rows}


def claim(database: Connection, jobs: Sequence[Asked], me: str, wall: float) -> list[Claimed]:
    """Write down every tick that is due and that nobody has found yet; return those that are to be started here."""
    return [claimed for job in jobs for claimed in _claim(database, job, me, wall)]


def _claim(database: Connection, job: Asked, me: str, wall: float) -> list[Claimed]:
    row = database.execute("SELECT decided_wall, paused_wall FROM jobs WHERE name = ?", (job.name,)).fetchone()
    now = wall - job.offset_s
    if row is None:  # forgotten by a process that has other settings: of the last minute the ledger knows
        know(database, job.name, job.schedule_text, wall, now - ON_TIME_S)
        row = now - ON_TIME_S, None
    decided, paused = row
    if decided > now + CLOCK_SET_BACK_S:
        _forget_what_never_came(database, job.name, now)
        decided = now
        database.execute("UPDATE jobs SET decided_wall = ? WHERE name = ?", (now, job.name))
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
    database.execute("UPDATE jobs SET decided_wall = ? WHERE name = ?", (newest, job.name))
    return claimed


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


def note_job_succeeded(database: Connection, job: str, wall: float, offset_s: float = 0.0) -> None:
    """A run of the job that no tick asked for has succeeded, as one of a tick that came now would have."""
    database.execute(
        "UPDATE jobs SET succeeded_wall = ?, succeeded_tick = ?, overdue_wall = NULL WHERE name = ?",
        (wall, wall - offset_s, job),
    )


# --- what operators do, and see


def pause(database: Connection, name: str, wall: float) -> bool:
    """Pause a job: its ticks are skipped. Tell whether there is one that was not paused."""
    cursor = database.execute("UPDATE jobs SET paused_wall = ? WHERE name = ? AND paused_wall IS NULL", (wall, name))
    return cursor.rowcount == 1


def resume(database: Connection, name: str) -> bool:
    """Have a paused job run again; tell whether it was paused."""
    cursor = database.execute("UPDATE jobs SET paused_wall = NULL WHERE name = ? AND paused_wall IS NOT NULL", (name,))
    return cursor.rowcount == 1


def resume_from_now(database: Connection, job: Asked, wall: float) -> bool:
    """Do as `resume`; what came while it was paused and nobody looked is skipped, as if somebody had."""
    paused = database.execute("SELECT 1 FROM jobs WHERE name = ? AND paused_wall IS NOT NULL", (job.name,)).fetchone()
    if paused is not None:
        _claim(database, job, "", wall)  # it is paused: none of what is found is to be started
    return resume(database, job.name)


def claim_overdue(database: Connection, name: str, succeeded: float | None, wall: float) -> bool:
    """Note that a job is told to be overdue; tell whether nobody has done so since its last success."""
    cursor = database.execute(
        "UPDATE jobs SET overdue_wall = ? WHERE name = ? AND overdue_wall IS NULL AND succeeded_wall IS ?",
        (wall, name, succeeded),
    )
    return cursor.rowcount == 1


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
