"""A job's run whose process died, and whose policy says to retry it: it waits, in nobody's hands, for who adopts it."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from policies.policy import OnLost
from supervisor.report import Status
from supervisor.store.contract import Ending
from supervisor.store.sqlite.admission import give_up
from supervisor.store.sqlite.asking import Connection, Moment
from supervisor.store.sqlite.endings import leave_retry, write_ending
from supervisor.store.sqlite.jobs import is_named
from supervisor.store.sqlite.nobody import NOBODY
from supervisor.store.sqlite.rows import rules_of


class Adopted(NamedTuple):
    """A run to go on with. `number`: of its last attempt; `retry_at`, `deadline_at`: of the store's clock."""

    job: str
    tick: float
    run_id: str
    session: str
    number: int
    retries_below: int
    tokens: float
    retry_at: float
    deadline_at: float | None
    started_wall: float


def is_tick(database: Connection, run_id: str) -> bool:
    """Tell whether a job's tick asked for a run."""
    return database.execute("SELECT 1 FROM ticks WHERE run_id = ?", (run_id,)).fetchone() is not None


def leave(database: Connection, seq: int) -> bool:
    """Leave a run between two attempts to whoever adopts it, if it is a job's and its policy says so."""
    row = database.execute(
        "SELECT id, session, runs.policy, rules, reserved FROM runs JOIN policies ON hash = policy_hash WHERE seq = ?",
        (seq,),
    ).fetchone()
    if row is None:
        return False
    run_id, session, name, rules, reserved = row
    if not is_tick(database, run_id) or rules_of(name, rules).on_lost is not OnLost.RETRY:
        return False
    leave_retry(database, session, seq, NOBODY, reserved or 0.0)
    return True


_WAITS: Final = "state <> 'ended' AND (runs.owner = ? OR (runs.owner = ? AND state = 'backoff'))"
"""In nobody's hands, or in ours: adopted by a call whose answer was lost, unless it is carried out here."""


_TO_ADOPT: Final = (
    "SELECT runs.seq, job, tick_wall, id, session, policy_hash, number, retries_below, reserved, deadline_at,"  # noqa: S608
    " started_wall, (SELECT max(json_extract(verdict, '$.at')) FROM attempts"
    " WHERE run = runs.seq AND attempts.number = runs.number)"
    f" FROM runs JOIN ticks ON run_id = id WHERE {_WAITS}"
)


def left(database: Connection, me: str) -> frozenset[str]:
    """Return the runs that may wait for who adopts them: those in nobody's hands, and ours that wait for a retry."""
    return frozenset(row[0] for row in database.execute(f"SELECT id FROM runs WHERE {_WAITS}", (NOBODY, me)))  # noqa: S608


def adopt(
    database: Connection, hashes: Mapping[str, str], me: str, moment: Moment, carried: Collection[str] = ()
) -> list[Adopted]:
    """Take the runs of jobs whose retry is in nobody's hands. `hashes`: of each job's policy, by its name.

    One whose job is gone, or under other rules by now, is given up: a run keeps the policy that it was admitted with.
    One whose job is another process's, which has other settings, is left to that.
    Left alone are the runs that are `carried` out here: they were taken from us while we stood still, and know it soon.
    """
    end_overdue(database, me, moment)
    rows = database.execute(_TO_ADOPT, (NOBODY, me)).fetchall()
    adopted = []
    for seq, job, tick, run_id, session, policy_hash, number, below, tokens, deadline_at, started_wall, at in rows:
        if run_id in carried or (job not in hashes and is_named(database, job, moment.wall)):
            continue
        if hashes.get(job) == policy_hash:
            database.execute("UPDATE runs SET owner = ? WHERE seq = ?", (me, seq))
            retry_at = moment.at if at is None else at
            adopted.append(
                Adopted(job, tick, run_id, session, number, below, tokens or 0.0, retry_at, deadline_at, started_wall)
            )
        else:
            give_up(database, session, me, seq, "ended")
            ending = Ending(Status.FAILED, "lost", "its supervisor died, and its job is gone, or has other rules now")
            write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))
    return adopted


def end_overdue(database: Connection, me: str, moment: Moment) -> int:
    """End those whose deadline has passed before anybody adopted them; return how many."""
    rows = database.execute(
        "SELECT seq, session, started_wall FROM runs WHERE owner = ? AND state <> 'ended' AND deadline_at < ?",
        (NOBODY, moment.at),
    ).fetchall()
    for seq, session, started_wall in rows:
        give_up(database, session, me, seq, "ended")
        ending = Ending(Status.FAILED, "lost", "its supervisor died, and nobody went on with it before its deadline")
        write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))
    return len(rows)
