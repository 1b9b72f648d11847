"""Record: what the attempt came to, in one transaction with its verdict; then its report and its event."""

import asyncio
from typing import Final

from policies.failure import Failed, Gone, Kind, Outcome, Receipt, Unknown, not_proved_dead, outcome_of
from policies.verdict import Reason, Verdict
from supervisor.attempt import Attempt
from supervisor.errors import RunFailed
from supervisor.events import AttemptEnded
from supervisor.recovery.left_behind import Left
from supervisor.report import AttemptReport
from supervisor.steps.release import ENDED
from supervisor.steps.running import Running
from supervisor.tasks import Now
from supervisor.work.call import failed_by, text_of
from supervisor.work.let_go import let_go

_NEVER_LATE: Final = frozenset({Kind.BUSY, Kind.CANCELLED})
"""Kinds that are what they are whenever they come: they cost nothing, and nothing is tried again on them."""

_WHY: Final = {
    Reason.CANCELLED: "cancelled by its caller",
    Reason.REPLACED: "replaced by a newer run of its session",
    Reason.CLOSED: "cancelled: the supervisor was closed",
    Reason.STOPPED: "stopped by an operator",
    Reason.PAUSED: "stopped by an operator, who paused its session",
}


def failure_of(run: Running, attempt: Attempt) -> Failed | None:
    """Return what is known of an attempt that did not succeed, as text and numbers; None for one that did.

    One that ended after its time has timed out, also where the loop was blocked when the alarm should have rung.
    """
    failed = _failure_of(run, attempt)
    return failed if failed is None or run.parks is None else run.parks.known(attempt, failed)


def _failure_of(run: Running, attempt: Attempt) -> Failed | None:
    match attempt._cause:
        case None:
            error, deadline = attempt._error, attempt.deadline
            failed = None if error is None else failed_by(error, run.policy.failures, run.effects.clock.wall())
            if deadline is None or attempt._ended_at <= deadline:
                return failed
            if failed is not None and failed.kind in _NEVER_LATE:
                return failed
            return Failed(Kind.TIMEOUT, _overdue(run, attempt, Kind.TIMEOUT))
        case Kind() as cause:
            return Failed(cause, _overdue(run, attempt, cause))
        case Reason.LOST:
            return Failed(Kind.LOST, "its process stood still for longer than the lease, and was told to end it")
        case Reason() as reason:
            return Failed(Kind.CANCELLED, _WHY[reason])


def _overdue(run: Running, attempt: Attempt, cause: Kind) -> str:
    error = attempt._error
    after_s = (attempt._stop_at or attempt._ended_at) - attempt._started_at
    message = f"timed out after {after_s:.3g} s"
    if attempt._stop_at is None:
        message += ", while something blocked the event loop"
    if cause is Kind.IDLE:
        sign = "heartbeat" if run.parks is None else "output"
        message = f"no {sign} for {run.policy.attempt.idle_timeout_s:g} s, after {after_s:.3g} s"
    elif cause is Kind.BUSY:
        message = attempt._busy
    if error is not None and not isinstance(error, asyncio.CancelledError):
        message += f"; it then raised {type(error).__name__}: {text_of(error)}"[:500]
    return message


def drop(run: Running, attempt: Attempt, error: BaseException) -> None:
    """Let go of what the exception's frames hold, before anything else is awaited."""
    attempt._error = None
    let_go(error)
    run.failed_below = isinstance(error, RunFailed | BaseExceptionGroup)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        run.fatal = error


def _note_left(run: Running, left: Left) -> None:
    """Say for those who find the quarantine later, perhaps in another process, whose end would be the proof."""
    run.left_tasks = bool(left.living()) or bool(left.below)
    below = [ask for each in left.below for ask in each.asking()]
    run.left_elsewhere = bool(below or (left.ask and run.tree is None))


def record(run: Running, failed: Failed | None, receipt: Receipt, left: Left | None) -> Now[Verdict]:
    """One transaction: the outcome to breaker and budget, the verdict and its token; permit and slot given back."""
    if left is not None:
        _note_left(run, left)
    if run.host is not None:
        run.host.leave(run)
    if isinstance(receipt, Unknown):
        failed = not_proved_dead(failed)
    return run.effects.store.record(run, failed, receipt, run.stopped)


def note(
    run: Running, attempt: Attempt, failed: Failed | None, receipt: Receipt, verdict: Verdict, left: Left | None
) -> None:
    """Keep the attempt's report, watch what it left, and tell the listeners."""
    ended_at = attempt._ended_at
    if receipt is not ENDED:
        ended_at = run.effects.clock.now()
        if isinstance(receipt, Unknown):
            failed = not_proved_dead(failed)
    started_unix = run.started_unix + (attempt._started_at - run.started_at)
    duration_s = ended_at - attempt._started_at
    outcome = Outcome.SUCCEEDED if failed is None else outcome_of(failed)
    report = AttemptReport(run.number, started_unix, duration_s, outcome, failed, receipt, verdict)
    run.reports.append(report)
    if attempt._written is not None:
        if run.is_written:
            attempt._written()
        else:
            run.when_written = attempt._written
        attempt._written = None
    if left is not None and not isinstance(receipt, Gone):
        run.effects.recovery.watch(run, attempt, left)
        _tell_parent(run, receipt, left)
    if run.effects.events.listeners:
        run.effects.events.emit(AttemptEnded(*run.about(), report))


def _tell_parent(run: Running, receipt: Unknown, left: Left) -> None:
    """A child that may still live makes its parent's attempt unconfirmed."""
    parent = run.parent_attempt
    if parent is None:
        return
    if parent._left is not None:  # it was given up before its child was: its quarantine waits for both
        parent._left.below.append(left)
        return
    if parent._children_left is None:
        parent._children_left = []
    what = f"session {run.session!r}, a child: {', '.join(receipt.alive)}"
    parent._children_left.append((what, left))
