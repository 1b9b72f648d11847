"""I7: what the caller sees is what happened, and never a CancelledError that nobody sent."""

import asyncio
import math
from typing import Any

from policies.failure import Failed, Gone, Kind, Outcome, Receipt, Unknown
from policies.verdict import Finish, Quarantine, Reason
from supervisor import RunFailed, RunRefused, RunReport, Status
from supervisor.events import AttemptEnded, AttemptStarted, RunEnded
from supervisor.store.contract import Standing
from tests.simulation.endings import Interrupt
from tests.simulation.facts import BodyFacts, Facts, RunFacts

EPS = 1e-6
_STOPS = (Kind.TIMEOUT, Kind.IDLE, Kind.BUSY, Kind.CANCELLED)


class Reports:
    """Failures as recorded, reports as given, events as delivered."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    # --- what is recorded is what the body did

    def on_recording(
        self, run: RunFacts, standing: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None
    ) -> None:
        body, who = run.bodies.get(run.number), f"attempt {run.number} of run {run.key}"
        interrupted = body is not None and body.raised in ("KeyboardInterrupt", "SystemExit", "Interrupt")
        if stopped is Reason.CANCELLED and not interrupted and not self._may_be_cancelled(run):
            self.facts.violation("cancel", f"{who} is recorded as cancelled, and nobody cancelled it")
        if body is None or isinstance(receipt, Unknown):
            if isinstance(receipt, Unknown) and failed is None:
                self.facts.violation("I7", f"{who} is unconfirmed, and recorded as a success")
            return
        if body.told_at is not None:
            self._check_stopped(run, body, failed, stopped, who)
        elif body.how == "returned":
            if failed is not None and failed.kind not in _STOPS:
                self.facts.violation("I7", f"{who} returned, and is recorded as {failed.kind}: {failed.message}")
        elif failed is None:
            self.facts.violation("I7", f"{who} {body.how}, and is recorded as a success")
        elif failed.kind not in _STOPS or body.how == "cancelled":
            self._check_failure(body, failed, who)

    def _check_failure(self, body: BodyFacts, failed: Failed, who: str) -> None:
        if body.kind and failed.kind.value != body.kind:
            self.facts.violation("I7", f"{who} failed as {body.kind}, and is recorded as {failed.kind}")
        if body.text and body.text not in failed.message:
            self.facts.violation("I7", f"{who} failed with {body.text!r}, and is recorded as {failed.message!r}")

    def _check_stopped(
        self, run: RunFacts, body: BodyFacts, failed: Failed | None, stopped: Reason | None, who: str
    ) -> None:
        facts = self.facts
        if failed is None or failed.kind not in _STOPS:
            said = "a success" if failed is None else failed.kind
            facts.violation("I7", f"{who} was told to end, and is recorded as {said}")
            return
        told = body.told_at or 0.0
        idle_s = run.policy.attempt.idle_timeout_s
        idle_at = math.inf if idle_s is None else body.beat_at + idle_s
        if failed.kind is not Kind.CANCELLED and (failed.kind is Kind.BUSY) != body.locking:
            waits = "waited" if body.locking else "did not wait"
            facts.violation("I7", f"{who} is recorded as {failed.kind}, and {waits} for a lock when it was told to end")
        match failed.kind:
            case Kind.TIMEOUT:
                early = told < body.attempt_deadline - EPS
            case Kind.IDLE:
                just_now = body.tree is not None and told <= body.beat_at + EPS  # it wrote in that very instant
                early = told < idle_at - EPS and not just_now
            case Kind.BUSY:
                early = told < min(body.attempt_deadline, idle_at) - EPS
            case _:
                early = stopped is None
        if early:
            facts.violation("I7", f"{who} is recorded as {failed.kind}, and that was not so")

    # --- how the caller sees it

    def _may_be_cancelled(self, run: RunFacts) -> bool:
        if run.cancelled:
            return True
        above = run.parent
        return above is not None and bool(above.bodies[run.parents_attempt].thrown_at)

    def on_over(self, run: RunFacts, end: Any) -> None:
        who, facts = f"run {run.key}", self.facts
        bound = run.deadline + 2 * run.policy.attempt.grace_s + 1.0 + facts.slack_s
        if run.run_id and facts.clock.now() > bound + EPS:
            facts.violation("time", f"{who} ends {facts.clock.now() - run.deadline:.3f} s after its deadline")
        match end:
            case asyncio.CancelledError():
                if not self._may_be_cancelled(run):
                    facts.violation("cancel", f"{who} raises CancelledError, and nobody cancelled it")
                return
            case RuntimeError() if facts.leaving_at is not None and not run.run_id:
                return  # asked for within an attempt while the supervisor was being left
            case KeyboardInterrupt() | SystemExit() | Interrupt():
                if not any(body.raised == type(end).__name__ for body in run.bodies.values()):
                    facts.violation("I7", f"{who} raises {type(end).__name__}, and no attempt did")
                return
            case _:
                pass
        if run.cancelled and run.parent is None:
            facts.violation("cancel", f"{who}: its caller was cancelled, and sees {type(end).__name__}")
        match end:
            case RunReport():
                self._check_report(run, end, who)
                if end.status is not Status.SUCCEEDED:
                    facts.violation("I7", f"{who} returns a report that says {end.status}")
            case RunFailed() | RunRefused():
                self._check_report(run, end.report, who)
                self._check_error(run, end, who)
            case _:
                facts.violation("I7", f"{who} raises {type(end).__name__}: {end}")

    def _check_report(self, run: RunFacts, report: RunReport, who: str) -> None:
        facts = self.facts
        if [attempt.number for attempt in report.attempts] != list(range(1, run.number + 1)):
            facts.violation(
                "I7", f"{who}: its report has attempts {[a.number for a in report.attempts]} of {run.number}"
            )
            return
        for attempt, record in zip(report.attempts, run.records, strict=True):
            if isinstance(record.receipt, Gone) and attempt.failure != record.failed:
                facts.violation("I7", f"{who}: attempt {attempt.number} is reported with {attempt.failure}")
            if (attempt.outcome is Outcome.UNCONFIRMED) != isinstance(record.receipt, Unknown):
                facts.violation("I7", f"{who}: attempt {attempt.number} is reported as {attempt.outcome}")
        last = run.records[-1].verdict if run.records else None
        if (report.status is Status.SUCCEEDED) != isinstance(last, Finish):
            facts.violation("I7", f"{who} is {report.status}, and its last verdict {last}")
        if (report.status is Status.QUARANTINED) != isinstance(last, Quarantine):
            facts.violation("I7", f"{who} is {report.status}, and its last verdict {last}")

    def _check_error(self, run: RunFacts, error: RunFailed | RunRefused, who: str) -> None:
        busy = run.number == 1 and (failed := run.records[-1].failed) is not None and failed.kind is Kind.BUSY
        if busy and (body := run.bodies.get(1)) is not None:
            busy = body.raised not in ("RunFailed", "ExceptionGroup")  # that was a run within it: it ran itself
        refused = (busy or run.number == 0) and error.report.status is not Status.CANCELLED
        if isinstance(error, RunRefused) != refused:
            self.facts.violation("I7", f"{who} raises {type(error).__name__} after {run.number} attempts")
        if isinstance(error, RunFailed):
            for attempt in error.report.attempts:
                failure = attempt.failure
                if failure is not None and f"attempt {attempt.number}: {failure.kind}: {failure.message}" not in str(
                    error
                ):
                    self.facts.violation("I7", f"{who}: its error does not name attempt {attempt.number}")

    # --- events

    def on_event(self, run: RunFacts | str, event: Any) -> None:
        if isinstance(run, RunFacts):  # a run within one of its own session is refused before the store knows it
            run.events.append(event)

    def on_end(self, store: Any) -> None:
        for run in self.facts.runs.values():
            if not run.run_id or run.ended_at is None:
                continue
            for kind in (AttemptStarted, AttemptEnded):
                count = sum(1 for event in run.events if isinstance(event, kind))
                if count != run.number:
                    text = f"run {run.key} made {run.number} attempts, and {count} events say {kind.__name__}"
                    self.facts.violation("events", text)
            if sum(1 for event in run.events if isinstance(event, RunEnded)) != 1:
                self.facts.violation("events", f"run {run.key} has not one RunEnded")
