"""Bugs, each the smallest change of the engine that makes it: to see that the checker would find them.

The product knows nothing of them: a part of it is replaced while a simulation runs.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import policies.breaker
import policies.verdict
import supervisor.attempt
import supervisor.recovery.left_behind
import supervisor.run
import supervisor.steps.admit
import supervisor.steps.host_limits
import supervisor.steps.launch
import supervisor.steps.release
import supervisor.steps.retrying
import supervisor.steps.running
import supervisor.steps.stop
from policies.breaker import Report
from policies.failure import Failed, Gone, Kind, Outcome, Receipt, Unknown
from policies.gate import Traffic
from policies.verdict import Reason, Verdict
from supervisor.attempt import Attempt, Held
from supervisor.steps.host_limits import HostLimits
from supervisor.steps.running import Running
from supervisor.store.contract import Ending, Refused, Standing, Waiting
from supervisor.store.memory import MemoryStore
from supervisor.store.session_line import SessionLine
from supervisor.tasks import settled, start_plain, wait_until
from tests.simulation.replaced import Replaced
from tests.simulation.simulate import Plant

_ = Outcome


# --- the gate


class PermitLeaks(MemoryStore):
    """Cancelled in the instant in which its turn came, a run keeps the permit."""

    def leave(self, run: Standing) -> None:
        if run.holds_permit and run.turn is not None:
            run.turn = None
            self._lines[run.session].standing.pop(run, None)
            return
        super().leave(run)


class LostWakeUp(MemoryStore):
    """A permit that is given back by a run that leaves is not passed on."""

    def leave(self, run: Standing) -> None:
        with patch.object(SessionLine, "pass_on"):
            super().leave(run)


_stand = SessionLine._stand


def _stand_in_front(line: SessionLine, run: Standing) -> Waiting:
    """The line is served from its end."""
    answer = _stand(line, run)
    if run in line.waiting and len(line.waiting) > 1:
        line.waiting.remove(run)
        line.waiting.appendleft(run)
    return answer


def _line_not_told(_line: SessionLine, _refusal_of: Any) -> None:
    """When the breaker opens, those in line are not told."""


class EndlessWait(MemoryStore):
    """Neither `wait` nor the deadline bounds the time in line."""

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        return await super().turn(run, None if until is None else until + 10.0)


def _traffic_without_backoff(line: SessionLine) -> Traffic:
    """Runs in their backoff are not under way."""
    return Traffic(line.running, line.in_line, line.running, len(line.waiting) - line.in_line)


# --- tokens


class TokenKept(MemoryStore):
    """Cancelled in its backoff, a retry does not give its token back."""

    def end(self, run: Standing, ending: Ending) -> None:
        with patch.object(self, "_give_back"):
            super().end(run, ending)


class TokenKeptInBegin(MemoryStore):
    """Cancelled while it is begun, a retry whose work never starts does not give its token back."""

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        run.never_launched = False
        return super().record(run, failed, receipt, stopped)


def _parent_not_charged(_run: Standing, _retries: int) -> None:
    """A retry of a nested run takes nothing from its parent."""


class FreeRetries(MemoryStore):
    """The token of a retry is given back when it is launched."""

    def begin(self, run: Standing) -> Any:
        if run.retry_reserved:
            self._give_back(run)
            run.charge_parents(1)
        return super().begin(run)


# --- the receipt


class RetryOnUnknown(MemoryStore):
    """What was not proved dead is taken for gone."""

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        if isinstance(receipt, Unknown) and failed is not None:
            failed, receipt = Failed(Kind.TIMEOUT, failed.message), Gone(receipt.steps)
        return super().record(run, failed, receipt, stopped)


_release = supervisor.steps.release.release


def _release_later(run: Running, attempt: Attempt, error: BaseException | None) -> Any:
    """The verdict does not wait for the release."""
    released = _release(run, attempt, error)
    if asyncio.iscoroutine(released):
        start_plain(released)
        return supervisor.steps.release._ENDED
    return released


def _unguarded(self: Attempt, path: Any, lock: Any) -> None:
    """The lock is let go though the work may live."""
    if self._scope is None:
        self._scope = []
    self._scope.append(Held(f"lock {path}.lock", lambda _: lock.release()))


def _drop_kept(run: Running, attempt: Attempt, error: BaseException) -> None:
    """The run keeps the exception of its last attempt."""
    run.last_error = error  # type: ignore[attr-defined]
    attempt._error = None


async def _lift_at_once(self: Any, session: str, run_id: str, _attempt: Attempt, _left: Any) -> None:
    """A quarantine ends after a while, whatever lives."""
    await self._clock.sleep(0.5)
    await self._store.lift(session, run_id)


# --- the breaker


_record_half_open = policies.breaker._record_half_open


def _place_leaks(rule: Any, state: Any, report: Report, now: float, draw: Any) -> Any:
    """A trial with an uncounted outcome keeps its place."""
    return state if report is Report.UNCOUNTED else _record_half_open(rule, state, report, now, draw)


_breaker_record = policies.breaker.record


def _late_counts(rule: Any, state: Any, admitted: Any, report: Report, now: float, draw: Any) -> Any:
    """A report from before a transition counts."""
    now_admitted = policies.breaker.Admitted(state.generation, admitted.trial)
    return _breaker_record(rule, state, now_admitted, report, now, draw)


_report_of = policies.verdict.report_of


def _cancellation_counts(case: Any) -> Report:
    """A cancellation counts as a failure."""
    return Report.COUNTED if case.stopped is not None and case.failed is not None else _report_of(case)


def _no_trials(_rule: Any, _state: Any, _now: float) -> None:
    """Half open, everybody may try."""


def _own_cap_only(rule: Any, moment: float, _wait_s: float, now: float) -> bool:
    """A policy with a smaller cap takes what another one opened for the moment of a clock that was set back."""
    return now < moment <= now + float(rule.cooldown_cap_s) * (1.0 + policies.breaker.JITTER)


# --- cancellation and time


_stop = supervisor.steps.stop.stop


def _stop_twice(run: Running, attempt: Attempt, cause: Any, *rest: Any) -> None:
    """A second cancellation is passed on to the work."""
    task = attempt._task
    if attempt._stop_at is not None and task is not None and not task.done():
        task.cancel()
    _stop(run, attempt, cause, *rest)


def _cancellation_swallowed(self: Running, error: asyncio.CancelledError) -> None:
    """A cancelled caller is told that its run has failed."""
    self._interrupting = False
    self.task.uncancel()
    if self.interrupted is None:
        self.interrupted = Reason.REPLACED


def _uncancelled(self: Running, error: asyncio.CancelledError) -> None:
    """A run that is replaced raises CancelledError at its caller."""
    self.cancelled = error.args


def _busy_is_late(run: Running, attempt: Attempt, cause: Any) -> None:
    """An attempt whose time is up while it waits for a lock has timed out."""
    _stop(run, attempt, Kind.TIMEOUT if cause is Kind.BUSY else cause)


_begin = supervisor.steps.launch.begin


def _begin_too_late(run: Running, attempt: Attempt) -> Any:
    """A run whose deadline has passed by the time that it may start is started."""
    deadline, run.deadline = run.deadline, None
    answer = _begin(run, attempt)
    run.deadline = deadline
    return answer


def _no_heartbeat(_attempt: Attempt) -> None:
    """A heartbeat does not count."""


async def _leave_slot(run: Running) -> None:
    """Whoever gives its place up keeps its slot."""
    await settled(run.effects.store.leave(run), run.note_cancelled)


def _slots_not_handed_out(self: HostLimits, run: Running) -> None:
    """A slot that comes back is not handed out to those who wait."""
    if run.holds_slot:
        run.holds_slot = False
        self._running -= 1


async def _door_stays_shut(self: HostLimits, run: Running, *, at_head: bool) -> bool:
    """Cancelled in the instant in which it reaches the door, a run leaves it shut behind it."""
    place = self._door_line.join(run, at_head=at_head)
    try:
        return await wait_until(place, run.deadline)
    finally:
        if not place.done():
            self._door_line.drop(place)


def _guards_forgotten(self: Any, run: Standing, attempt: Attempt, left: Any) -> None:
    """What guarded a quarantined session is never let go."""
    left.guards = []
    _watch(self, run, attempt, left)


_watch = supervisor.recovery.left_behind.Recovery.watch


_due = policies.verdict._due


def _retry_after_ignored(case: Any, failed: Failed, state: Any, now: float, draw: Any) -> float:
    """Retry-After is not waited for."""
    return _due(case, Failed(failed.kind, failed.message), state, now, draw)


PLANTED: dict[str, Callable[[], Plant]] = {
    "permit leaks when cancelled as its turn comes": lambda: Replaced(store=PermitLeaks),
    "a permit that is given back in line is not passed on": lambda: Replaced(store=LostWakeUp),
    "the line is served from its end": lambda: Replaced((SessionLine, "_stand", _stand_in_front)),
    "the line is not told that the breaker opens": lambda: Replaced((SessionLine, "refuse", _line_not_told)),
    "the wait in line has no end": lambda: Replaced(store=EndlessWait),
    "overlap does not see backoffs": lambda: Replaced((SessionLine, "traffic", _traffic_without_backoff)),
    "the token is kept when cancelled in backoff": lambda: Replaced(store=TokenKept),
    "the token is kept when cancelled while begun": lambda: Replaced(store=TokenKeptInBegin),
    "retries cost nothing": lambda: Replaced(store=FreeRetries),
    "nested retries do not charge the parent": lambda: Replaced((Standing, "charge_parents", _parent_not_charged)),
    "retry on an unknown receipt": lambda: Replaced(store=RetryOnUnknown),
    "the verdict comes before the release": lambda: Replaced((supervisor.run, "release", _release_later)),
    "the lock is let go while the work lives": lambda: Replaced((Attempt, "_keep", _unguarded)),
    "the exception is kept": lambda: Replaced((supervisor.run, "drop", _drop_kept)),
    "a quarantine is lifted by age": lambda: Replaced(
        (supervisor.recovery.left_behind.Recovery, "_lift_when_ended", _lift_at_once)
    ),
    "a trial place leaks on an uncounted outcome": lambda: Replaced(
        (policies.breaker, "_record_half_open", _place_leaks)
    ),
    "a late report counts": lambda: Replaced((policies.verdict, "record", _late_counts)),
    "a cancellation counts for the breaker": lambda: Replaced((policies.verdict, "report_of", _cancellation_counts)),
    "half open, everybody may try": lambda: Replaced((policies.breaker, "_trial_refused", _no_trials)),
    "a smaller cap ends the cooldown of a larger one": lambda: Replaced((policies.breaker, "_is_ahead", _own_cap_only)),
    "a second cancellation cuts the stop short": lambda: Replaced((supervisor.steps.launch, "stop", _stop_twice)),
    "a cancelled caller sees a failure": lambda: Replaced((Running, "note_cancelled", _cancellation_swallowed)),
    "a replaced run raises CancelledError": lambda: Replaced((Running, "note_cancelled", _uncancelled)),
    "a run starts after its deadline": lambda: Replaced(
        (supervisor.run, "begin", _begin_too_late), (supervisor.steps.admit, "too_late", lambda _: None)
    ),
    "a lock that stays busy is a timeout": lambda: Replaced((supervisor.steps.stop, "stop", _busy_is_late)),
    "heartbeats do not count": lambda: Replaced((Attempt, "heartbeat", _no_heartbeat)),
    "a slot leaks where a lock is busy": lambda: Replaced((supervisor.steps.launch, "give_up_place", _leave_slot)),
    "a slot that comes back is not handed out": lambda: Replaced((HostLimits, "leave", _slots_not_handed_out)),
    "the door stays shut": lambda: Replaced((HostLimits, "_reach_door", _door_stays_shut)),
    "locks of a quarantined session are never let go": lambda: Replaced(
        (supervisor.recovery.left_behind.Recovery, "watch", _guards_forgotten)
    ),
    "Retry-After is ignored": lambda: Replaced((policies.verdict, "_due", _retry_after_ignored)),
}
