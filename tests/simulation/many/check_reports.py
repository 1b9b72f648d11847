"""I7 for callers in any process: they see what their rows say, and are cancelled only where somebody did that."""

import asyncio
from typing import Any

from supervisor import RunFailed, RunRefused, RunReport, Status, StoreUnavailable
from supervisor.testing.faults import Blow, Strike
from tests.simulation.facts import Facts, RunFacts
from tests.simulation.many.rows import Rows
from tests.simulation.scenario import Scenario


class Reports:
    """What a run comes out as."""

    def __init__(self, facts: Facts, rows: Rows, scenario: Scenario) -> None:
        self.facts, self.rows = facts, rows
        self.may_fail = {
            each.process for each in scenario.faults if isinstance(each, Strike) and each.blow == Blow.FAILS
        }

    def on_over(self, run: RunFacts, end: Any) -> None:
        who, facts = f"run {run.key}", self.facts
        match end:
            case asyncio.CancelledError():
                if not any(above.cancelled or _is_stopped(above) for above in run.line()):
                    facts.violation("cancel", f"{who} raises CancelledError, and nobody cancelled it")
            case StoreUnavailable():
                if run.process is None or run.process.name not in self.may_fail:
                    facts.violation("I7", f"{who} raises {end}, and its store did not fail")
            case RunReport():
                if end.status is not Status.SUCCEEDED:
                    facts.violation("I7", f"{who} returns a report that says {end.status}")
                self._check_report(run, end, who)
            case RunFailed() | RunRefused():
                if run.cancelled and run.parent is None:
                    facts.violation("cancel", f"{who}: its caller was cancelled, and sees {type(end).__name__}")
                self._check_report(run, end.report, who)
            case _:
                facts.violation("I7", f"{who} raises {type(end).__name__}: {end}")

    def _check_report(self, run: RunFacts, report: RunReport, who: str) -> None:
        numbers = [attempt.number for attempt in report.attempts]
        if numbers != list(range(1, run.number + 1)):
            self.facts.violation("I7", f"{who}: its report has attempts {numbers} of {run.number}")
        row = next((row for row in self.rows.now.runs.values() if row.id == run.run_id), None)
        if run.taken and report.reason not in ("lost", "cancelled", "replaced"):
            self.facts.violation("I7", f"{who} was taken, and is reported as {report.status} ({report.reason})")
        if row is None or row.status is None or run.taken or (run.process and run.process.name in self.may_fail):
            return
        if row.status != report.status:
            self.facts.violation("I7", f"{who} is reported as {report.status}, and its row says {row.status}")


def _is_stopped(run: RunFacts) -> bool:
    """Say whether it is over, or an attempt of it was told to end, and with it what runs within."""
    return run.ended_at is not None or any(body.told_at is not None for body in run.bodies.values())
