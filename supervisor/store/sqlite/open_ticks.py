"""Ticks that are open: found, and neither started nor skipped yet. Whose they are, and who starts them now."""

from collections.abc import Collection, Sequence
from typing import Final

from policies.catch_up import starts_again
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.jobs import Asked, is_named, is_paused
from supervisor.store.sqlite.ticks import Claimed

_LEFT: Final = (
    "FROM ticks WHERE outcome IS NULL AND (owner IS NULL OR owner = ? OR owner NOT IN (SELECT id FROM owners))"
)
_TO_TAKE_OVER: Final = (
    "SELECT job, tick_wall, run_id, (SELECT max(tick_wall) FROM ticks AS others WHERE others.job = ticks.job) "  # noqa: S608
    + _LEFT
    + " ORDER BY tick_wall"
)


def is_open(database: Connection, run_id: str, owner: str) -> bool:
    """Tell whether the tick of a run is open in the hands of an owner."""
    row = database.execute("SELECT owner FROM ticks WHERE run_id = ? AND outcome IS NULL", (run_id,)).fetchone()
    return row is not None and row[0] == owner


def is_undecided(database: Connection, run_id: str) -> bool:
    """Tell whether the tick of a run is open, in whose hands soever."""
    return (
        database.execute("SELECT 1 FROM ticks WHERE run_id = ? AND outcome IS NULL", (run_id,)).fetchone() is not None
    )


def is_of_paused(database: Connection, run_id: str) -> bool:
    """Tell whether the job is paused that the tick of a run is of."""
    of_it = "SELECT 1 FROM ticks JOIN jobs ON name = job WHERE run_id = ? AND paused_wall IS NOT NULL"
    return database.execute(of_it, (run_id,)).fetchone() is not None


def has_open(database: Connection, owner: str) -> bool:
    """Tell whether a tick is open in the hands of an owner."""
    row = database.execute("SELECT 1 FROM ticks WHERE outcome IS NULL AND owner = ? LIMIT 1", (owner,)).fetchone()
    return row is not None


def let_go(database: Connection, owner: str) -> None:
    """Take what is open out of the hands of an owner that is silent."""
    database.execute("UPDATE ticks SET owner = NULL WHERE outcome IS NULL AND owner = ?", (owner,))


def left(database: Connection, me: str) -> frozenset[str]:
    """Return the runs of ticks that are open in our hands, or in those of nobody who is there."""
    return frozenset(run_id for (run_id,) in database.execute(f"SELECT run_id {_LEFT}", (me,)))


def take_over(
    database: Connection, jobs: Sequence[Asked], me: str, wall: float, carried: Collection[str] = ()
) -> list[Claimed]:
    """Take what is open in nobody's hands, or in those of a process that is gone; return what is to be started here.

    Left alone are the runs that are `carried` out here, be it that they were taken from us while we stood still: they
    know it soon. What else is open in our hands was found by a call whose answer was lost. And left alone are the jobs
    of a process that has other settings: it comes for them itself, or they are nobody's by and by.
    """
    rows = database.execute(_TO_TAKE_OVER, (me,)).fetchall()
    if not rows:
        return []
    by_name = {job.name: job for job in jobs}
    taken = []
    for name, tick, run_id, newest in rows:
        job = by_name.get(name)
        if run_id in carried or (job is None and is_named(database, name, wall)):
            continue
        if job is None:
            _end_open(database, run_id, "skipped", "removed")
        elif is_paused(database, name):
            _end_open(database, run_id, "skipped", "paused")
        elif starts_again(tick, newest, wall - job.offset_s, job.catch_up):
            database.execute("UPDATE ticks SET owner = ? WHERE run_id = ?", (me, run_id))
            taken.append(Claimed(name, tick, run_id, late=True))
        else:
            _end_open(database, run_id, "expired", None)
    return taken


def _end_open(database: Connection, run_id: str, outcome: str, reason: str | None) -> None:
    database.execute("UPDATE ticks SET outcome = ?, reason = ? WHERE run_id = ?", (outcome, reason, run_id))
