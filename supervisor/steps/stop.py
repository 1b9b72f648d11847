"""Ask, then force: how an attempt's task is made to end, and when it is given up."""

import asyncio

from policies.failure import Kind
from policies.verdict import Reason
from supervisor.attempt import Attempt
from supervisor.events import AttemptStopping
from supervisor.steps.running import Running


def watch_time(run: Running, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
    """Arm the timer that stops the attempt at its deadline, or when it was idle for too long."""
    due = attempt.deadline
    idle_s = run.policy.attempt.idle_timeout_s
    if idle_s is not None and (due is None or attempt._beat_at + idle_s < due):
        due = attempt._beat_at + idle_s
    if due is not None:
        attempt._timer = loop.call_at(due, _time_is_up, run, attempt, loop)


def _time_is_up(run: Running, attempt: Attempt, loop: asyncio.AbstractEventLoop) -> None:
    now, idle_s = run.effects.clock.now(), run.policy.attempt.idle_timeout_s
    if attempt.deadline is not None and now >= attempt.deadline:
        stop(run, attempt, Kind.TIMEOUT, loop)
    elif idle_s is not None and now >= attempt._beat_at + idle_s:
        stop(run, attempt, Kind.IDLE, loop)
    else:  # a heartbeat came meanwhile
        watch_time(run, attempt, loop)


def stop(run: Running, attempt: Attempt, cause: Kind | Reason, loop: asyncio.AbstractEventLoop) -> None:
    """Ask the attempt to end; after `grace` it is given up. Only the first cause counts, and it asks once.

    A second cancellation would cut short the work's own cleaning up.
    """
    task = attempt._task
    if attempt._stop_at is not None or task is None or task.done():
        return
    grace_s = run.policy.attempt.grace_s
    attempt._cause = cause
    attempt._stop_at = run.effects.clock.now()
    if attempt._timer is not None:
        attempt._timer.cancel()
    attempt._timer = loop.call_at(attempt._stop_at + grace_s, _give_up, attempt)
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
