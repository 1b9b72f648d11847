"""I2 and I4 across processes: what really lives at once, and what of an attempt lives when it is recorded as over."""

from supervisor.testing.process import State
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.tree_script import Happening
from tests.simulation.facts import BodyFacts, Facts, RunFacts, is_gone, is_unknown
from tests.simulation.many.rows import AttemptRow, Rows
from tests.simulation.scenario import Scenario

EPS = 1e-6


class Bodies:
    """A body in a process lives until it has ended or its process is dead; a command's, as long as its processes do."""

    def __init__(self, facts: Facts, rows: Rows, scenario: Scenario) -> None:
        self.facts, self.rows, self.scenario = facts, rows, scenario

    def living(self, session: str) -> list[RunFacts]:
        """Return the run of each body of a session that lives, however often it has one."""
        now = self.facts.clock.now()
        of_session = [run for run in self.facts.runs.values() if run.session == session]
        bodies = [body.run for run in of_session for body in run.bodies.values() if is_living(body, now)]
        return bodies + [run for run in of_session for tree in run.trees if runs(tree) and not is_forgiven(run, tree)]

    def on_body_starting(self, body: BodyFacts) -> None:
        if body.tree is None:
            self._check_beside(body.run, f"attempt {body.number} of run {body.run.key}", self.living(body.run.session))
            self._check_slots(body.run)

    def on_tree_started(self, run: RunFacts, tree: SimulatedTree) -> None:
        others = self.living(run.session)
        others.remove(run)
        self._check_beside(run, f"{tree.name} of run {run.key}", others)
        self._check_slots(run)

    def _check_beside(self, run: RunFacts, who: str, others: list[RunFacts]) -> None:
        most = max(each.policy.gate.permits for each in (run, *others))
        if len(others) >= most:
            self.facts.violation("I2", f"{who} starts beside what lives of {[other.key for other in others]}")

    def _check_slots(self, run: RunFacts) -> None:
        """An attempt within another uses its slot."""
        slots = self.scenario.running
        if slots is None or run.parent is not None:
            return
        sessions = sorted({each.session for each in self.facts.runs.values()})
        roots = [each for session in sessions for each in self.living(session) if each.parent is None]
        roots = [each for each in roots if not each.unconfirmed]  # what was given up has no slot any more
        if run not in roots:
            roots.append(run)
        if len(roots) > slots:
            text = f"run {run.key} is one of {[each.key for each in roots]} that run, and the host has {slots} slots"
            self.facts.violation("host", text)

    # --- record

    def on_row_recorded(self, run: RunFacts, row: AttemptRow) -> None:
        who, body = f"attempt {row.number} of run {run.key}", run.bodies.get(row.number)
        if row.outcome == "unconfirmed":
            run.unconfirmed = True
            self._check_unknown(run, row, who)
            return
        now = self.facts.clock.now()
        if body is not None and is_living(body, now):
            self.facts.violation("I4", f"{who} is recorded as gone, and lives: {body.how or 'body'} {list(body.open)}")
        alive = [tree.name for tree in run.trees if runs(tree)]
        if alive:
            self.facts.violation("I4", f"{who} is recorded as gone, and {alive} live")
        if row.ended_by == row.owner and run.locks:
            self.facts.violation("I1", f"{who} is recorded, and holds {[lock.path.name for lock in run.locks]}")
        if row.ended_by != row.owner:
            run.taken = True
            self._check_taken(run, row, who)

    def _check_taken(self, run: RunFacts, row: AttemptRow, who: str) -> None:
        """Another process ended it: its own is dead, or was silent for the lease, and then only a command is taken."""
        process = self.rows.process_of[row.owner]
        if process.lives and row.tree_life is None:
            self.facts.violation("I2", f"{who} is recorded as lost, and {process.name} lives and has it")
        elif process.lives and not self._was_silent(row.owner):
            self.facts.violation("I2", f"{who} is recorded as lost, and {process.name} was not silent for the lease")
        tree = next((each for each in run.trees if str(each.recorded.life) == row.tree_life), None)
        if tree is not None and not is_gone(tree):
            self.facts.violation("I4", f"{who} is recorded as gone by another, and {tree.name} has not said so")
        succeeded = tree is not None and tree.how_it_exited().code == 0
        if succeeded != (row.outcome == "succeeded"):
            self.facts.violation("I7", f"{who} was lost, and is recorded as {row.outcome}: its command did otherwise")

    def _was_silent(self, owner: str) -> bool:
        return self.facts.clock.now() >= self.rows.before.owners.get(owner, 0.0) + self.scenario.lease_s - EPS

    def _check_unknown(self, run: RunFacts, row: AttemptRow, who: str) -> None:
        if (run.session, run.run_id) not in self.rows.now.quarantines:
            self.facts.violation("I4", f"{who} is unconfirmed, and its session is not quarantined")

    def on_committed(self, process: object, name: str) -> None:
        """A quarantine that is gone has a reason: what it names has ended, or an operator said so."""
        if name == "reset":
            return
        now = self.facts.clock.now()
        for session, run_id in self.rows.before.quarantines - self.rows.now.quarantines:
            run = self.facts.by_id[run_id]
            lives = any(is_living(body, now) for body in run.bodies.values())
            if lives or any(runs(tree) or is_unknown(tree) for tree in run.trees):
                self.facts.violation("I4", f"the quarantine of {session} for run {run.key} is lifted, and that lives")

    def on_reset(self, session: str) -> None:
        for run in self.facts.runs.values():
            if run.session == session and run.unconfirmed:
                for body in run.bodies.values():
                    body.forgiven = True

    def on_over(self, run: RunFacts, end: object) -> None:
        if run.unconfirmed or run.taken:
            return
        now = self.facts.clock.now()
        if any(is_living(body, now) for body in run.bodies.values()):
            self.facts.violation("I4", f"run {run.key} is over, and an attempt of it lives")
        # A parked one that was dismissed may take longer to end than anybody waits for it.
        left = [tree.name for tree in run.trees if not is_gone(tree) and Happening.WENT in tree.at]
        if left:
            self.facts.violation("I1", f"run {run.key} is over, and {left} are not")


def is_living(body: BodyFacts, now: float) -> bool:
    """Say whether work of a process itself lives; frozen, it does."""
    process = body.run.process
    if body.tree is not None or body.forgiven or (process is not None and process.state is State.DEAD):
        return False
    return body.alive(now)


def runs(tree: SimulatedTree) -> bool:
    """Say whether any of its processes lives, but those that it may leave."""
    return tree.processes > 0 and not is_gone(tree)


def is_forgiven(run: RunFacts, tree: SimulatedTree) -> bool:
    return any(body.forgiven for body in run.bodies.values() if body.tree is tree)
