"""Ask, then force: how an attempt's task is made to end, and when it is given up."""

import asyncio
from contextvars import Context

from policies.failure import Kind
from policies.verdict import Reason
from supervisor.attempt import Attempt
from supervisor.events import AttemptStopping
from supervisor.steps.running import Running


def watch_time(run: Running, attempt: Attempt) -> None:
    """Arm what stops the attempt at its deadline, or when it was idle for too long."""
    limits, due = run.policy.attempt, attempt.deadline
    if limits.idle_timeout_s is None and limits.timeout_s is not None and due != run.deadline:
        attempt._alarm_s = limits.timeout_s
        run.effects.alarms.set(limits.timeout_s, attempt, attempt._started_at)
        return
    if limits.idle_timeout_s is not None:
        idle = attempt._idle_since() + limits.idle_timeout_s
        due = idle if due is None else min(due, idle)
    if due is not None:
        attempt._timer = asyncio.get_running_loop().call_at(due, time_is_up, attempt, context=Context())


def time_is_up(attempt: Attempt) -> None:
    """Stop an attempt whose time is up, or whose heartbeat is overdue; else arm what watches it again.

    One that still waits for a lock is busy then: somebody else has its session, which costs it nothing.
    """
    run = attempt._run
    assert isinstance(run, Running), "an attempt that is watched was launched by the engine"
    now, idle_s = run.effects.clock.now(), run.policy.attempt.idle_timeout_s
    if attempt.deadline is not None and now >= attempt.deadline:
        cause = Kind.TIMEOUT
    elif idle_s is not None and now >= attempt._idle_since() + idle_s:
        cause = Kind.IDLE
    else:  # a heartbeat came meanwhile
        watch_time(run, attempt)
        return
    if attempt._awaited:
        cause, attempt._busy = Kind.BUSY, str(next(iter(attempt._awaited.values())).error())
    stop(run, attempt, cause)


def stop(run: Running, attempt: Attempt, cause: Kind | Reason) -> None:
    """Ask the attempt to end; after `grace` it is given up. Only the first cause counts, and it asks once.

    A second cancellation would cut short the work's own cleaning up.
    """
    task = attempt._task
    if attempt._stop_at is not None or task is None or task.done():
        return
    grace_s = run.policy.attempt.grace_s
    attempt._cause = cause
    attempt._stop_at = run.effects.clock.now()
    attempt._forget_time()
    until = attempt._stop_at + grace_s + (0.0 if run.parks is None else run.parks.proof_s)
    attempt._timer = asyncio.get_running_loop().call_at(until, _give_up, attempt, context=Context())
    # A task that is cancelled before its first step never reaches the line that wakes us.
    task.add_done_callback(lambda _: _wake(attempt))
    task.cancel()
    if run.effects.events.listeners:
        run.effects.events.emit(AttemptStopping(*run.about(), attempt.number, str(cause), grace_s))


def _give_up(attempt: Attempt) -> None:
    attempt._abandoned = True
    _wake(attempt)


def _wake(attempt: Attempt) -> None:
    waiter = attempt._waiter
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
