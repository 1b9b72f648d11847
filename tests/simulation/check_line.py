"""The gate: first come first served, nobody forgotten, and what happens when runs overlap."""

from dataclasses import dataclass, field
from typing import Any

from policies.failure import Gone, Refusal
from policies.gate import Overlap
from policies.verdict import Retry, Verdict
from supervisor.store.contract import Refused, Standing, Waiting
from tests.simulation.check_breaker import Breakers
from tests.simulation.facts import BodyFacts, Facts, RunFacts

EPS = 1e-6


@dataclass(slots=True)
class Line:
    """One session. `standing` has the runs that were admitted and have not ended, the oldest first."""

    waiting: dict[RunFacts, Standing] = field(default_factory=dict)
    newest: tuple[RunFacts, Standing] | None = None
    standing: dict[RunFacts, Standing] = field(default_factory=dict)
    holding: dict[RunFacts, Standing] = field(default_factory=dict)
    replaced: dict[RunFacts, float] = field(default_factory=dict)  # when


class Lines:
    """One model a session."""

    def __init__(self, facts: Facts, breakers: Breakers) -> None:
        self.facts = facts
        self.breakers = breakers
        self.lines: dict[str, Line] = {}
        self.expected: set[Refusal | None] = {None}
        self.replacing: dict[RunFacts, set[RunFacts]] = {}

    def _line(self, run: RunFacts) -> Line:
        return self.lines.setdefault(run.session, Line())

    # --- arrival

    def on_arriving(self, run: RunFacts, standing: Standing) -> None:
        """What the rule says of this arrival, where nothing else refuses it."""
        line, gate = self._line(run), run.policy.gate
        self._grant(line)
        self.expected = {None}
        if run.number:
            return
        run.arrived_at = self.facts.clock.now()
        in_line = [its for each, its in line.waiting.items() if each.number == 0]
        overlapping = len(line.standing) >= gate.permits
        if overlapping and gate.overlap is Overlap.SKIP:
            self.expected = {Refusal.OVERLAP}
        elif not overlapping or gate.overlap in (Overlap.QUEUE, Overlap.REPLACE):
            enters = len(line.holding) < gate.permits and not line.waiting
            replaces = overlapping and gate.overlap is Overlap.REPLACE
            if not enters and len(in_line) >= gate.queue and not replaces:
                # Who is on its way out counts as long as it has not left, or does not any more: the store knows.
                may_enter = len(line.holding) < gate.permits and not any(map(_waits, line.waiting.values()))
                full = sum(map(_waits, in_line)) >= gate.queue and not may_enter
                self.expected = {Refusal.QUEUE_FULL} if full else {Refusal.QUEUE_FULL, None}

    def on_arrived(self, run: RunFacts, standing: Standing, answer: Any) -> None:
        line, facts = self._line(run), self.facts
        if isinstance(answer, Refused):
            looked = answer.reason in (Refusal.BREAKER_OPEN, Refusal.QUARANTINED)
            if not looked and answer.reason not in self.expected:
                facts.violation("gate", f"run {run.key} is refused ({answer.reason}), expected {self.expected}")
            return
        if None not in self.expected:
            facts.violation("gate", f"run {run.key} is let in, expected {self.expected}")
        self._note_overlap(run, standing, line)
        if isinstance(answer, Waiting):
            if run.number == 0 and self._waits_as_newest(run, line):
                if line.newest is not None and _waits(line.newest[1]):
                    facts.violation("gate", f"run {line.newest[0].key} is not displaced by the newer run {run.key}")
                line.newest = (run, standing)
                return
            line.waiting[run] = standing
        else:
            self._hold(line, run, standing)
        line.standing[run] = standing

    def _waits_as_newest(self, run: RunFacts, line: Line) -> bool:
        gate = run.policy.gate
        return gate.overlap is Overlap.COALESCE and len(line.standing) >= gate.permits

    def _note_overlap(self, run: RunFacts, standing: Standing, line: Line) -> None:
        gate = run.policy.gate
        if run.number == 0 and gate.overlap is Overlap.REPLACE and len(line.standing) >= gate.permits:
            older = set(line.standing) | ({line.newest[0]} if line.newest is not None else set())
            self.replacing[run] = older
            line.replaced.update((each, self.facts.clock.now()) for each in older if each not in line.replaced)

    # --- leaving

    def _out(self, run: RunFacts, *, over: bool) -> None:
        line = self._line(run)
        line.waiting.pop(run, None)
        line.holding.pop(run, None)
        if line.newest is not None and line.newest[0] is run:
            line.newest = None
        if over:
            line.standing.pop(run, None)

    def on_turned(self, run: RunFacts, standing: Standing, answer: Refused | None) -> None:
        if answer is not None:
            self._out(run, over=run.number == 0)
            late_s = self.facts.clock.now() - run.arrived_at - run.policy.gate.wait_s
            if run.number == 0 and late_s > self.facts.slack_s + EPS:
                text = f"run {run.key} stood in line {late_s:.3f} s longer than its wait"
                self.facts.violation("gate", text)

    def on_left(self, run: RunFacts, standing: Standing) -> None:
        self._out(run, over=run.number == 0)

    def on_ended(self, run: RunFacts, standing: Standing) -> None:
        self._out(run, over=True)

    def on_began(self, run: RunFacts, standing: Standing, refused: Refused | None) -> None:
        line = self._line(run)
        if refused is not None:
            self._out(run, over=run.number == 1 and not run.records)
            return
        self._grant(line)
        if run not in line.holding:
            self.facts.violation("I2", f"attempt {run.number} of run {run.key} begins without a permit")
        for older in self.replacing.get(run, ()):
            if older.begun:
                self.facts.violation(
                    "gate", f"run {run.key} begins, and run {older.key}, which it replaces, is not gone"
                )

    def on_body_starting(self, body: BodyFacts) -> None:
        """In the instant of its replacement it may start yet; it is told to end at once."""
        replaced_at = self._line(body.run).replaced.get(body.run)
        if replaced_at is not None and self.facts.clock.now() > replaced_at + EPS:
            text = f"attempt {body.number} of run {body.run.key} starts, and a newer run replaced it"
            self.facts.violation("gate", text)

    def on_recorded(self, run: RunFacts, standing: Standing, verdict: Verdict) -> None:
        line = self._line(run)
        self._out(run, over=not isinstance(verdict, Retry))
        refusing = self.breakers.refuses(run) is True or not isinstance(run.records[-1].receipt, Gone)
        if not refusing:
            return
        for other, its in list(line.waiting.items()):
            if other.number == 0 and _waits(its) and self.breakers.refuses(other) is not False:
                self.facts.violation("line", f"run {other.key} is not refused as {run.session} stops taking runs")

    # --- after each commit

    def on_committed(self, run: RunFacts) -> None:
        line = self._line(run)
        self._grant(line)
        for head, standing in list(line.waiting.items())[:1]:
            # Who is on its way out is in the way until it has left; so is whom the head replaces.
            in_the_way = any(older in line.standing for older in self.replacing.get(head, ()))
            in_the_way = in_the_way or (line.newest is not None and not _waits(line.newest[1]))
            if _waits(standing) and len(line.holding) < head.policy.gate.permits and not in_the_way:
                text = f"run {head.key} heads the line, and {len(line.holding)} run: its turn does not come"
                self.facts.violation("line", text)
        for holder, standing in line.holding.items():
            if not standing.holds_permit:
                self.facts.violation("line", f"run {holder.key} has lost its permit")

    def _grant(self, line: Line) -> None:
        """Take note of who was granted a permit; nobody who still waits may stand before them."""
        passed = ""
        for run, standing in list(line.waiting.items()):
            if _is_refused(standing):
                self._out(run, over=run.number == 0)
            elif standing.holds_permit:
                if passed:
                    self.facts.violation("line", f"run {run.key} passes run {passed}, which stood before it")
                del line.waiting[run]
                self._hold(line, run, standing)
            elif _waits(standing) and not passed:
                passed = run.key
        if line.newest is not None and line.newest[1].holds_permit:
            run, standing = line.newest
            line.newest = None
            if any(_waits(other) for other in line.waiting.values()):
                self.facts.violation("line", f"run {run.key} passes the line, and came as the newest")
            line.standing[run] = standing
            self._hold(line, run, standing)

    def _hold(self, line: Line, run: RunFacts, standing: Standing) -> None:
        if len(line.holding) >= run.policy.gate.permits:
            text = f"run {run.key} gets a permit beside {[other.key for other in line.holding]}"
            self.facts.violation("I2", text)
        line.holding[run] = standing
        run.granted_at = self.facts.clock.now()

    def on_end(self, store: Any) -> None:
        for session, line in self.lines.items():
            left = [run.key for run in (*line.waiting, *line.holding, *line.standing)]
            if left:
                self.facts.violation("rest", f"{session} still has runs {left}")
        for name in ("_lines", "_watchers"):
            if kept := getattr(store, name, None):
                self.facts.violation("rest", f"the store keeps {name[1:]} of {sorted(kept)}")


def _is_refused(standing: Standing) -> bool:
    """It was refused in line, and does not know it yet."""
    turn = standing.turn
    if turn is None or not turn.done() or turn.cancelled():
        return False
    refused = turn.result()
    return refused is not None and refused.reason is not Refusal.WAIT_OVER


def _waits(standing: Standing) -> bool:
    return standing.turn is not None and not standing.turn.done()
