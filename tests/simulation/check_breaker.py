"""I6: a small breaker of the checker's own, told by what was recorded; its cooldowns are known but for the jitter."""

from dataclasses import dataclass
from typing import Any

from policies.breaker import JITTER, Breaker
from policies.failure import Failed, Kind, Receipt, Refusal, Unknown
from policies.verdict import Reason
from supervisor.store.contract import Refused, Standing
from tests.simulation.facts import Facts, RunFacts

EPS = 1e-6


@dataclass(slots=True)
class Model:
    """`opened_at` None: closed, or half open where `half_open`. Open for at least `least_s`, at most `most_s`."""

    generation: int = 0
    row: int = 0
    trips: int = 0
    half_open: bool = False
    taken: int = 0
    opened_at: float | None = None
    least_s: float = 0.0
    most_s: float = 0.0
    unsure: bool = False

    def is_open(self, now: float) -> bool | None:
        """Say whether it is open, for whatever rule asks; None: the jitter decides."""
        if self.opened_at is None or now >= self.opened_at + self.most_s - EPS:
            return False
        return True if now < self.opened_at + self.least_s - EPS else None


class Breakers:
    """One model a session."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.models: dict[str, Model] = {}
        self.waiting: dict[str, tuple[int, int]] = {}  # by run: what the breaker was when it was full of trials
        self.moved_at: dict[str, float] = {}
        self.admitted: dict[str, tuple[int, bool]] = {}  # by run: generation, trial

    def model(self, session: str) -> Model:
        return self.models.setdefault(session, Model())

    def refuses(self, run: RunFacts) -> bool | None:
        """Say whether an attempt must be refused now; None: it may."""
        model, now = self.model(run.session), self.facts.clock.now()
        if model.unsure:
            return None
        if model.half_open and model.taken >= run.policy.breaker.trials:
            return True
        return model.is_open(now)

    def check(self, run: RunFacts, refused: Refused | None) -> None:
        """Compare an answer with what the model says."""
        must = self.refuses(run)
        says = refused is not None and refused.reason is Refusal.BREAKER_OPEN
        if must is not None and must != says and (refused is None or says):
            model = self.model(run.session)
            said = "refused" if says else "admitted"
            self.facts.violation("I6", f"run {run.key} is {said} at the breaker, which is {model}")

    def on_arriving(self, run: RunFacts, standing: Standing) -> None:
        self.waiting.pop(run.key, None)

    def on_arrived(self, run: RunFacts, standing: Standing, answer: Any) -> None:
        self.check(run, answer if isinstance(answer, Refused) else None)
        if isinstance(answer, Refused) and answer.reason is Refusal.BREAKER_OPEN and answer.until is None:
            model = self.model(run.session)
            self.waiting[run.key] = (model.generation, model.taken)

    def on_over(self, run: RunFacts, end: Any) -> None:
        """A retry that waits for a trial to end is told when the breaker moves."""
        model, now = self.model(run.session), self.facts.clock.now()
        waited = self.waiting.pop(run.key, None)
        if waited is None or run.number == 0 or now < run.deadline - EPS or model.unsure:
            return
        until = min(now, run.deadline)  # a slow store takes longer to end it: what moves meanwhile comes too late
        if waited != (model.generation, model.taken) and self.moved_at.get(run.session, now) < until - EPS:
            self.facts.violation("line", f"run {run.key} is not told that the breaker of {run.session} has moved")

    def on_began(self, run: RunFacts, standing: Standing, refused: Refused | None) -> None:
        self.check(run, refused)
        if refused is not None:
            return
        model = self.model(run.session)
        trial = model.half_open or model.opened_at is not None
        if trial and not model.half_open:
            model.half_open, model.opened_at, model.taken = True, None, 0
            model.generation += 1
        if trial:
            model.taken += 1
            model.opened_at = None
        self.admitted[run.key] = (model.generation, trial)

    def on_recording(
        self, run: RunFacts, standing: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None
    ) -> None:
        generation, _ = self.admitted.pop(run.key)
        model, rule = self.model(run.session), run.policy.breaker
        if generation != model.generation:
            return
        self.moved_at[run.session] = self.facts.clock.now()
        counted = isinstance(receipt, Unknown) or (
            failed is not None
            and stopped is None
            and failed.kind is not Kind.BUSY
            and run.policy.effect(failed.kind).counts
        )
        if counted:
            self._count(model, rule)
        elif failed is None:
            model.row = 0
            if model.half_open:
                self._close(model)
        elif model.half_open:
            model.taken -= 1
            if failed.kind is Kind.BUSY:
                self._wait(model, rule)

    def _count(self, model: Model, rule: Breaker) -> None:
        if model.half_open:
            model.trips += 1
        else:
            model.row += 1
            if model.row < rule.failures:
                return
            model.trips = 0
        self._wait(model, rule)
        model.half_open, model.taken, model.row = False, 0, 0
        model.generation += 1

    def _wait(self, model: Model, rule: Breaker) -> None:
        least_s = min(rule.cooldown_s * 2.0**model.trips, rule.cooldown_cap_s)
        model.opened_at = self.facts.clock.now()
        model.least_s, model.most_s = least_s, least_s * (1.0 + JITTER)

    def _close(self, model: Model) -> None:
        model.generation += 1
        model.half_open, model.taken, model.trips, model.opened_at = False, 0, 0, None

    def on_reset(self, session: str) -> None:
        model = self.model(session)
        model.row = 0
        # An attempt that was under way reports too late to matter, unless there was nothing to reset.
        model.unsure = any(self.facts.runs[key].session == session for key in self.admitted)
        self._close(model)
