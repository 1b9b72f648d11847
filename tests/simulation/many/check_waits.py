"""What may not take long: the turn of whoever heads a free line, and the end of a run that another one replaces."""

import asyncio

from supervisor.testing.faults import Blow, Strike
from supervisor.testing.process import Process, State
from tests.simulation.facts import Facts
from tests.simulation.many.rows import Place, Rows, RunRow
from tests.simulation.scenario import Scenario

TURN_S = 0.1
STOP_S = 0.25
HOLDING = ("permitted", "running")


class Waits:
    """Whose turn it is by the rows, and who was asked to end: looked at again a little later."""

    def __init__(self, facts: Facts, rows: Rows, scenario: Scenario) -> None:
        self.facts, self.rows = facts, rows
        self.is_slow = bool(scenario.slowness.share)
        self.may_fail = {
            each.process for each in scenario.faults if isinstance(each, Strike) and each.blow == Blow.FAILS
        }
        self.heads: dict[str, tuple[Place, float]] = {}

    def on_committed(self, process: Process, name: str) -> None:
        if self.is_slow:
            return
        now, loop = self.facts.clock.now(), asyncio.get_running_loop()
        heads = {place.session: place for place in reversed(self.rows.now.places) if self._may_enter(place)}
        for session, place in heads.items():
            if session not in self.heads or self.heads[session][0] != place:
                loop.call_later(TURN_S, self._check_turn, place, now)
        self.heads = {s: (p, self.heads[s][1] if self.heads.get(s, (0, 0))[0] == p else now) for s, p in heads.items()}

    def _may_enter(self, place: Place) -> bool:
        """Say whether it is this place's turn: nobody stands before it, and a permit of its own rule is free."""
        rows = self.rows.now
        if place.newest or any(each < place and each.session == place.session for each in rows.places):
            return False
        run, row = self.rows.run(place.run), rows.runs[place.run]
        others = [each for each in rows.runs.values() if each.session == place.session and each is not row]
        if row.replaces and any(each.state != "ended" and each.seq < row.seq for each in others):
            return False
        return sum(each.state in HOLDING for each in others) < run.policy.gate.permits

    def _is_awake(self, process: Process, since: float) -> bool:
        slept = process.frozen_at is not None and process.frozen_at >= since - 10.0
        return process.state is State.RUNS and not slept and process.name not in self.may_fail

    def _check_turn(self, place: Place, since: float) -> None:
        if self.facts.is_over or self.heads.get(place.session) != (place, since):
            return
        run = self.rows.run(place.run)
        process = self.rows.process_of[self.rows.now.runs[place.run].owner]
        if self._is_awake(process, since):
            self.facts.violation("line", f"run {run.key} heads the line of {run.session}, and its turn does not come")

    def on_row_moved(self, run: object, was: RunRow, row: RunRow) -> None:
        if row.stop is not None and was.stop is None and not self.is_slow:
            loop, now = asyncio.get_running_loop(), self.facts.clock.now()
            loop.call_later(STOP_S, self._check_stopped, row.seq, now)

    def _check_stopped(self, seq: int, since: float) -> None:
        row, run = self.rows.now.runs[seq], self.rows.run(seq)
        if self.facts.is_over or row.state == "ended" or not self._is_awake(self.rows.process_of[row.owner], since):
            return
        body = run.bodies.get(row.number)
        if body is not None and body.ended_at is not None:
            return  # it is being released
        if row.state != "permitted" and (body is None or row.state != "running" or not body.thrown_at):
            self.facts.violation("gate", f"run {run.key} is {row.state}, and was asked to end {STOP_S:g} s ago")
