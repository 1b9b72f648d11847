"""ONE SUPERVISED RUN, top to bottom. Read this first.

    admit    look, gate, host: may the session be tried now? A permit, a slot, a start
    park     a command's warden, waiting for the word; the lock file, where one is named
    begin    one transaction: the breaker's admission, the fence, the attempt's number
    go       the work in a task of its own; told to stop at its timeout, when idle, when cancelled
    release  the scope in reverse order, the lock file last: the receipt
    record   one transaction: breaker, budget, verdict and its token; permit and slot given back
    wait     holding nothing; then from the top

From park to record a cancellation only hastens the stop: it is raised after the record.
"""

import asyncio
from typing import Any

from policies.failure import Refusal
from policies.verdict import Finish, GiveUp, Reason, Retry, Verdict
from supervisor.attempt import Attempt
from supervisor.events import RunEnded
from supervisor.report import RunReport, Status
from supervisor.steps.admit import abandon, admit
from supervisor.steps.launch import begin, go, park
from supervisor.steps.record import drop, failure_of, note, record
from supervisor.steps.release import release
from supervisor.steps.running import NotedCancellation, Running
from supervisor.store.contract import SUCCEEDED, Refused
from supervisor.tasks import Pending, settled, to_the_end


async def supervise(run: Running) -> RunReport:
    """Carry a run from its admission to its end and return its report; raises only for a cancelled caller."""
    end: Verdict | Refused
    value = None
    try:
        try:
            if run.resumes is None:
                end, value = await attempt_once(run)
            else:
                end = run.resumes
            if type(end) is Retry:
                from supervisor.steps.retrying import retrying  # and with it tenacity: most runs need no retry

                end, value = await retrying(run, end, attempt_once)
        except asyncio.CancelledError as error:
            run.note_cancelled(error)
            end = GiveUp(run.stopped or Reason.CANCELLED)
            await settled(run.effects.store.end(run, run.ending_of(end, None)), run.note_cancelled)
        except BaseException:
            await abandon(run)
            raise
        if type(end) is Refused:  # any other end was written with the last attempt's record
            await settled(run.effects.store.end(run, run.ending_of(end, None)), run.note_cancelled)
    finally:
        run.effects.over(run)
        run.forget()
    report = _close(run, end, value)
    if run.cancelled is not None:
        raise asyncio.CancelledError(*run.cancelled)
    if run.fatal is not None:
        raise run.fatal
    return report


async def attempt_once(run: Running) -> tuple[Verdict | Refused, Any]:  # noqa: C901 - the list above, in one place
    """Make one attempt, from the look to the record. Refused: none was made, and the run holds nothing."""
    while True:
        refused = admit(run)
        if isinstance(refused, Pending):
            refused = await refused
        if refused is None:
            attempt = Attempt(run, run.effects)
            if run.lock_path is not None or run.parks is not None:
                refused = await park(run, attempt)
            if refused is None:
                refused = begin(run, attempt)
                if isinstance(refused, Pending):
                    refused = await refused
        if refused is None:
            break
        if run.number == 0 or refused.reason is not Refusal.BREAKER_OPEN:
            return refused, None  # a retry waits an open breaker out, from the top
        if run.stopped is not None:
            raise NotedCancellation
    if (waiting := go(run, attempt)) is not None:
        await waiting
    failed, error = failure_of(run, attempt), attempt._error
    released = release(run, attempt, error)
    receipt, left = await released if isinstance(released, Pending) else released
    if error is not None:
        drop(run, attempt, error)
        del error
    verdict = record(run, failed, receipt, left)
    if isinstance(verdict, Pending):
        verdict = await to_the_end(verdict, run.note_cancelled)
    note(run, attempt, failed, receipt, verdict, left)
    # Whoever still has the attempt (a cancelled timer keeps the context it was set in) has not what the work made.
    value, attempt._value = attempt._value, None
    return verdict, value if type(verdict) is Finish else None


def _close(run: Running, end: Verdict | Refused, value: Any) -> RunReport:
    last = run.reports[-1].failure if run.reports else None
    status, reason, detail = SUCCEEDED if type(end) is Finish else run.ending_of(end, last)
    policy = run.policy
    report = RunReport(
        run.run_id,
        run.session,
        policy.name,
        policy.hash,
        status,
        reason,
        run.started_unix,
        run.effects.clock.now() - run.started_at,
        tuple(run.reports),
        value if status is Status.SUCCEEDED else None,
        detail,
    )
    if run.effects.events.listeners:
        run.effects.events.emit(RunEnded(*run.about(), status, reason, len(report.attempts), report.duration_s, detail))
    return report
