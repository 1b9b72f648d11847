"""What is remembered of jobs, as transactions: where the ledger stands with each, and what was told of it.

Processes with other settings may share one state: what one of them does not name is another's, and stays.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from policies.catch_up import CatchUp
from supervisor.store.sqlite.asking import Connection

if TYPE_CHECKING:
    from policies.schedule import Schedule

NAMED_S: Final = 1800.0
"""So long a job counts as somebody's that a `serve` has named: each names its own every ten minutes."""

FORGET_JOB_S: Final = 7 * 86400.0
"""A job that nobody has named for so long is forgotten, unless it is paused."""


class Asked(NamedTuple):
    """A job that may be due. `offset_s`: its stagger; `schedule_text`: what its schedule is known by."""

    name: str
    schedule: "Schedule"
    schedule_text: str
    offset_s: float
    catch_up: CatchUp


class JobState(NamedTuple):
    """What is remembered of a job; moments are seconds since 1970."""

    known: float
    decided: float
    paused: float | None
    succeeded: float | None
    succeeded_tick: float | None
    overdue: float | None


def sync(
    database: Connection, jobs: Sequence[Asked], clock: Callable[[], float], gone: Collection[str] = ()
) -> dict[str, JobState]:
    """Take note of the jobs that there are; return what is remembered of each.

    Of a job that is new, or has another schedule than before, nothing was missed. `gone`: those that the same process
    had, and has no more: they are nobody's from now on, unless another process names them.
    """
    wall = clock()
    database.executemany("UPDATE jobs SET seen_wall = ? WHERE name = ?", [(wall - NAMED_S, name) for name in gone])
    known: dict[str, str] = dict(database.execute("SELECT name, schedule FROM jobs").fetchall())
    for job in jobs:
        before = known.get(job.name)
        if before is None:
            know(database, job, wall)
        elif before != job.schedule_text:
            database.execute(
                "UPDATE jobs SET schedule = ?, known_wall = ?, decided_wall = ?, looked_wall = ?,"
                " succeeded_wall = NULL, succeeded_tick = NULL, overdue_wall = NULL WHERE name = ?",
                (job.schedule_text, wall, wall - job.offset_s, wall, job.name),
            )
    name_again(database, [job.name for job in jobs], wall)
    return states(database)


def know(database: Connection, job: Asked, wall: float, missed_s: float = 0.0) -> None:
    """Take note of a job that may be new. Of the last `missed_s` the ledger is to know."""
    database.execute(
        "INSERT OR IGNORE INTO jobs(name, schedule, known_wall, decided_wall, looked_wall, seen_wall)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (job.name, job.schedule_text, wall, wall - job.offset_s - missed_s, wall, wall),
    )


def name_again(database: Connection, names: Collection[str], wall: float) -> None:
    """Say that these jobs are still somebody's."""
    database.executemany("UPDATE jobs SET seen_wall = ? WHERE name = ?", [(wall, name) for name in names])


def is_named(database: Connection, name: str, wall: float) -> bool:
    """Tell whether a job is somebody's: a process that names it has done so of late."""
    row = database.execute("SELECT 1 FROM jobs WHERE name = ? AND seen_wall > ?", (name, wall - NAMED_S)).fetchone()
    return row is not None


def is_paused(database: Connection, name: str) -> bool:
    """Tell whether an operator has paused a job."""
    row = database.execute("SELECT 1 FROM jobs WHERE name = ? AND paused_wall IS NOT NULL", (name,)).fetchone()
    return row is not None


def forget_jobs(database: Connection, wall: float) -> int:
    """Forget the jobs that are nobody's, and not paused; return how many. Their ticks stay in the ledger."""
    forgotten = "DELETE FROM jobs WHERE seen_wall < ? AND paused_wall IS NULL"
    return database.execute(forgotten, (wall - FORGET_JOB_S,)).rowcount


def states(database: Connection) -> dict[str, JobState]:
    """Return what is remembered of each job."""
    rows = database.execute(
        "SELECT name, known_wall, decided_wall, paused_wall, succeeded_wall, succeeded_tick, overdue_wall FROM jobs"
    )
    return {name: JobState(*row) for name, *row in rows}


def pause(database: Connection, name: str, wall: float) -> bool:
    """Pause a job: its ticks are skipped. Tell whether there is one that was not paused."""
    cursor = database.execute("UPDATE jobs SET paused_wall = ? WHERE name = ? AND paused_wall IS NULL", (wall, name))
    return cursor.rowcount == 1


def resume(database: Connection, name: str) -> bool:
    """Have a paused job run again; tell whether it was paused."""
    cursor = database.execute("UPDATE jobs SET paused_wall = NULL WHERE name = ? AND paused_wall IS NOT NULL", (name,))
    return cursor.rowcount == 1


def note_job_succeeded(database: Connection, job: str, wall: float, offset_s: float = 0.0) -> None:
    """A run of the job that no tick asked for has succeeded, as one of a tick that came now would have."""
    database.execute(
        "UPDATE jobs SET succeeded_wall = ?, succeeded_tick = ?, overdue_wall = NULL WHERE name = ?",
        (wall, wall - offset_s, job),
    )


def claim_overdue(database: Connection, name: str, succeeded: float | None, wall: float) -> bool:
    """Note that a job is told to be overdue; tell whether nobody has done so since its last success."""
    cursor = database.execute(
        "UPDATE jobs SET overdue_wall = ? WHERE name = ? AND overdue_wall IS NULL AND succeeded_wall IS ?",
        (wall, name, succeeded),
    )
    return cursor.rowcount == 1
