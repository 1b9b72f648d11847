"""Commands: whose tree may live when, what is proved of it, and what is left of it. Trees speak for themselves."""

import math
from pathlib import Path

from policies.failure import Failed, Gone, Kind, Receipt, Unknown
from policies.verdict import Reason
from supervisor.lock.life_file import Exited
from supervisor.store.contract import Standing
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.tree_script import Happening
from supervisor.testing.trees import SimulatedLauncher
from supervisor.tree.contract import TreeGone
from supervisor.work.parked_command import PROOF_S
from tests.simulation.facts import Facts, RunFacts, is_gone, is_unknown

EPS = 1e-6
_AT_ONCE_S = 0.05
"""How soon after its tree's end an attempt is recorded."""

_DRAIN_S = 1.0
_TELL_S = 0.1
"""Of the time for the proof, to say that there is none."""

_OVERDUE = (Kind.TIMEOUT, Kind.IDLE)


class Trees:
    """Every tree, from its warden's start to its end."""

    def __init__(self, facts: Facts, locks: MemoryLockFiles, launcher: SimulatedLauncher) -> None:
        self.facts = facts
        self.locks = locks
        self.launcher = launcher
        self.went: dict[str, list[SimulatedTree]] = {}
        self.limbo: dict[str, list[SimulatedTree]] = {}  # of attempts that were recorded as unconfirmed
        self.of_earlier: dict[RunFacts, int] = {}  # how many of a run's trees were of attempts before this one

    # --- go

    def on_tree_went(self, run: RunFacts, tree: SimulatedTree) -> None:
        who, facts = f"{tree.name} of run {run.key}", self.facts
        if not run.begun:
            facts.violation("I2", f"{who} goes, and its attempt is not begun")
        others = self.went.setdefault(run.session, [])
        others[:] = [other for other in others if not is_gone(other)]
        limbo = self.limbo.get(run.session, [])
        beside = [other for other in others if other not in limbo]
        most = max(each.policy.gate.permits for each in (run, *(other.owner for other in beside)))
        if len(beside) >= most:
            facts.violation("I2", f"{who} goes beside {[other.name for other in beside]}")
        earlier = [other.name for other in run.trees if other is not tree and not self._is_over(other)]
        if earlier:
            facts.violation("I4", f"{who} goes, and {earlier} of the same run are not over")
        if run.lock and tree.warden_lives and self._holder(run) != tree.name:
            facts.violation("I2", f"{who} goes, and {run.lock} is held by {self._holder(run)}")
        others.append(tree)

    def _holder(self, run: RunFacts) -> str | None:
        return self.locks.held().get(Path(run.lock))

    def _is_over(self, tree: SimulatedTree) -> bool:
        """Gone, or a parked one that was dismissed and takes longer to end than anybody waits for it."""
        told_at = tree.at.get(Happening.TOLD)
        is_overdue = told_at is not None and self.facts.clock.now() >= told_at + PROOF_S - EPS
        return is_gone(tree) or (Happening.WENT not in tree.at and is_overdue)

    # --- its lock

    def on_tree_exited(self, run: RunFacts, tree: SimulatedTree) -> None:
        if tree.warden_lives and tree.lock_path is not None and self._holder(run) != tree.name:
            self.facts.violation("I2", f"{tree.name} lives, and its lock is held by {self._holder(run)}")

    on_tree_told = on_tree_unknown = on_tree_exited

    def on_tree_gone(self, run: RunFacts, tree: SimulatedTree) -> None:
        if tree.lock_path is not None and self._holder(run) == tree.name:
            self.facts.violation("I1", f"{tree.name} is gone, and holds its lock")

    # --- record

    def on_recording(
        self, run: RunFacts, standing: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None
    ) -> None:
        trees = run.trees[self.of_earlier.get(run, 0) :]
        self.of_earlier[run] = len(run.trees)
        if not trees:
            return
        tree, who = trees[-1], f"attempt {run.number} of run {run.key}"
        if isinstance(receipt, Unknown):
            run.unconfirmed = True
            self.limbo.setdefault(run.session, []).append(tree)
            self._check_unknown(run, tree, who)
        else:
            self._check_gone(run, tree, failed, receipt, who)
            self._check_failure(run, tree, failed, who)

    def _check_unknown(self, run: RunFacts, tree: SimulatedTree, who: str) -> None:
        """A tree has the grace and a second to be proved gone: before that nobody is quarantined for it, nor later."""
        self._check_in_time(run, tree, who)
        if is_unknown(tree):
            return
        gone_at = tree.at.get(Happening.GONE)
        if gone_at is not None and self.facts.clock.now() > gone_at + _AT_ONCE_S + self.facts.slack_s + EPS:
            self.facts.violation("I4", f"{who} is recorded as unconfirmed, and {tree.name} was gone at {gone_at:.3f}")
        told_at = tree.at.get(Happening.TOLD)
        if told_at is None or self.facts.clock.now() < told_at + self._proof_s(run, tree) - _TELL_S - EPS:
            self.facts.violation("I4", f"{who} is recorded as unconfirmed, and {tree.name} may have been proved gone")

    def _proof_s(self, run: RunFacts, tree: SimulatedTree) -> float:
        return PROOF_S + (run.policy.attempt.grace_s if Happening.WENT in tree.at else 0.0)

    def _check_in_time(self, run: RunFacts, tree: SimulatedTree, who: str) -> None:
        """Nobody waits for a proof for longer than it may take, whatever becomes of the tree."""
        grace_s, body = run.policy.attempt.grace_s, run.bodies.get(run.number)
        told_at = max(tree.at.get(Happening.TOLD, 0.0), (body and body.told_at) or 0.0)
        until = told_at + 2 * grace_s + PROOF_S + _AT_ONCE_S
        if is_unknown(tree):
            until = max(tree.at[Happening.UNKNOWN], (body and body.started_at) or 0.0) + _DRAIN_S + 2 * _AT_ONCE_S
        late_s = self.facts.clock.now() - until - self.facts.slack_s
        if late_s > EPS:
            self.facts.violation("I5", f"{who} is recorded as unconfirmed {late_s:.3f} s too late")

    def _check_gone(self, run: RunFacts, tree: SimulatedTree, failed: Failed | None, receipt: Gone, who: str) -> None:
        facts, gone, now = self.facts, tree.outcome, self.facts.clock.now()
        if not isinstance(gone, TreeGone):
            facts.violation("I4", f"{who} is recorded as gone, and {tree.name} is not: {gone}")
            return
        waited_s = tree.at[Happening.GONE] - tree.at.get(Happening.TOLD, tree.at[Happening.GONE])
        if waited_s > self._proof_s(run, tree) + _AT_ONCE_S:
            facts.violation("I5", f"{who} is recorded as gone: its proof was waited for, {waited_s:.3f} s")
        if receipt.processes_killed != gone.killed:
            facts.violation("I7", f"{who}: {gone.killed} processes were killed, recorded {receipt.processes_killed}")
        may_leave = run.policy.attempt.leave_children and tree.how_it_exited() == Exited(0, None)
        if gone.left and not may_leave:
            facts.violation("I4", f"{who} has left {gone.left}, and may not")
        late_s = now - tree.at[Happening.GONE] - _AT_ONCE_S - facts.slack_s
        stalled_s = _DRAIN_S if tree.script.reader_stalls else 0.0
        body = run.bodies.get(run.number)
        ended_by_itself = tree.at.get(Happening.EXITED, math.inf) <= tree.at.get(Happening.TOLD, math.inf)
        if ended_by_itself and body is not None and tree.script.reader_stalls:  # no byte of it is lost in its time
            due = run.deadline if tree.how_it_exited() == Exited(0, None) else body.attempt_deadline
            stalled_s = max(stalled_s, due - tree.at[Happening.GONE])
        if body is not None and late_s > stalled_s + EPS:
            facts.violation("I5", f"{who} is recorded {late_s:.3f} s too late after its tree was gone")

    # --- what is said of it

    def _check_failure(self, run: RunFacts, tree: SimulatedTree, failed: Failed | None, who: str) -> None:
        facts, script, body = self.facts, tree.script, run.bodies.get(run.number)
        if body is None:
            return
        exited_at = tree.at.get(Happening.EXITED)
        if failed is None:
            if tree.how_it_exited() != Exited(0, None):
                facts.violation("I7", f"{who} is recorded as a success, and its command {tree.how_it_exited()}")
            return
        if failed.kind in _OVERDUE and exited_at is not None and exited_at < (body.told_at or 0.0) - EPS:
            facts.violation("I7", f"{who} is recorded as {failed.kind}, and its command had exited before")
        if exited_at is not None and script.output and script.output not in failed.output_tail:
            facts.violation("I7", f"{who} is recorded without what its command wrote: {failed.output_tail!r}")
        if body.told_at is not None or tree.over_memory.done():
            return
        if Happening.NOT_STARTED in tree.at and script.cannot_start != failed.exit_code:
            facts.violation("I7", f"{who} could not start, and is recorded with status {failed.exit_code}")
        elif exited_at is not None and tree.how_it_exited() != Exited(failed.exit_code, failed.signal):
            said = Exited(failed.exit_code, failed.signal)
            facts.violation("I7", f"{who}: its command {tree.how_it_exited()}, and is recorded as {said}")

    # --- rest

    def on_backoff(self, run: RunFacts) -> None:
        self._check_nothing_is_left(run)

    def on_arriving(self, run: RunFacts, standing: Standing) -> None:
        self._check_nothing_is_left(run)

    def on_over(self, run: RunFacts, end: object) -> None:
        self._check_nothing_is_left(run)

    def _check_nothing_is_left(self, run: RunFacts) -> None:
        left = [tree.name for tree in run.trees if not self._is_over(tree)]
        if left and not run.unconfirmed:
            self.facts.violation("I1", f"run {run.key} has nothing under way, and {left} are not over")

    def on_reset(self, session: str) -> None:
        for tree in self.limbo.get(session, ()):
            if tree in self.went.get(session, ()):
                self.went[session].remove(tree)

    def on_end(self, store: object) -> None:
        lives = [tree.name for tree in self.launcher.trees if tree.outcome is None]
        if lives:
            self.facts.violation("rest", f"{lives} are not over at the end")
        unknown = [tree.recorded.life for tree in self.launcher.trees if is_unknown(tree)]
        kept = [str(life) for life in self.launcher.life_files() if life not in unknown]
        if kept:
            self.facts.violation("rest", f"life files are left: {kept}")
