"""Runs whose process is dead, or silent: found, ended, counted once. Each transaction changes only what is still so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from policies.breaker import Admitted
from policies.budget import Bucket
from policies.failure import Failed, Kind, Receipt, Unknown
from policies.policy import OnLost
from policies.verdict import Case, Reason, Retry, decide
from supervisor.credentials import hidden
from supervisor.owner import RecordedTree
from supervisor.report import Status, receipt_json
from supervisor.store.contract import SUCCEEDED, Ending
from supervisor.store.sqlite import adopting, ledger, open_ticks, ticks
from supervisor.store.sqlite.admission import give_up
from supervisor.store.sqlite.asking import Asking, Changed, Connection, Moment
from supervisor.store.sqlite.endings import BROKEN, UNANSWERED, end_run, leave_retry, write_ending
from supervisor.store.sqlite.outcome import charge_parents, end_attempt, retries_left_above, why, write_ledger
from supervisor.store.sqlite.rows import rules_of

LOST = "lost"


class LostAttempt(NamedTuple):
    """An attempt that has not ended, of a process that will not end it.

    Attributes:
        tree: the warden of a command; None: it was work of the process itself.
        elsewhere: it has a far end, which may live.
        lock: the session's file that the run named.
        is_told: its owner reads, once it wakes, that it must end.
    """

    fence: int
    run_id: str
    session: str
    number: int
    tree: RecordedTree | None
    elsewhere: bool
    lock: Path | None
    is_told: bool = False


class LostEnd(NamedTuple):
    """What became of a lost attempt: its failure (None: it had succeeded), and its breaker before and after."""

    failed: Failed | None
    breaker: Changed


def is_heard(database: Connection, owner: str, judged_at: float | None) -> bool:
    """Tell whether an owner that was judged silent has renewed since; `judged_at` None: it was not judged so."""
    if judged_at is None:
        return False
    row = database.execute("SELECT renewed_at FROM owners WHERE id = ?", (owner,)).fetchone()
    return row is None or row[0] != judged_at


def attempts_of(database: Connection, owner: str, judged_at: float | None = None) -> list[LostAttempt]:
    """Return the attempts that an owner has under way; none, if it has renewed since it was judged silent."""
    if is_heard(database, owner, judged_at):
        return []
    rows = database.execute(
        "SELECT attempts.fence, runs.id, attempts.session, attempts.number, tree_pid, tree_starttime, tree_life,"
        " elsewhere, lock, stop IS NOT NULL FROM runs JOIN attempts ON attempts.run = runs.seq"
        " WHERE runs.owner = ? AND state <> 'ended' AND state = 'running' AND outcome IS NULL",
        (owner,),
    )
    return [
        LostAttempt(fence, run_id, session, number, _tree(*tree), bool(elsewhere), lock and Path(lock), bool(is_told))
        for fence, run_id, session, number, *tree, elsewhere, lock, is_told in rows
    ]


def take(database: Connection, lost: LostAttempt, owner: str, judged_at: float) -> bool:
    """Take an attempt from its silent owner, whose tree may be stopped then; False: it was heard, and keeps it.

    An owner that wakes from here on reads that, as it renews, and ends the attempt itself if nobody has done so.
    """
    if is_heard(database, owner, judged_at):
        return False
    of_it = "seq = (SELECT run FROM attempts WHERE fence = ? AND outcome IS NULL)"
    return database.execute(f"UPDATE runs SET stop = coalesce(stop, ?) WHERE {of_it}", (LOST, lost.fence)).rowcount > 0  # noqa: S608


def _tree(pid: int | None, starttime: int | None, life: str | None) -> RecordedTree | None:
    if pid is None or starttime is None:
        return None
    return RecordedTree(pid, starttime, None if life is None else Path(life))


def end_between(database: Connection, owner: str, me: str, moment: Moment) -> int:
    """End what a dead owner has under way that is in no attempt; it counts nothing, and gives no token back.

    The retry of a job's run stays, where its policy says so: for whoever adopts it.
    """
    rows = database.execute(
        "SELECT seq, session, number, stop, started_wall FROM runs"
        " WHERE owner = ? AND state <> 'ended' AND state <> 'running'",
        (owner,),
    ).fetchall()
    for seq, session, number, stop, started_wall in rows:
        if stop is None and number and adopting.leave(database, seq):
            continue
        give_up(database, session, me, seq, "ended")
        ending = Ending(Status.FAILED if number else Status.CANCELLED, LOST, "its supervisor died between two attempts")
        if stop is not None:
            ending = Ending(Status.CANCELLED, Reason(stop), ending.detail)
        write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))
    return len(rows)


def end_undriven(database: Connection, run_id: str, me: str, moment: Moment) -> bool:
    """End a run of our own that nobody carries out; tell whether there was one."""
    row = database.execute(
        "SELECT session, policy, rules, number, parents, started_wall FROM runs JOIN policies ON hash = policy_hash"
        " WHERE id = ? AND owner = ? AND state <> 'ended'",
        (run_id, me),
    ).fetchone()
    if row is None:
        return False
    session, name, rules, number, parents, started_wall = row
    policy, length_s = rules_of(name, rules), max(0.0, moment.wall - started_wall)
    above = tuple(json.loads(parents))
    run = Asking(me, run_id, session, policy, number, None, above, None, started_wall, length_s, None, False, 0)
    run = run._replace(is_tick=adopting.is_tick(database, run_id))
    end_run(database, run, Ending(Status.CANCELLED, BROKEN, "nobody carried it out any more"), None, moment)
    return True


def in_the_way(database: Connection, owner: str) -> list[tuple[int, str, str | None, float]]:
    """Return the runs of an owner that others may wait for though they are in no attempt.

    Of each its seq, session, what it was asked to end for, and when it began, in seconds since 1970.
    """
    return database.execute(
        "SELECT seq, session, stop, started_wall FROM runs WHERE owner = ? AND state <> 'ended'"
        " AND state <> 'running' AND (state <> 'waiting' OR stop IS NOT NULL"
        " OR seq IN (SELECT run FROM places) OR seq IN (SELECT run FROM host_places))",
        (owner,),
    ).fetchall()


def has_anything(database: Connection, owner: str) -> bool:
    """Tell whether an owner has what others may wait for: a run in no attempt, or a tick that is not started."""
    return open_ticks.has_open(database, owner) or bool(in_the_way(database, owner))


def pass_by(database: Connection, owner: str, judged_at: float, me: str, moment: Moment) -> int:
    """Take place and permit from the runs of a silent owner that are in no attempt: when it wakes, they ask anew.

    Those that were asked to end are ended: whoever replaces them waits for that.
    """
    if is_heard(database, owner, judged_at):
        return 0
    open_ticks.let_go(database, owner)
    rows = in_the_way(database, owner)
    for seq, session, stop, started_wall in rows:
        give_up(database, session, me, seq, "waiting" if stop is None else "ended")
        if stop is not None:
            ending = Ending(Status.CANCELLED, Reason(stop), UNANSWERED)
            write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))
    if rows:  # in no line any more, it is told by nothing else once it wakes
        ledger.post(database, ledger.HOST, "changed")
    return len(rows)


def end_lost(  # noqa: PLR0913, PLR0917 - all that a verdict needs
    database: Connection,
    lost: LostAttempt,
    owner: str,
    me: str,
    failed: Failed | None,
    receipt: Receipt,
    host: Bucket | None,
    moment: Moment,
    judged_at: float | None = None,
) -> LostEnd | None:
    """Write a lost attempt's end and its run's, once however many ask; None: somebody has, or it was not lost.

    `judged_at`: its owner was judged silent, having renewed then.
    """
    if is_heard(database, owner, judged_at):
        return None
    row = database.execute(
        "SELECT runs.seq, runs.id, runs.policy, rules, generation, trial, retries_below, parents, deadline_at,"
        " runs.started_wall, stop FROM attempts JOIN runs ON runs.seq = attempts.run"
        " JOIN policies ON hash = policy_hash"
        " WHERE fence = ? AND outcome IS NULL",
        (lost.fence,),
    ).fetchone()
    if row is None:
        return None
    seq, run_id, name, rules, generation, trial, retries_below, parents_text, deadline_at, started_wall, stop = row
    stopped = None if stop in {None, LOST} or failed is None else Reason(stop)
    if stopped is not None and failed is not None and failed.kind is Kind.LOST:  # somebody has wanted that
        failed = failed._replace(kind=Kind.CANCELLED)
    policy, is_tick = rules_of(name, rules), adopting.is_tick(database, run_id)
    if not is_tick:  # whoever called for it is gone too: nobody would carry a retry out
        policy = replace(policy, on_lost=OnLost.GIVE_UP)
    parents = tuple(json.loads(parents_text))
    before = ledger.read_ledger(database, lost.session, host)
    above = retries_left_above(database, parents)
    admitted = Admitted(generation, bool(trial))
    case = Case(policy, lost.number, failed, receipt, admitted, above, deadline_at, stopped, retries_below)
    after, verdict = decide(case, before, host, moment.at, moment.draw)
    write_ledger(database, lost.session, before, after, host)
    end_attempt(database, lost.fence, me, failed, receipt, verdict, why(case, before, after, moment), moment)
    if isinstance(verdict, Retry):
        charge_parents(database, parents, 1)
        leave_retry(database, lost.session, seq, me, verdict.tokens)
        return LostEnd(failed, Changed(before.breaker, after.breaker))
    if is_tick and failed is None:
        ticks.note_succeeded(database, run_id, moment.wall)
    ending = _ending_of(failed, receipt, stopped)
    if isinstance(receipt, Unknown):
        # The work of a silent process itself may live as long as that does; a tree is asked for by itself.
        _quarantine(database, lost, owner, receipt, moment, tasks=lost.tree is None and judged_at is not None)
    give_up(database, lost.session, me, seq, "ended")
    write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))
    ledger.tell(database, lost.session, "changed", me)
    return LostEnd(failed, Changed(before.breaker, after.breaker))


def _ending_of(failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Ending:
    if isinstance(receipt, Unknown):
        return Ending(Status.QUARANTINED, "unconfirmed", ", ".join(receipt.alive))
    if failed is None:
        return SUCCEEDED
    if stopped is not None:
        return Ending(Status.CANCELLED, stopped, failed.message)
    return Ending(Status.FAILED, LOST, failed.message)


def _quarantine(
    database: Connection, lost: LostAttempt, owner: str, receipt: Unknown, moment: Moment, *, tasks: bool
) -> None:
    pid, starttime, life = (None, None, None) if lost.tree is None else lost.tree
    known = database.execute("SELECT renewed_at FROM owners WHERE id = ?", (owner,)).fetchone()
    database.execute(
        "INSERT OR REPLACE INTO quarantines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            lost.session,
            lost.run_id,
            owner,
            tasks,
            lost.elsewhere,
            pid,
            starttime,
            None if life is None else str(life),
            json.dumps(hidden(receipt_json(receipt))),
            moment.wall,
            moment.at if known is None else known[0],
        ),
    )


# --- quarantines


class Quarantined(NamedTuple):
    """Something of a session that may still live: tasks of its owner, a tree, a far end.

    `known_at`: when its owner was last known to live.
    """

    session: str
    run_id: str
    owner: str
    owner_life: str | None
    tasks: bool
    elsewhere: bool
    tree: RecordedTree | None
    known_at: float


def quarantines(database: Connection) -> list[Quarantined]:
    """Return every quarantine."""
    rows = database.execute(
        "SELECT session, run_id, owner, life, tasks, elsewhere, tree_pid, tree_starttime, tree_life, known_at"
        " FROM quarantines LEFT JOIN owners ON owners.id = quarantines.owner"
    )
    return [
        Quarantined(session, run_id, owner, life, bool(tasks), bool(elsewhere), _tree(pid, start, tree_life), at)
        for session, run_id, owner, life, tasks, elsewhere, pid, start, tree_life, at in rows
    ]


def lift(database: Connection, session: str, run_id: str, me: str) -> bool:
    """Lift one; tell whether it was there."""
    cursor = database.execute("DELETE FROM quarantines WHERE session = ? AND run_id = ?", (session, run_id))
    if cursor.rowcount:
        ledger.tell(database, session, "changed", me)
    return cursor.rowcount > 0
