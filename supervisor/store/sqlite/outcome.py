"""How an attempt ends, as a transaction: breaker, budget, verdict and history in one."""

import json
from typing import Any

from policies.breaker import CLOSED, Admitted, State
from policies.budget import FULL, Bucket
from policies.failure import Failed, Gone, Kind, Outcome, Receipt, Unknown, outcome_of
from policies.policy import Policy
from policies.verdict import Case, GiveUp, Ledger, Reason, Retry, Verdict, decide
from supervisor.credentials import hidden
from supervisor.report import failure_json, receipt_json
from supervisor.store.contract import Ending, Standing
from supervisor.store.sqlite import ledger, ticks
from supervisor.store.sqlite.admission import tell_next
from supervisor.store.sqlite.asking import Asking, Changed, Connection, Ended, Moment, Recorded
from supervisor.store.sqlite.rows import breaker_of, breaker_text, ending_columns, tokens_of, verdict_of, verdict_text


class _Over:
    """The attempt that ends, what its run's row says, and its session's."""

    def __init__(self, database: Connection, run: Asking) -> None:
        row = database.execute(
            "SELECT runs.seq, generation, trial, outcome, verdict, why, ended_by, retries_below,"
            " stop, breaker, spent, spent_at FROM attempts JOIN runs ON runs.seq = attempts.run"
            " LEFT JOIN sessions ON sessions.session = attempts.session"
            " WHERE fence = ? AND id = ?",
            (run.fence, run.run_id),
        ).fetchone()
        self.is_known = row is not None
        if row is not None:
            self.seq, generation, trial, self.outcome, self._verdict, self._why, self.ended_by, *session = row
            self.admitted = Admitted(generation, bool(trial))
            self.retries_below, stop, self._breaker, self._spent, self._spent_at = session
            self.is_taken = stop == Reason.LOST

    def ledger(self, database: Connection, host: Bucket | None) -> Ledger:
        """Return what a verdict reads, as it was when this was asked."""
        tokens = FULL if host is None else ledger.read(database, ledger.HOST)[1]
        return Ledger(breaker_of(self._breaker), tokens_of(self._spent or 0.0, self._spent_at or 0.0), tokens)

    def as_others_ended_it(self, receipt: Receipt) -> Verdict:
        """Return what a run is told whose attempt was taken: that it is quarantined, where that is what came of it."""
        if self.outcome == Outcome.UNCONFIRMED:
            return verdict_of(self._verdict, receipt)
        return GiveUp(Reason.LOST)

    def answer(self, receipt: Receipt) -> Recorded:
        """Return what was answered when its end was written."""
        before, after = json.loads(self._why).get(
            "breaker", (None, None)
        )  # one that was dropped was decided on nothing
        return _recorded(verdict_of(self._verdict, receipt), breaker_of(before), breaker_of(after), receipt)


def _recorded(verdict: Verdict, before: State, after: State, receipt: Receipt) -> Recorded:
    tokens = verdict.tokens if isinstance(verdict, Retry) else 0.0
    return Recorded(verdict, Changed(before, after), isinstance(receipt, Unknown), tokens)


def record_attempt(database: Connection, run: Asking, ended: Ended, moment: Moment) -> Recorded:
    """Write how an attempt ended, under its fence, with its verdict; give its lease, permit and slot back.

    An attempt that somebody else has ended (its lease was taken) stays as it is: the run is told so. Asked again, it
    gives the same answer.
    """
    standing, failed, receipt, stopped, unlaunched_tokens, host = ended
    over = _Over(database, run)
    if not over.is_known or (over.outcome is not None and over.ended_by != run.owner):
        return Recorded(over.as_others_ended_it(receipt) if over.is_known else GiveUp(Reason.LOST))
    if over.outcome is not None:
        return over.answer(receipt)
    if over.is_taken and isinstance(receipt, Gone) and stopped in {None, Reason.LOST}:  # others stopped its tree
        stopped = None if failed is None else Reason.LOST
        failed = failed and failed._replace(kind=Kind.LOST)
    if unlaunched_tokens is None:
        before = over.ledger(database, host)
    else:
        give_back_retry(database, run.session, run.policy, run.parents, unlaunched_tokens, host, moment)
        before = ledger.read_ledger(database, run.session, host)
    case = Case(
        run.policy,
        run.number,
        failed,
        receipt,
        over.admitted,
        retries_left_above(database, run.parents),
        run.deadline_at,
        stopped,
        over.retries_below,
    )
    after, verdict = decide(case, before, host, moment.at, moment.draw)
    write_ledger(database, run.session, before, after, host)
    end_attempt(database, run.fence, run.owner, failed, receipt, verdict, why(case, before, after, moment), moment)
    if isinstance(receipt, Unknown):
        _quarantine(database, run, standing, receipt, moment)
    ending = None if isinstance(verdict, Retry) else standing.ending_of(verdict, failed)
    _leave_attempt(database, run, over.seq, verdict, ending)
    if run.is_tick and failed is None:
        ticks.note_succeeded(database, run.run_id, moment.wall)
    if after.breaker is not before.breaker or isinstance(receipt, Unknown):
        ledger.tell(database, run.session, "changed", run.owner)
    return _recorded(verdict, before.breaker, after.breaker, receipt)


def write_ledger(database: Connection, session: str, before: Ledger, after: Ledger, host: Bucket | None) -> None:
    """Write what a verdict has changed."""
    if after.breaker is not before.breaker or after.session is not before.session:
        ledger.write(database, session, after.breaker, after.session)
    if host is not None and after.host is not before.host:
        ledger.write(database, ledger.HOST, CLOSED, after.host)


def retries_left_above(database: Connection, parents: tuple[str, ...]) -> int | None:
    """Return the fewest retries that any run above has left; None: there is none above. One without a row has none."""
    fewest: int | None = None
    for run_id in parents:
        row = database.execute(
            "SELECT attempts - max(number, 1) - retries_below FROM runs WHERE id = ?", (run_id,)
        ).fetchone()
        left = 0 if row is None else int(row[0])
        fewest = left if fewest is None else min(fewest, left)
    return fewest


def charge_parents(database: Connection, parents: tuple[str, ...], retries: int) -> None:
    """Take so many retries (or give back, where negative) from the budget of every run above."""
    for run_id in parents:
        database.execute("UPDATE runs SET retries_below = retries_below + ? WHERE id = ?", (retries, run_id))


def give_back_retry(
    database: Connection,
    session: str,
    policy: Policy,
    parents: tuple[str, ...],
    tokens: float,
    host: Bucket | None,
    moment: Moment,
) -> None:
    """Return what a retry took that was not launched: tokens, and one of the retries of every run above."""
    ledger.give_back(database, session, policy.budget.session, host, tokens, moment.at)
    charge_parents(database, parents, -1)


def end_attempt(
    database: Connection,
    fence: int,
    ended_by: str,
    failed: Failed | None,
    receipt: Receipt,
    verdict: Verdict,
    reasons: dict[str, Any],
    moment: Moment,
) -> bool:
    """Write an attempt's end, if it has none; tell whether it had none."""
    outcome = Outcome.SUCCEEDED if failed is None else outcome_of(failed)
    cursor = database.execute(
        "UPDATE attempts SET outcome = ?, kind = ?, failure = ?, receipt = ?, verdict = ?, why = ?, ended_by = ?,"
        " duration_s = max(0.0, ? - began_at) WHERE fence = ? AND outcome IS NULL",
        (
            outcome.value,
            None if failed is None else failed.kind.value,
            None if failed is None else json.dumps(hidden(failure_json(failed))),
            json.dumps(hidden(receipt_json(receipt))),
            verdict_text(verdict),
            json.dumps(reasons),
            ended_by,
            moment.at,
            fence,
        ),
    )
    return cursor.rowcount == 1


def why(case: Case, before: Ledger, after: Ledger, moment: Moment) -> dict[str, Any]:
    """Return what a verdict was decided on, for whoever asks later: numbers and names, no more."""
    effect = None if case.failed is None else case.policy.effect(case.failed.kind)
    return {
        "attempts": [case.attempt, case.policy.budget.attempts],
        "retries_below": case.retries_below,
        "retries_left_above": case.retries_left_above,
        "retried": None if effect is None else effect.retried,
        "counts": None if effect is None else effect.counts,
        "tokens": None if effect is None else effect.tokens,
        "session_spent": [before.session.spent, after.session.spent],
        "session_capacity": case.policy.budget.session.capacity,
        "host_spent": [before.host.spent, after.host.spent],
        "breaker": [breaker_text(before.breaker), breaker_text(after.breaker)],
        "deadline_s": None if case.deadline is None else case.deadline - moment.at,
        "stopped": None if case.stopped is None else case.stopped.value,
    }


def _quarantine(database: Connection, run: Asking, standing: Standing, receipt: Unknown, moment: Moment) -> None:
    tree = run.tree
    database.execute(
        "INSERT OR REPLACE INTO quarantines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.session,
            run.run_id,
            run.owner,
            standing.left_tasks,
            standing.left_elsewhere,
            None if tree is None else tree.pid,
            None if tree is None else tree.starttime,
            None if tree is None or tree.life is None else str(tree.life),
            json.dumps(hidden(receipt_json(receipt))),
            moment.wall,
            moment.at,
        ),
    )


def _leave_attempt(database: Connection, run: Asking, seq: int, verdict: Verdict, ending: Ending | None) -> None:
    """Give the lease, permit and slot of an attempt back. While it ran, the run stood in no line."""
    if isinstance(verdict, Retry):
        charge_parents(database, run.parents, 1)
        database.execute(
            "UPDATE runs SET state = 'backoff', slot = 0, reserved = ? WHERE seq = ?", (verdict.tokens, seq)
        )
    else:
        assert ending is not None, "what is not tried again has ended"
        database.execute(
            "UPDATE runs SET state = 'ended', slot = 0, status = ?, reason = ?, detail = ?, duration_s = ?, stop = NULL"
            " WHERE seq = ?",
            (*ending_columns(ending), run.duration_s, seq),
        )
    tell_next(database, run.session, run.owner)
