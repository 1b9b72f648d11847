"""Runs that come, wait, are cancelled, fail and end in any order, against a naive model of one line per session."""

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.failure import Failed, Gone, Kind, Refusal, Unknown
from policies.gate import Gate, Overlap
from policies.policy import Policy
from policies.verdict import GiveUp, Quarantine, Reason, Retry
from supervisor.events import Events
from supervisor.store.contract import SUCCEEDED, Refused, Standing, Waiting
from supervisor.store.memory import MemoryStore
from supervisor.testing import virtual_clock

CAPACITY = 3
BUDGET = Budget(attempts=3, session=Bucket(capacity=CAPACITY, refill=0.0, deposit=0.0))
SESSIONS = ("one", "two")
GATES = [Gate(permits, queue=2, overlap=overlap) for permits in (1, 2) for overlap in Overlap]
BREAKERS = {"never opens": Breaker(failures=10**9, minimum=10**9), "opens": Breaker(failures=2, cooldown_s=10.0)}
POLICIES = {
    name: [Policy(gate=gate, backoff=Backoff(Strategy.CONSTANT, 0.0), breaker=breaker, budget=BUDGET) for gate in GATES]
    for name, breaker in BREAKERS.items()
}


class At(Enum):
    """Where a run is, as its engine would know."""

    WAITING = auto()
    ADMITTED = auto()
    RUNNING = auto()
    BACKOFF = auto()
    OVER = auto()


class Run(Standing):
    def __init__(self, number_of_run: int, session: str, policy: Policy) -> None:
        self.name, self.session, self.policy = f"run {number_of_run}", session, policy
        self.at = At.OVER
        self.task: asyncio.Task[None] | None = None
        self.replaced = False

    def __repr__(self) -> str:
        return f"<{self.name} {self.session} {self.at.name} {self.policy.gate.permits} {self.policy.gate.overlap}>"

    @property
    def run_id(self) -> str:
        return self.name

    def interrupt(self, reason: Reason) -> None:
        self.replaced = True


class Machine(RuleBasedStateMachine):
    @initialize(breaker=st.sampled_from(sorted(BREAKERS)))
    def open_the_store(self, breaker: str) -> None:
        self.clock = virtual_clock()
        self.runner = asyncio.Runner(loop_factory=self.clock.new_loop)
        self.policies = POLICIES[breaker]
        self.store = MemoryStore()
        self.store.open(self.clock, Events(), None)
        self.runs: list[Run] = []  # every one that is not over, in the order of admission
        self.line: list[Run] = []  # who waits, in the order in which they must be served
        self.newest: dict[str, Run] = {}
        self.spent = dict.fromkeys(SESSIONS, 0)
        self.count = 0

    # --- what happens

    @rule(session=st.sampled_from(SESSIONS), gate=st.integers(0, len(GATES) - 1))
    def a_run_arrives(self, session: str, gate: int) -> None:
        self.count += 1
        run = Run(self.count, session, self.policies[gate])
        self.do(self.arrive(run))

    @precondition(lambda self: self.having(At.BACKOFF))
    @rule(which=st.integers(0, 9))
    def a_retry_falls_due(self, which: int) -> None:
        self.do(self.arrive(self.pick(At.BACKOFF, which)))

    @precondition(lambda self: self.having(At.ADMITTED))
    @rule(which=st.integers(0, 9))
    def an_attempt_begins(self, which: int) -> None:
        run = self.pick(At.ADMITTED, which)
        before = run.number

        async def begin() -> None:
            answer = self.store.begin(run)
            if isinstance(answer, Refused):
                assert answer.reason in (Refusal.BREAKER_OPEN, Refusal.QUARANTINED)
                assert not run.holds_permit
                await self.refused(run, answer.reason)
            else:
                assert run.number == before + 1
                run.at = At.RUNNING

        self.do(begin())

    @precondition(lambda self: self.having(At.RUNNING))
    @rule(
        which=st.integers(0, 9),
        kind=st.sampled_from([None, Kind.ERROR, Kind.ERROR, Kind.RATE_LIMITED, Kind.INVALID]),
        gone=st.sampled_from([True, True, True, True, False]),
    )
    def an_attempt_ends(self, which: int, kind: Kind | None, *, gone: bool) -> None:
        run = self.pick(At.RUNNING, which)
        failed = None if kind is None else Failed(kind, "it broke")
        stopped = Reason.REPLACED if run.replaced else None

        async def record() -> None:
            verdict = self.store.record(run, failed, Gone() if gone else Unknown(("a task",)), stopped)
            assert isinstance(verdict, Quarantine) == (not gone)
            if isinstance(verdict, Retry):
                self.spent[run.session] += 1
                run.at = At.BACKOFF
            else:
                assert verdict != GiveUp(Reason.SESSION_BUDGET) or self.spent[run.session] == CAPACITY
                self.over(run)

        self.do(record())

    @precondition(lambda self: self.having(At.WAITING, At.ADMITTED, At.BACKOFF))
    @rule(which=st.integers(0, 9))
    def a_run_is_cancelled(self, which: int) -> None:
        self.do(self.cancel(self.pick(At.WAITING, which, At.ADMITTED, At.BACKOFF)))

    @precondition(lambda self: any(run.replaced and run.at is not At.RUNNING for run in self.runs))
    @rule()
    def an_interruption_arrives(self) -> None:
        """One that is running ends when it ends."""
        run = next(run for run in self.runs if run.replaced and run.at is not At.RUNNING)

        self.do(self.cancel(run))

    @rule()
    def the_loop_goes_round(self) -> None:
        self.do(self.clock.sleep(0.0))

    @rule()
    def time_passes(self) -> None:
        self.do(self.clock.sleep(10.0))

    @rule(session=st.sampled_from(SESSIONS))
    def an_operator_resets(self, session: str) -> None:
        self.do(self.store.reset(session))
        self.spent[session] = 0

    @rule(session=st.sampled_from(SESSIONS))
    def a_quarantine_is_lifted(self, session: str) -> None:
        async def lift() -> None:
            for run_id in tuple(self.store._quarantines.get(session, ())):
                await self.store.lift(session, run_id)

        self.do(lift())

    # --- the engine's part

    async def arrive(self, run: Run) -> None:
        first = run.number == 0
        before = [other for other in self.runs if other.session == run.session and other is not run]
        answer = self.store.arrive(run)
        if run not in self.runs and not isinstance(answer, Refused):
            self.runs.append(run)
        match answer:
            case None:
                assert run.holds_permit
                ahead = [other for other in self.line if other.session == run.session]
                assert not ahead, f"{run} passed {ahead}"
                run.at = At.ADMITTED
            case Waiting():
                run.at = At.WAITING
                if first and run.policy.gate.overlap is Overlap.COALESCE and self.is_newest(run):
                    if (displaced := self.newest.get(run.session)) is not None:
                        assert displaced.turn is None or displaced.turn.done()
                    self.newest[run.session] = run
                else:
                    self.line.append(run)
                if first and run.policy.gate.overlap is Overlap.REPLACE:
                    older = [other for other in before if other.at is not At.OVER]
                    assert len(older) < run.policy.gate.permits or all(other.replaced for other in older)
                run.task = asyncio.create_task(self.stand(run))
                await self.clock.sleep(0.0)
            case Refused():
                if first:
                    expected = self.why_refused(run, before)
                    assert answer.reason in (Refusal.BREAKER_OPEN, Refusal.QUARANTINED) or answer.reason is expected
                await self.refused(run, answer.reason)

    async def stand(self, run: Run) -> None:
        answer = await self.store.turn(run, self.clock.now() + 25.0)
        if answer is None:
            assert run.holds_permit
            run.at, run.task = At.ADMITTED, None
        else:
            assert not run.holds_permit
            await self.refused(run, answer.reason)
            run.task = None

    async def cancel(self, run: Run) -> None:
        if run.task is not None:
            run.task.cancel()
            await asyncio.wait((run.task,))
        await self.give_up(run)

    async def refused(self, run: Run, reason: Refusal) -> None:
        if run.number and reason is Refusal.BREAKER_OPEN:
            run.at = At.BACKOFF  # it waits the cooldown out, uncharged
            self.out_of_line(run)
        else:
            await self.give_up(run, asked_to_leave=True)

    async def give_up(self, run: Run, *, asked_to_leave: bool = False) -> None:
        if run.at is At.RUNNING or run not in self.runs:
            return
        if not asked_to_leave:
            self.store.leave(run)
        if run.number:
            if run.retry_reserved:
                self.spent[run.session] = max(0, self.spent[run.session] - 1)
            self.store.end(run, SUCCEEDED)
        self.over(run)

    def over(self, run: Run) -> None:
        run.at = At.OVER
        self.out_of_line(run)
        if run in self.runs:
            self.runs.remove(run)

    def out_of_line(self, run: Run) -> None:
        if run in self.line:
            self.line.remove(run)
        if self.newest.get(run.session) is run:
            del self.newest[run.session]

    # --- what must hold

    @invariant()
    def nobody_runs_beyond_the_permits(self) -> None:
        for session in SESSIONS:
            holders = [run for run in self.runs if run.session == session and run.holds_permit]
            most = max((run.policy.gate.permits for run in holders), default=0)
            assert len(holders) <= most, holders
            line = self.store._lines.get(session)
            assert len(holders) == (line.running if line is not None else 0)

    @invariant()
    def whoever_may_go_was_let_in_and_nobody_was_passed(self) -> None:
        self.take_note_of_turns()
        for session in SESSIONS:
            line = [run for run in self.line if run.session == session]
            mine = [run for run in self.runs if run.session == session]
            running = sum(run.holds_permit for run in mine)
            if line:
                head = line[0]
                older = mine[: mine.index(head)]
                assert running >= head.policy.gate.permits or (head.replaces and older), f"{head} was forgotten"
            newest = self.newest.get(session)
            if newest is not None and not line:
                others = [run for run in mine if run is not newest]
                assert len(others) >= newest.policy.gate.permits, f"{newest} was forgotten"

    @invariant()
    def no_more_is_spent_than_the_bucket_has(self) -> None:
        for session in SESSIONS:
            assert 0 <= self.spent[session] <= CAPACITY
            tokens = self.store._tokens.get(session)
            assert (0.0 if tokens is None else tokens.spent) == self.spent[session]

    def take_note_of_turns(self) -> None:
        """Who was granted its turn is out of the line from that instant: only the first ones can be."""
        for session in SESSIONS:
            passed: list[Run] = []
            for run in [run for run in self.line if run.session == session]:
                if run.holds_permit:
                    assert not passed, f"{run} passed {passed}"
                    self.line.remove(run)
                elif run.turn is not None and not run.turn.done():
                    passed.append(run)
                else:
                    self.line.remove(run)  # refused: its task hears of it in the loop's next round
            newest = self.newest.get(session)
            if newest is not None and (newest.turn is None or newest.turn.done()):
                assert not (newest.holds_permit and passed), f"{newest} passed {passed}"
                del self.newest[session]

    def teardown(self) -> None:
        """Whatever happened: when all have gone, nothing is kept, and nobody still waits."""
        if not hasattr(self, "runner"):
            return
        with self.runner:
            while self.runs:
                for run in tuple(self.runs):
                    if run.at is At.RUNNING:
                        self.runner.run(self.finish(run))
                    elif run.at is not At.WAITING:
                        self.runner.run(self.give_up(run))
                    elif run.replaced:
                        self.runner.run(self.cancel(run))
                self.runner.run(self.clock.sleep(0.0))
                waiting = self.having(At.WAITING)
                if waiting and len(waiting) == len(self.runs):
                    for run in waiting:  # nothing else is under way: the head's turn has come, or its refusal
                        assert run.task is None or not run.task.done()
                    before = len(self.runs)
                    self.runner.run(self.clock.sleep(0.0))
                    assert len(self.having(At.WAITING)) < before, "everybody waits, and nobody runs"
            for session in SESSIONS:
                self.runner.run(self.store.reset(session))
            assert not self.store._lines
            assert not self.store._breakers
            assert not self.store._watchers

    async def finish(self, run: Run) -> None:
        self.store.record(run, Failed(Kind.INVALID, "over"), Gone(), Reason.CLOSED)
        self.over(run)

    # --- small questions

    def do(self, step: Coroutine[Any, Any, None]) -> None:
        self.runner.run(step)

    def having(self, *places: At) -> list[Run]:
        return [run for run in self.runs if run.at in places]

    def pick(self, place: At, which: int, *others: At) -> Run:
        found = self.having(place, *others)
        return found[which % len(found)]

    def is_newest(self, run: Run) -> bool:
        line = self.store._lines.get(run.session)
        return line is not None and line.newest is run

    def why_refused(self, run: Run, before: list[Run]) -> Refusal | None:
        """Return the gate's reason, as the words of its rule have it."""
        gate = run.policy.gate
        newest = self.newest.get(run.session)
        under_way = [other for other in before if other is not newest]
        if len(under_way) >= gate.permits and gate.overlap is Overlap.SKIP:
            return Refusal.OVERLAP
        in_line = [other for other in self.line if other.session == run.session and other.number == 0]
        return Refusal.QUEUE_FULL if len(in_line) >= gate.queue else None


TestMemoryStoreMachine = pytest.mark.once(Machine.TestCase)
TestMemoryStoreMachine.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
