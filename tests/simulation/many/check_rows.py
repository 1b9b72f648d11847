"""I2, I3 and the line, by the store's rows: leases, numbers, places, and who passes whom."""

from policies.gate import Overlap
from supervisor.testing.process import Process
from tests.simulation.facts import Facts, RunFacts
from tests.simulation.many.rows import AttemptRow, Rows, RunRow
from tests.simulation.scenario import Scenario

EPS = 1e-6
HOLDING = ("permitted", "running")


class Leases:
    """One session's attempts and permits."""

    def __init__(self, facts: Facts, rows: Rows, scenario: Scenario) -> None:
        self.facts, self.rows, self.scenario = facts, rows, scenario
        self.newest_fence = 0

    def on_row_began(self, run: RunFacts, row: AttemptRow) -> None:
        who, facts = f"attempt {row.number} of run {run.key}", self.facts
        if row.fence <= self.newest_fence:
            facts.violation("I2", f"{who} has fence {row.fence}, and {self.newest_fence} was given before")
        self.newest_fence = max(self.newest_fence, row.fence)
        if row.number != run.number + 1:
            facts.violation("I3", f"{who} begins after attempt {run.number}")
        run.number = row.number
        if row.number > run.policy.budget.attempts:
            facts.violation("I3", f"{who}: its budget is {run.policy.budget.attempts} attempts")
        runs = [self.rows.run(each.run) for each in self.rows.now.under_way(run.session)]
        if len(runs) > max(each.policy.gate.permits for each in runs):
            facts.violation("I2", f"{who} begins beside {[each.key for each in runs if each is not run]}")
        if any(session == run.session for session, _ in self.rows.before.quarantines & self.rows.now.quarantines):
            facts.violation("I4", f"{who} begins, and {run.session} is quarantined")
        if self.rows.process_of[row.owner] is not self.rows.committer:
            facts.violation("I2", f"{who} is begun by another process than its own")
        self._check_retry(run, row, who)
        self._check_replaces(run, row, who)

    def on_row_unbegun(self, run: RunFacts, row: AttemptRow) -> None:
        run.number = row.number - 1

    def _check_retry(self, run: RunFacts, row: AttemptRow, who: str) -> None:
        if row.number == 1:
            return
        before = [each for each in self.rows.now.attempts.values() if each.run == row.run and each is not row][-1]
        if before.said.get("action") != "retry":
            self.facts.violation("I4", f"{who} begins, and the verdict was {before.said}")
        elif self.facts.clock.now() < before.said["at"] - EPS:
            self.facts.violation("due", f"{who} begins {before.said['at'] - self.facts.clock.now():.3f} s early")
        for above in run.line():
            above.retries_in_tree += 1
            if above.retries_in_tree > above.policy.budget.attempts - 1:
                text = f"{who} is retry {above.retries_in_tree} within run {above.key}"
                self.facts.violation("I3", f"{text}, which has {above.policy.budget.attempts} attempts")

    def _check_replaces(self, run: RunFacts, row: AttemptRow, who: str) -> None:
        if not self.rows.now.runs[row.run].replaces or row.number > 1:
            return
        older = [
            self.rows.run(each.seq).key
            for each in self.rows.now.runs.values()
            if each.session == run.session and each.seq < row.run and each.state != "ended"
        ]
        if older:
            self.facts.violation("gate", f"{who} begins, and runs {older}, which it replaces, are not over")

    # --- permits and places

    def on_row_came(self, run: RunFacts, row: RunRow) -> None:
        if row.state in HOLDING:
            self._check_permits(run, row)
            if [place for place in self.rows.before.places if place.session == row.session and not place.newest]:
                self.facts.violation("line", f"run {run.key} is let in, and others wait in line")
        elif run.policy.gate.overlap is Overlap.SKIP and row.state == "waiting":
            under_way = [each for each in self._others(row) if each.state != "ended"]
            if len(under_way) >= run.policy.gate.permits:
                self.facts.violation("gate", f"run {run.key} waits, and is one to be skipped")

    def on_row_moved(self, run: RunFacts, was: RunRow, row: RunRow) -> None:
        if was.state == "ended" and row.state != "ended":
            self.facts.violation("rows", f"run {run.key} was ended, and is {row.state}")
        if row.state in HOLDING and was.state not in HOLDING:
            self._check_permits(run, row)
            self._check_passes(run, row)

    def _others(self, row: RunRow) -> list[RunRow]:
        return [each for each in self.rows.now.runs.values() if each.session == row.session and each is not row]

    def _check_permits(self, run: RunFacts, row: RunRow) -> None:
        holding = [self.rows.run(each.seq) for each in self._others(row) if each.state in HOLDING]
        if len(holding) >= max(each.policy.gate.permits for each in (run, *holding)):
            text = f"run {run.key} gets a permit beside {[each.key for each in holding]}"
            self.facts.violation("I2", text)

    def _check_passes(self, run: RunFacts, row: RunRow) -> None:
        """Nobody who waits stands before whoever is let in."""
        mine = [place for place in self.rows.before.places if place.run == row.seq]
        for place in self.rows.now.places:
            if place.session == row.session and not place.newest and mine and (mine[0].newest or place < mine[0]):
                text = f"run {run.key} passes run {self.rows.run(place.run).key}, which stood before it"
                self.facts.violation("line", text)

    def on_committed(self, process: Process, name: str) -> None:
        slots = self.scenario.running
        taken = [row for row in self.rows.now.runs.values() if row.slot]
        if slots is not None and len(taken) > slots:
            self.facts.violation("host", f"{len(taken)} of {slots} slots of the host are taken")
