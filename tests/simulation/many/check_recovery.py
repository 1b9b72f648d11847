"""Recovery: what a killed process had under way is ended by others, soon, and in the end nothing is left of anybody."""

import asyncio
from typing import TYPE_CHECKING

from supervisor.testing.process import Process, State
from tests.simulation.facts import Facts, is_unproved
from tests.simulation.many.rows import Rows

if TYPE_CHECKING:
    from tests.simulation.many.simulate import Simulation

SOON_S = 0.25
"""Until a killed owner's session is free for others, its polls and transactions included."""

POLL_S = 0.1


class Recoveries:
    """Who is dead, what it had, and who could have seen it."""

    def __init__(self, facts: Facts, rows: Rows, simulation: "Simulation") -> None:
        self.facts, self.rows, self.simulation = facts, rows, simulation

    def on_killed(self, name: str, process: Process) -> None:
        """Look again soon: a process that has had a run under way all the time looks at the others each 100 ms."""
        scenario = self.simulation.scenario
        if scenario.slowness.share:
            return
        watchers = [each for each in self._watching() if each is not process]
        if watchers:
            late_s = SOON_S + POLL_S + self._stopping_s(process)
            asyncio.get_running_loop().call_later(late_s, self._look_again, process, watchers)

    def _watching(self) -> "list[Process]":
        """Return the processes that have had a run under way for a while, and run."""
        rows = self.rows.now
        owners = {row.owner for row in rows.runs.values() if row.state != "ended"}
        running = [self.rows.process_of[owner] for owner in sorted(owners)]
        return [process for process in running if process.state is State.RUNS]

    def _stopping_s(self, process: Process) -> float:
        """How long the wardens of a process may take to end once nothing is left."""
        trees = [tree for run in self.facts.runs.values() if run.process is process for tree in run.trees]
        return max((tree.script.ends_in_s + tree.script.starts_in_s for tree in trees), default=0.0)

    def _look_again(self, process: Process, watchers: "list[Process]") -> None:
        if self.facts.is_over or not any(each in self._watching() and each.frozen_at is None for each in watchers):
            return
        left = [
            self.rows.run(row.seq).key
            for row in self.rows.now.runs.values()
            if row.state != "ended" and self.rows.process_of[row.owner] is process
        ]
        if left:
            self.facts.violation("recovery", f"{process.name} was killed, and {left} are still under way")

    def on_end(self) -> None:
        """All are dead but the last one, which has looked: nothing is left but what nobody can prove."""
        now, facts = self.rows.now, self.facts
        unknown = {session for session, _ in now.quarantines}
        if left := [facts.by_id[row.id].key for row in now.runs.values() if row.state != "ended"]:
            facts.violation("rest", f"runs {left} are not ended")
        if left := [self.rows.run(row.run).key for row in now.attempts.values() if row.outcome is None]:
            facts.violation("rest", f"attempts of runs {left} have no outcome")
        if now.places or now.host_places:
            facts.violation("rest", f"places are left in line: {now.places}, {now.host_places} of the host")
        if left := [row.id for row in now.runs.values() if row.slot]:
            facts.violation("rest", f"slots are left: {left}")
        for session, run_id in sorted(now.quarantines):
            below = facts.by_id[run_id].tree_of_runs()
            if not any(is_unproved(tree) or tree.processes for each in below for tree in each.trees):
                facts.violation("rest", f"{session} is quarantined for run {facts.by_id[run_id].key} without a cause")
        if not unknown and len(now.owners) > 1:
            facts.violation("rest", f"owners are left: {[self.rows.name_of(owner) for owner in now.owners]}")
        self._check_counted()

    def _check_counted(self) -> None:
        """Each attempt whose work was seen is in the rows, and no row says more than was begun."""
        for run in self.facts.runs.values():
            rows = [row for row in self.rows.now.attempts.values() if self.rows.now.runs[row.run].id == run.run_id]
            missing = set(run.bodies) - {row.number for row in rows}
            if missing:
                self.facts.violation("I3", f"run {run.key}: attempts {sorted(missing)} were made, and are not counted")
