"""I1, I2, I4, I5: what lives at once, what is held when, and how soon a session is free."""

import asyncio

from policies.failure import Failed, Gone, Receipt, Unknown
from policies.verdict import Quarantine, Reason, Retry, Verdict
from supervisor.store.contract import Refused, Standing
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.tree_script import Happening
from tests.simulation.facts import BodyFacts, Facts, Recorded, RunFacts, is_unknown
from tests.simulation.scenario import Scenario

EPS = 1e-6


class Bodies:
    """A body counts until it has really ended, and so do its release steps and its far end."""

    def __init__(self, facts: Facts, scenario: Scenario) -> None:
        self.facts = facts
        self.scenario = scenario
        self.open: dict[str, list[RunFacts]] = {}  # attempts between begin and record, by session
        self.scenario_cap_s = max(rules.cooldown_cap_s for rules in scenario.policies)
        self.quarantined: dict[str, set[str]] = {}
        self.starts: list[float] = []
        self.recorded_at = 0.0

    def _alive(self, session: str) -> list[BodyFacts]:
        now = self.facts.clock.now()
        return [body for body in self.facts.limbo.get(session, ()) if body.alive(now)]

    # --- begin

    def on_began(self, run: RunFacts, standing: Standing, refused: Refused | None) -> None:
        if refused is not None:
            return
        run.number += 1
        who, session, facts = f"attempt {run.number} of run {run.key}", run.session, self.facts
        if run.number != standing.number:
            facts.violation("I3", f"{who} is numbered {standing.number}")
        if run.number > run.policy.budget.attempts:
            facts.violation("I3", f"{who}: its budget is {run.policy.budget.attempts} attempts")
        others = self.open.setdefault(session, [])
        if len(others) >= _most([run, *others]):
            facts.violation("I2", f"{who} begins beside {[other.key for other in others]} of {session}")
        if self.quarantined.get(session):
            facts.violation("I4", f"{who} begins, and {session} is quarantined for {self.quarantined[session]}")
        others.append(run)
        run.begun, run.begun_at = True, len(facts.log)
        self._check_retry(run, who)
        self._check_starts(who)

    def _check_retry(self, run: RunFacts, who: str) -> None:
        facts = self.facts
        if run.number == 1:
            return
        if not run.records or not isinstance(run.records[-1].verdict, Retry):
            facts.violation("I4", f"{who} begins, and no verdict said so")
        elif facts.clock.now() < run.records[-1].verdict.at - EPS:
            facts.violation("due", f"{who} begins {run.records[-1].verdict.at - facts.clock.now():.3f} s early")
        for above in run.line():
            above.retries_in_tree += 1
            if above.retries_in_tree > above.policy.budget.attempts - 1:
                text = f"{who} is retry {above.retries_in_tree} within run {above.key}"
                facts.violation("I3", f"{text}, which has {above.policy.budget.attempts} attempts")

    def _check_starts(self, who: str) -> None:
        """A start is charged before a lock or a warden is waited for: only where none is, attempts start as charged."""
        scenario, now = self.scenario, self.facts.clock.now()
        self.starts.append(now)
        if scenario.starts is None or scenario.slowness.share or any(j.lock for j in scenario.jobs):
            return
        if any(tree.script.parks_in_s for run in self.facts.runs.values() for tree in run.trees):
            return
        count, period_s = scenario.starts
        within = sum(1 for at in self.starts if at > now - period_s + EPS)
        if within > count:
            self.facts.violation("host", f"{who} is start {within} within {period_s} s")

    # --- the body

    def on_body_starting(self, body: BodyFacts) -> None:
        run, now, facts = body.run, self.facts.clock.now(), self.facts
        who = f"attempt {body.number} of run {run.key}"
        left = self._alive(run.session)
        if any(other.limbo_at < run.begun_at for other in left):  # permits of several: what is beside may be given up
            facts.violation("I2", f"{who} starts beside what is left of {[(b.run.key, b.number) for b in left]}")
        live = [
            other
            for each in facts.runs.values()
            if each.session == run.session
            for other in each.bodies.values()
            if other.ended_at is None and other not in left and not other.forgiven
        ]
        if len(live) >= _most([run, *(other.run for other in live)]):
            facts.violation("I2", f"{who} starts beside {[(b.run.key, b.number) for b in live]}")
        self._check_slots(run, who)
        if not self.facts.slack_s and now >= run.deadline:
            facts.violation("time", f"{who} starts {now - run.deadline:.3f} s after the run's deadline")
        for number, before in run.bodies.items():
            if before.alive(now) and before not in left:
                facts.violation("I4", f"{who} starts, and attempt {number} is not over")
            self._check_let_go(before)

    def _check_slots(self, run: RunFacts, who: str) -> None:
        """An attempt within another uses its slot; one that was given up has none any more."""
        slots, now = self.scenario.running, self.facts.clock.now()
        if slots is None or any(above.begun for above in run.line()[1:]):
            return
        given_up = [body for bodies in self.facts.limbo.values() for body in bodies]
        roots = 1 + sum(
            1
            for each in self.facts.runs.values()
            for body in each.bodies.values()
            if body.ended_at is None
            and body not in given_up
            and not body.forgiven
            and not any(above.begun for above in each.line()[1:])
            and not _is_given_up(body, now)
        )
        if roots > slots:
            self.facts.violation("host", f"{who} is one of {roots} that run, and the host has {slots} slots")

    def _check_let_go(self, body: BodyFacts) -> None:
        if body.context is not None and body.ended_at is not None and body.context() is not None:
            self.facts.violation("I1", f"attempt {body.number} of run {body.run.key}: its context lives on")
            body.context = None

    def on_told(self, body: BodyFacts) -> None:
        limit = body.attempt_deadline
        idle_s = body.run.policy.attempt.idle_timeout_s
        if idle_s is not None:
            limit = min(limit, body.beat_at + idle_s)
        limit = max(limit, body.started_at)  # a slow store may let it begin after its deadline
        if body.tree is not None and is_time_over(body.tree):
            return  # its time was not up; what it has left is being stopped
        if body.told_at is not None and body.told_at > limit + EPS:
            text = f"attempt {body.number} of run {body.run.key} is told to end {body.told_at - limit:.3f} s too late"
            self.facts.violation("time", text)

    def on_told_again(self, body: BodyFacts) -> None:
        text = f"attempt {body.number} of run {body.run.key} is cancelled twice: its cleaning up is cut short"
        self.facts.violation("stop", text)

    def on_body_ended(self, body: BodyFacts) -> None:
        if body.tree is None and body.told_at is None and body.how != "cancelled":
            self.on_told_limit(body)

    def on_told_limit(self, body: BodyFacts) -> None:
        if body.ended_at is not None and body.ended_at > max(body.attempt_deadline, body.started_at) + EPS:
            late_s = body.ended_at - body.attempt_deadline
            text = f"attempt {body.number} of run {body.run.key} ends by itself, {late_s:.3f} s after its time"
            self.facts.violation("time", text)

    # --- record

    def on_recording(
        self, run: RunFacts, standing: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None
    ) -> None:
        now, facts = self.facts.clock.now(), self.facts
        run.records.append(Recorded(run.number, now, failed, receipt, stopped))
        who, body = f"attempt {run.number} of run {run.key}", run.bodies.get(run.number)
        if body is None:
            return
        grace_s = run.policy.attempt.grace_s
        if body.told_at is not None and now > body.told_at + 2 * grace_s + 1.0 + facts.slack_s + EPS:
            facts.violation("I5", f"{who} is recorded {now - body.told_at:.3f} s after it was told to end")
        children = [child for child in run.children if child.parents_attempt == run.number]
        left = [name for name, then in body.open.items()]
        if isinstance(receipt, Gone):
            if body.alive(now):
                facts.violation("I4", f"{who} is recorded as gone, and lives: {body.how or 'body'} {left}")
            if run.locks:
                facts.violation("I1", f"{who} is recorded, and holds {[lock.path.name for lock in run.locks]}")
            if not all(child.is_over() for child in children):
                facts.violation("I4", f"{who} is recorded, and a run within it is not over")
            if any(child.unconfirmed for child in children):
                facts.violation("I4", f"{who} is recorded as gone, and a run within it ended unconfirmed")
        else:
            just_now = body.last_at > now - facts.slack_s - EPS  # in this very instant
            if not (
                body.alive(now) or just_now or body.confirm_trouble or any(child.unconfirmed for child in children)
            ):
                facts.violation("I4", f"{who} is recorded as unconfirmed, and all of it has ended")
            run.unconfirmed = True
        quick = not body.had_scope and body.remote_until is None and not run.had_locks and not facts.slack_s
        if quick and body.ended_at is not None and now > max(body.ended_at, body.told_at or 0.0) + EPS:
            facts.violation("I5", f"{who} ended, and is recorded {now - body.ended_at:.3f} s later")

    def on_recorded(self, run: RunFacts, standing: Standing, verdict: Verdict) -> None:
        facts, record = self.facts, run.records[-1]
        record.verdict, record.at = verdict, facts.clock.now()
        self.recorded_at = record.at
        run.begun = False
        self.open[run.session].remove(run)
        who = f"attempt {run.number} of run {run.key}"
        self._check_due(run, who)
        if standing.holds_permit:
            facts.violation("I1", f"{who} is recorded, and holds its permit")
        if getattr(standing, "holds_slot", False):
            facts.violation("I1", f"{who} is recorded, and holds its slot")
        if isinstance(record.receipt, Unknown):
            if not isinstance(verdict, Quarantine):
                facts.violation("I4", f"{who} is unconfirmed, and the verdict is {type(verdict).__name__}")
            self.quarantined.setdefault(run.session, set()).add(run.key)
            bodies = [run.bodies.get(run.number)]
            bodies += [body for child in _below(run) for body in child.bodies.values()]
            for body in bodies:
                if body is not None:
                    body.limbo_at = len(facts.log)
                    self.facts.limbo.setdefault(run.session, []).append(body)
        elif isinstance(verdict, Quarantine):
            facts.violation("I4", f"{who} is gone, and the session is quarantined")

    def _check_due(self, run: RunFacts, who: str) -> None:
        """A stated Retry-After is a floor; otherwise a wait has a cap, and nothing is due past the deadline."""
        record = run.records[-1]
        if not isinstance(record.verdict, Retry) or record.failed is None:
            return
        delay_s, asked_s = record.verdict.at - record.at, record.failed.retry_after_s or 0.0
        longest_s = max(asked_s, run.policy.backoff.cap_s, 1.2 * self.scenario_cap_s)
        if delay_s < asked_s - EPS or delay_s > longest_s + EPS or record.verdict.at > run.deadline:
            self.facts.violation(
                "due", f"{who} is followed by another after {delay_s:.3f} s, {asked_s:.3f} s were asked"
            )

    def on_backoff(self, run: RunFacts) -> None:
        self._check_holds_nothing(run)

    def on_arriving(self, run: RunFacts, standing: Standing) -> None:
        if run.records:
            run.records[-1].waited = True
        if any(above.session == run.session for above in run.line()[1:]):
            self.facts.violation("gate", f"run {run.key} comes to {run.session}, and an ancestor of it holds that")
        self._check_holds_nothing(run)

    def _check_holds_nothing(self, run: RunFacts) -> None:
        for body in run.bodies.values():
            self._check_let_go(body)
        if run.locks and not run.unconfirmed:
            self.facts.violation("I1", f"run {run.key} waits, and holds {[lock.path.name for lock in run.locks]}")

    def on_over(self, run: RunFacts, end: object) -> None:
        self._check_host_full(run, end)
        if not run.unconfirmed:
            # Where a cancellation was thrown in, asyncio itself holds its frames until this step is over.
            asyncio.get_running_loop().call_soon(self._check_holds_nothing, run)
            if any(body.alive(self.facts.clock.now()) for body in run.bodies.values()):
                self.facts.violation("I4", f"run {run.key} is over, and an attempt of it lives")
        if run.begun:
            self.facts.violation("I1", f"run {run.key} is over, and its attempt {run.number} was never recorded")

    # --- order and hosts

    def on_closing(self, body: BodyFacts, name: str) -> None:
        """What was opened last is released first."""
        later = list(body.open)[list(body.open).index(name) + 1 :]
        if still := [each for each in later if each not in body.closing]:
            text = f"attempt {body.number} of run {body.run.key} releases {name}, and {still} were opened after it"
            self.facts.violation("order", text)
        body.closing.append(name)

    def _check_host_full(self, run: RunFacts, end: object) -> None:
        """Where slots alone are limited, nobody is refused one that is free, or that its ancestor has."""
        report, scenario = getattr(end, "report", None), self.scenario
        if scenario.starts or scenario.memory or scenario.slowness.share:
            return
        may_enter = run.parent is not None and run.number == 0 and not run.trees  # which waited for their wardens
        if may_enter and self.facts.clock.now() > run.granted_at + EPS:
            text = f"run {run.key} has its permit, and waits though its ancestor has a slot"
            self.facts.violation("host", text)
        if report is None or report.reason != "host_full":
            return
        begun = [other for others in self.open.values() for other in others]
        parks = any(tree.outcome is None for each in self.facts.runs.values() for tree in each.trees)
        free = not begun and not parks and self.recorded_at < self.facts.clock.now() - EPS  # nor in this very instant
        if any(above.begun for above in run.line()[1:]) or free:
            self.facts.violation("host", f"run {run.key} is refused (host_full) beside {[each.key for each in begun]}")

    # --- locks and quarantines

    def on_lock_released(self, run: RunFacts, lock: object) -> None:
        now = self.facts.clock.now()
        for body in run.bodies.values():
            if body.ended_at is None or body.open or body.alive(now):
                text = f"run {run.key} lets go of a lock, and its attempt {body.number} lives"
                self.facts.violation("I2", text)

    def on_lifted(self, run: RunFacts) -> None:
        self.quarantined.get(run.session, set()).discard(run.key)
        now = self.facts.clock.now()
        bodies = [body for each in (run, *_below(run)) for body in each.bodies.values()]
        if any(body.alive(now) for body in bodies):
            self.facts.violation("I4", f"the quarantine of run {run.key} is lifted, and what it left lives")

    def on_reset(self, session: str) -> None:
        self.quarantined.pop(session, None)
        for body in self.facts.limbo.pop(session, ()):
            body.forgiven = True

    def on_end(self, store: object) -> None:
        for run in self.facts.runs.values():
            below = [body for each in (run, *_below(run)) for body in each.bodies.values()]
            stays = any(body.tree is not None and is_unknown(body.tree) for body in below)
            if run.locks and self.facts.leaving_at is None and not stays:
                self.facts.violation("I1", f"run {run.key} holds {[lock.path.name for lock in run.locks]} at the end")


def _most(runs: list[RunFacts]) -> int:
    """Each was admitted by its own rule, beside those that came before it: so many at most together."""
    return max(run.policy.gate.permits for run in runs)


def is_time_over(tree: SimulatedTree) -> bool:
    """Say whether a command has come to its end by itself: what follows is not bounded by the attempt's time."""
    ends = (Happening.EXITED, Happening.UNKNOWN, Happening.TOLD)
    return tree.over_memory.done() or any(end in tree.at for end in ends)


def _is_given_up(body: BodyFacts, now: float) -> bool:
    return body.told_at is not None and now >= body.told_at + body.run.policy.attempt.grace_s - EPS


def _below(run: RunFacts) -> list[RunFacts]:
    return [each for child in run.children for each in (child, *_below(child))]
