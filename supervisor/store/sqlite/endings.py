"""How a run ends, as transactions: what it still has comes back, and its row says how it ended."""

import json
from typing import Final

from policies.breaker import Admitted, State, record
from policies.breaker import Report as BreakerReport
from policies.budget import Bucket
from policies.failure import Failed, Gone, Kind
from policies.policy import OnLost
from policies.verdict import GiveUp, Reason, Verdict
from supervisor.store.contract import Ending
from supervisor.store.sqlite import ledger, ticks
from supervisor.store.sqlite.admission import LEFT, give_up
from supervisor.store.sqlite.asking import Asking, Changed, Connection, Moment
from supervisor.store.sqlite.nobody import NOBODY
from supervisor.store.sqlite.outcome import end_attempt, give_back_retry
from supervisor.store.sqlite.rows import ending_columns, verdict_text

BROKEN: Final = "broken"
"""The reason of a run that an exception ended which is not its work's: the store's, mostly."""

UNANSWERED: Final = "its process did not answer"
"""The detail of a run that was asked to end, and was ended for that; once its process wakes, it says itself how."""


def write_ending(database: Connection, seq: int, ending: Ending, duration_s: float) -> None:
    """Write how a run ended, if that is not written."""
    database.execute(
        "UPDATE runs SET status = ?, reason = ?, detail = ?, duration_s = ?, stop = NULL"
        " WHERE seq = ? AND (status IS NULL OR reason = ? OR detail = ?)",
        (*ending_columns(ending), duration_s, seq, LEFT, UNANSWERED),
    )


def end_with(database: Connection, run: Asking, verdict: Verdict | None, ending: Ending) -> None:
    """Have a run that is over, and its last attempt, say that they ended so, whatever was written."""
    if verdict is not None:
        database.execute("UPDATE attempts SET verdict = ? WHERE fence = ?", (verdict_text(verdict), run.fence))
    database.execute(
        "UPDATE runs SET status = ?, reason = ?, detail = ? WHERE id = ? AND owner = ?",
        (*ending_columns(ending), run.run_id, run.owner),
    )


def end_run(database: Connection, run: Asking, ending: Ending, host: Bucket | None, moment: Moment) -> Changed | None:
    """End a run that has no last record. What it still has comes back; an attempt that was begun is no more."""
    row = database.execute(
        "SELECT seq, state, reserved, owner, number, stop FROM runs WHERE id = ?", (run.run_id,)
    ).fetchone()
    if row is None:
        _note_refused(database, run, ending)
        _write_refused(database, run, ending, moment)
        return None
    seq, state, reserved, owner, number, stop = row
    if owner != run.owner:
        return None
    if number and stop is None and state not in ("running", "ended") and _goes_on_elsewhere(run, ending):
        leave_retry(database, run.session, seq, run.owner, reserved or 0.0)
        return None
    changed = None
    if state == "running":
        changed = _drop_attempt(database, run, seq, moment)
        if run.is_tick and number == 1:
            _forget_first(database, run, seq)
            number = 0
    if number == 0:
        _note_refused(database, run, ending)
    if reserved is not None:
        database.execute("UPDATE runs SET reserved = NULL WHERE seq = ?", (seq,))
        give_back_retry(database, run.session, run.policy, run.parents, reserved, host, moment)
    if state != "ended":
        give_up(database, run.session, run.owner, seq, "ended")
    write_ending(database, seq, ending, run.duration_s)
    return changed


def _goes_on_elsewhere(run: Asking, ending: Ending) -> bool:
    """Tell whether a run between two attempts, whose supervisor is closed, is left to the next `serve`."""
    return run.is_tick and ending.reason is Reason.CLOSED and run.policy.on_lost is OnLost.RETRY


def leave_retry(database: Connection, session: str, seq: int, me: str, tokens: float) -> None:
    """Have a run wait for its retry in nobody's hands."""
    give_up(database, session, me, seq, "backoff")
    database.execute("UPDATE runs SET owner = ?, reserved = ? WHERE seq = ?", (NOBODY, tokens, seq))


def _note_refused(database: Connection, run: Asking, ending: Ending) -> None:
    """Have a tick's run that began no attempt say so: skipped, or left open for whoever starts it again."""
    if run.is_tick and ending.reason not in {Reason.CLOSED, BROKEN}:
        ticks.note_refused(database, run.run_id, run.owner, str(ending.reason))


def _forget_first(database: Connection, run: Asking, seq: int) -> None:
    """Forget the only attempt of a tick's run, which was not carried out: the tick is as open as before."""
    database.execute("DELETE FROM attempts WHERE run = ?", (seq,))
    database.execute("UPDATE runs SET number = 0 WHERE seq = ?", (seq,))
    ticks.note_not_started(database, run.run_id)


def _drop_attempt(database: Connection, run: Asking, seq: int, moment: Moment) -> Changed | None:
    """End an attempt that its own process has begun and does not carry out: its place at the breaker comes back."""
    row = database.execute(
        "SELECT fence, generation, trial FROM attempts WHERE run = ? AND outcome IS NULL", (seq,)
    ).fetchone()
    if row is None:
        return None
    fence, generation, trial = row
    changed = uncount(database, run, generation, trial, moment)
    failed = Failed(Kind.CANCELLED, "begun, and not carried out")
    end_attempt(database, fence, run.owner, failed, Gone(("never started",)), GiveUp(Reason.CANCELLED), {}, moment)
    return changed


def uncount(database: Connection, run: Asking, generation: int, trial: int, moment: Moment) -> Changed:
    """Have the breaker take back the place of an attempt that was not carried out."""
    before, tokens = ledger.read(database, run.session)
    admitted = Admitted(generation, bool(trial))
    after: State = record(run.policy.breaker, before, admitted, BreakerReport.UNCOUNTED, moment.at, moment.draw)
    if after is not before:
        ledger.write(database, run.session, after, tokens)
        ledger.tell(database, run.session, "changed", run.owner)
    return Changed(before, after)


def _write_refused(database: Connection, run: Asking, ending: Ending, moment: Moment) -> None:
    database.execute(
        "INSERT INTO runs(id, session, owner, policy, policy_hash, state, attempts, parents, deadline_at, lock,"
        " started_wall, arrived_at, duration_s, status, reason, detail)"
        " VALUES (?, ?, ?, ?, ?, 'ended', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.run_id,
            run.session,
            run.owner,
            run.policy.name,
            run.policy.hash,
            run.policy.budget.attempts,
            json.dumps(run.parents),
            run.deadline_at,
            run.lock,
            run.started_wall,
            moment.at,
            run.duration_s,
            *ending_columns(ending),
        ),
    )
