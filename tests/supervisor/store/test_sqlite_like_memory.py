"""The same questions, the same answers: runs of several processes over the real SQL, against one process in memory."""

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from policies.backoff import Backoff, Strategy
from policies.breaker import CLOSED, Breaker, Closed, HalfOpen, Open, State
from policies.budget import FULL, Bucket, Budget
from policies.failure import Failed, Gone, Kind, Refusal, Unknown
from policies.gate import Gate, Overlap
from policies.policy import Policy
from policies.verdict import GiveUp, Reason, Retry, Verdict
from supervisor.events import Events
from supervisor.report import Status
from supervisor.store.contract import Ending, Refused, Standing, Store, Waiting
from supervisor.store.memory import MemoryStore
from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.store import SqliteStore
from supervisor.tasks import Now, Pending
from supervisor.testing import SharedFile, virtual_clock
from tests.supervisor.store.sqlite.opened import store_on

PROCESSES = 3
SESSIONS = ("one", "two")
HOST = Bucket(capacity=6, refill=0.0, deposit=0.0)
GATES = [Gate(permits, queue=1, overlap=overlap) for permits in (1, 2) for overlap in Overlap]
BREAKERS = {"never opens": Breaker(failures=10**9, minimum=10**9), "opens": Breaker(failures=2, cooldown_s=10.0)}


def policy_of(gate: Gate, breaker: str) -> Policy:
    return Policy(
        f"{gate.permits} {gate.overlap}",
        gate=gate,
        backoff=Backoff(Strategy.CONSTANT, 0.0),
        breaker=BREAKERS[breaker],
        budget=Budget(attempts=3, session=Bucket(capacity=3, refill=0.0, deposit=0.5)),
    )


CANCELLED = Ending(Status.CANCELLED, Reason.CANCELLED)
SETTLED_S = 0.25
"""By then every process has heard of what another has done."""


class At(Enum):
    WAITING = auto()
    ADMITTED = auto()
    RUNNING = auto()
    BACKOFF = auto()
    OVER = auto()


class Run(Standing):
    """A run, as one of the stores sees it."""

    def __init__(self, name: str, session: str, policy: Policy, store: Store) -> None:
        self.name, self.session, self.policy, self.store = name, session, policy, store
        self.interrupted: list[Reason] = []
        self.waits: asyncio.Task[Refused | None] | None = None

    @property
    def run_id(self) -> str:
        return self.name

    def interrupt(self, reason: Reason) -> None:
        self.interrupted.append(reason)

    def facts(self) -> tuple[object, ...]:
        """Return what must be the same in both stores. A first interruption is the one that counts."""
        came = None
        if self.waits is not None and self.waits.done():
            came = said(self.waits.result())
        return self.number, self.holds_permit, self.retry_reserved, self.retries_below, self.interrupted[:1], came


def said(answer: object) -> object:
    """Return an answer without its moments, and without what is for a person: dice and clocks are each store's own."""
    match answer:
        case Refused(reason):
            return reason
        case Retry():
            return Retry, answer.tokens
        case GiveUp(reason):
            return reason
        case _:
            return type(answer).__name__


def counts(state: State) -> tuple[object, ...]:
    """Return what a breaker has counted; its moments are drawn, and its generation goes where nobody can be late."""
    match state:
        case Closed():
            return Closed, state.in_a_row, state.outcomes[1::3], state.outcomes[2::3]
        case Open():
            return Open, state.trips
        case HalfOpen():
            return HalfOpen, state.trips, state.taken


class Pair:
    """One run in both stores: in the memory of one process, and in the rows, by any of several."""

    def __init__(self, here: Run, there: Run) -> None:
        self.both = (here, there)
        self.at = At.OVER

    def __repr__(self) -> str:
        return f"<{self.both[0].name} {self.both[0].session} {self.both[0].policy.name} {self.at.name}>"


async def answered(answer: Now[Any]) -> Any:
    return await answer if isinstance(answer, Pending) else answer


class Machine(RuleBasedStateMachine):
    @initialize(
        gates=st.lists(st.sampled_from(GATES), min_size=1, max_size=2), breaker=st.sampled_from(sorted(BREAKERS))
    )
    def open_both(self, gates: list[Gate], breaker: str) -> None:
        self.policies = [policy_of(gate, breaker) for gate in gates]
        self.clock = virtual_clock()
        self.runner = asyncio.Runner(loop_factory=self.clock.new_loop)
        self.pairs: list[Pair] = []
        self.count = 0
        self.file = SharedFile()
        self.memory = MemoryStore()
        self.stores: list[SqliteStore] = [store_on(self.file, f"process {number}") for number in range(PROCESSES)]
        self.runner.run(self.open())

    async def open(self) -> None:
        self.memory.open(self.clock, Events(), HOST)
        for store in self.stores:
            await store.open(self.clock, Events(), HOST)

    def do(self, step: Coroutine[Any, Any, None]) -> None:
        self.runner.run(self.then_compare(step))

    async def then_compare(self, step: Coroutine[Any, Any, None]) -> None:
        await step
        await self.clock.sleep(SETTLED_S)
        for pair in self.pairs:
            here, there = pair.both
            assert here.facts() == there.facts(), pair
            if pair.at is At.WAITING and here.waits is not None and here.waits.done():
                refused = here.waits.result()
                pair.at = At.ADMITTED if refused is None else At.OVER
                if refused is not None:
                    await self.end(pair)
        self.pairs = [pair for pair in self.pairs if pair.at is not At.OVER]
        for session in SESSIONS:
            breaker, tokens = ledger.read(self.file.connection, session)
            assert tokens.spent == self.memory._tokens.get(session, FULL).spent
            assert counts(breaker) == counts(self.memory._breakers.get(session, CLOSED))
        for session in SESSIONS:
            lines = {store.watching._waiting.get(session) is None for store in self.stores}
            assert lines == {True} or any(pair.both[0].session == session for pair in self.pairs)

    async def ask(self, pair: Pair, question: str, *args: Any) -> Any:
        """Ask both; the answers are the same."""
        here, there = [await answered(getattr(run.store, question)(run, *args)) for run in pair.both]
        assert said(here) == said(there), (pair, here, there)
        return here

    async def end(self, pair: Pair) -> None:
        await self.ask(pair, "end", CANCELLED)
        pair.at = At.OVER

    async def arrive(self, pair: Pair) -> None:
        answer = await self.ask(pair, "arrive")
        if answer is None:
            pair.at = At.ADMITTED
        elif isinstance(answer, Waiting):
            pair.at = At.WAITING
            for run in pair.both:
                run.waits = asyncio.create_task(run.store.turn(run, None))
        elif pair.both[0].number == 0:
            await self.end(pair)

    def having(self, at: At) -> list[Pair]:
        return [pair for pair in self.pairs if pair.at is at]

    # --- what happens

    @rule(session=st.sampled_from(("one", "one", "one", "two")), rules=st.integers(0, 1), process=st.integers(0, 2))
    def a_run_arrives(self, session: str, rules: int, process: int) -> None:
        self.count += 1
        name, policy = f"run {self.count}", self.policies[rules % len(self.policies)]
        stores = (self.memory, self.stores[process])
        here, there = (Run(name, session, policy, store) for store in stores)
        pair = Pair(here, there)
        self.pairs.append(pair)
        self.do(self.arrive(pair))

    @precondition(lambda self: self.having(At.BACKOFF))
    @rule(which=st.integers(0, 9))
    def a_retry_falls_due(self, which: int) -> None:
        pairs = self.having(At.BACKOFF)
        self.do(self.arrive(pairs[which % len(pairs)]))

    @precondition(lambda self: self.having(At.ADMITTED))
    @rule(which=st.integers(0, 9))
    def an_attempt_begins(self, which: int) -> None:
        pairs = self.having(At.ADMITTED)
        pair = pairs[which % len(pairs)]

        async def begin() -> None:
            refused = await self.ask(pair, "begin")
            pair.at = At.RUNNING
            if refused is not None:
                pair.at = At.BACKOFF
                if pair.both[0].number == 0 or refused.reason is not Refusal.BREAKER_OPEN:
                    await self.end(pair)

        self.do(begin())

    @precondition(lambda self: self.having(At.RUNNING))
    @rule(
        which=st.integers(0, 9),
        kind=st.sampled_from([None, Kind.ERROR, Kind.ERROR, Kind.ERROR, Kind.RATE_LIMITED, Kind.INVALID]),
        gone=st.sampled_from([True] * 9 + [False]),
    )
    def an_attempt_ends(self, which: int, kind: Kind | None, *, gone: bool) -> None:
        pairs = self.having(At.RUNNING)
        pair = pairs[which % len(pairs)]
        failed = None if kind is None else Failed(kind, "it broke")
        stopped = pair.both[0].interrupted[0] if pair.both[0].interrupted else None

        async def record() -> None:
            receipt = Gone() if gone else Unknown(("a task",))
            verdict: Verdict = await self.ask(pair, "record", failed, receipt, stopped)
            pair.at = At.BACKOFF if isinstance(verdict, Retry) else At.OVER

        self.do(record())

    @precondition(lambda self: any(pair.at is not At.RUNNING for pair in self.pairs))
    @rule(which=st.integers(0, 9))
    def one_is_cancelled(self, which: int) -> None:
        pairs = [pair for pair in self.pairs if pair.at is not At.RUNNING]
        pair = pairs[which % len(pairs)]

        async def cancel() -> None:
            for run in pair.both:
                if run.waits is not None and not run.waits.done():
                    run.waits.cancel()
                    await asyncio.wait((run.waits,))
                    run.waits = None
            if pair.at is not At.BACKOFF:
                await self.ask(pair, "leave")
            await self.end(pair)

        self.do(cancel())

    @rule(session=st.sampled_from(SESSIONS), process=st.integers(0, 2))
    def an_operator_says_that_it_is_well(self, session: str, process: int) -> None:
        async def reset() -> None:
            await self.memory.reset(session)
            await self.stores[process].reset(session)

        self.do(reset())

    @rule(seconds=st.sampled_from([1.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.clock.sleep(seconds))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.close())
            self.runner.close()

    async def close(self) -> None:
        for pair in self.pairs:
            for run in pair.both:
                if run.waits is not None and not run.waits.done():
                    run.waits.cancel()
                    await asyncio.wait((run.waits,))
        for store in self.stores:
            await store.close()


TestLikeMemory = pytest.mark.once(Machine.TestCase)
TestLikeMemory.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
