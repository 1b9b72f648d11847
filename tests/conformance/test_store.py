"""What every store promises, whatever it keeps its state in. Another store joins by its factory in STORES."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.failure import Effect, Failed, Gone, Kind, Receipt, Refusal, Unknown
from policies.gate import Gate, Overlap
from policies.policy import Policy
from policies.verdict import Finish, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.clock import Clock, clock_of
from supervisor.events import Events
from supervisor.report import Status
from supervisor.store.contract import Ending, Refused, Standing, Store, Waiting
from supervisor.store.memory import MemoryStore
from supervisor.store.sqlite.store import SqliteStore
from supervisor.tasks import Now, Pending
from supervisor.testing import InlineDatabase, Recorded, SharedFile, VirtualClock, World


def _sqlite() -> Store:
    """The real SQL, on a virtual clock."""
    process = World(VirtualClock()).process("one")
    return SqliteStore(Path("/state/state.db"), database=InlineDatabase(SharedFile(), process), make_life=SomeLife)


class SomeLife:
    """A life file that nobody judges by."""

    def __init__(self, alive: Path, nonce: str, _: float) -> None:
        self.path = alive / nonce

    def close(self) -> None: ...


STORES: Final[dict[str, Callable[[], Store]]] = {"memory": MemoryStore, "sqlite": _sqlite}
CANCELLED: Final = Ending(Status.CANCELLED, Reason.CANCELLED)

NO_WAIT: Final = Backoff(Strategy.CONSTANT, base_s=0.0)
NEVER_OPENS: Final = Breaker(failures=10**9, minimum=10**9)
ERROR: Final = Failed(Kind.ERROR, "it broke")
GONE: Final = Gone()
ALIVE: Final = Unknown(("task 7",))

T = TypeVar("T")


async def answered(answer: Now[T]) -> T:
    """What a store says, at once or after a while."""
    return await answer if isinstance(answer, Pending) else answer


class Run(Standing):
    """A run without an engine around it."""

    def __init__(self, name: str, policy: Policy, session: str = "s", parent: Standing | None = None) -> None:
        self.name, self.policy, self.session, self.parent = name, policy, session, parent
        self.interrupted: list[Reason] = []

    def __repr__(self) -> str:
        return self.name

    @property
    def run_id(self) -> str:
        return self.name

    def interrupt(self, reason: Reason) -> None:
        self.interrupted.append(reason)


@dataclass
class Bench:
    """A store that is open, and what a test says to it."""

    store: Store
    clock: Clock
    events: Recorded

    async def arrive(self, run: Run) -> Refused | Waiting | None:
        return await answered(self.store.arrive(run))

    async def enter(self, *runs: Run) -> None:
        """Arrive, be let in and begin."""
        for run in runs:
            assert await self.arrive(run) is None
            assert await self.begin(run) is None

    async def wait(self, *runs: Run) -> "list[asyncio.Task[Refused | None]]":
        """Arrive, stand in line, and ask for the turn."""
        tasks = []
        for run in runs:
            assert isinstance(await self.arrive(run), Waiting)
            tasks.append(asyncio.create_task(self.store.turn(run, None)))
            await self.settle()
        return tasks

    async def settle(self) -> None:
        await self.clock.sleep(0.001)

    async def begin(self, run: Run) -> Refused | None:
        return await answered(self.store.begin(run))

    async def record(
        self, run: Run, failed: Failed | None = None, receipt: Receipt = GONE, stopped: Reason | None = None
    ) -> Verdict:
        verdict: Verdict = await answered(self.store.record(run, failed, receipt, stopped))
        await self.settle()
        return verdict

    async def attempt(self, run: Run, failed: Failed | None = None) -> Verdict:
        await self.enter(run)
        return await self.record(run, failed)

    async def leave(self, run: Run) -> None:
        await answered(self.store.leave(run))
        await self.settle()

    async def end(self, run: Run) -> None:
        await answered(self.store.end(run, CANCELLED))
        await self.settle()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    return STORES[request.param]


@pytest.fixture
async def bench(make_store: Callable[[], Store]) -> Bench:
    return await opened(make_store)


async def opened(make_store: Callable[[], Store], host: Bucket | None = None) -> Bench:
    clock, events, recorded = clock_of(asyncio.get_running_loop()), Events(), Recorded()
    events.on(recorded, 1000)
    store = make_store()
    await answered(store.open(clock, events, host))
    return Bench(store, clock, recorded)


def policy(name: str = "p", **rules: Any) -> Policy:
    return Policy(name, **{"backoff": NO_WAIT, "breaker": NEVER_OPENS, **rules})


def gated(permits: int = 1, overlap: Overlap = Overlap.QUEUE, **rules: Any) -> Policy:
    return policy(gate=Gate(permits, overlap=overlap, **rules))


def reason(answer: object) -> Refusal:
    assert isinstance(answer, Refused)
    return answer.reason


# --- permits and the line


async def test_the_first_run_of_a_session_is_let_in(bench: Bench) -> None:
    run = Run("a", gated())
    assert await bench.arrive(run) is None
    assert run.holds_permit
    assert run.number == 0


async def test_begin_numbers_the_attempt_and_gives_it_a_fence(bench: Bench) -> None:
    run = Run("a", gated())
    await bench.enter(run)
    assert run.number == 1
    first = run.fence
    assert isinstance(await bench.record(run, ERROR), Retry)
    await bench.enter(run)
    assert run.number == 2
    assert run.fence > first


async def test_the_line_is_served_first_come_first_served(bench: Bench) -> None:
    rules = gated()
    runs = [Run(name, rules) for name in "abcd"]
    await bench.enter(runs[0])
    turns = await bench.wait(*runs[1:])
    for before, run, turn in zip(runs, runs[1:], turns, strict=False):
        assert not turn.done()
        assert await bench.record(before) == Finish()
        assert await turn is None
        assert run.holds_permit
        assert await bench.begin(run) is None


async def test_as_many_run_at_once_as_there_are_permits(bench: Bench) -> None:
    rules = gated(permits=2)
    a, b, c = (Run(name, rules) for name in "abc")
    await bench.enter(a, b)
    (turn,) = await bench.wait(c)
    assert not turn.done()
    await bench.record(b)
    assert await turn is None


async def test_a_full_line_refuses(bench: Bench) -> None:
    rules = gated(queue=1)
    await bench.enter(Run("a", rules))
    await bench.wait(Run("b", rules))
    assert reason(await bench.arrive(Run("c", rules))) is Refusal.QUEUE_FULL


async def test_a_wait_that_is_over_leaves_the_line(bench: Bench) -> None:
    rules = gated(queue=1)
    a, b, c = (Run(name, rules) for name in "abc")
    await bench.enter(a)
    assert isinstance(await bench.arrive(b), Waiting)
    assert reason(await bench.store.turn(b, bench.clock.now() + 60.0)) is Refusal.WAIT_OVER
    (turn,) = await bench.wait(c)
    await bench.record(a)
    assert await turn is None
    assert not b.holds_permit


async def test_a_turn_that_came_before_it_was_asked_for_is_kept(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated())
    await bench.enter(a)
    assert isinstance(await bench.arrive(b), Waiting)
    await bench.record(a)
    assert await bench.store.turn(b, bench.clock.now()) is None
    assert b.holds_permit


async def test_who_leaves_the_line_is_passed_over(bench: Bench) -> None:
    a, b, c = (Run(name, gated()) for name in "abc")
    await bench.enter(a)
    _, turn = await bench.wait(b, c)
    await bench.leave(b)
    await bench.record(a)
    assert await turn is None
    assert not b.holds_permit


async def test_a_permit_given_back_before_the_attempt_goes_to_the_next(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated())
    assert await bench.arrive(a) is None
    (turn,) = await bench.wait(b)
    await bench.leave(a)
    assert await turn is None
    assert not a.holds_permit


async def test_leaving_in_the_instant_of_the_grant_passes_it_on(bench: Bench) -> None:
    a, b, c = (Run(name, gated()) for name in "abc")
    await bench.enter(a)
    cancelled, turn = await bench.wait(b, c)
    await answered(bench.store.record(a, None, GONE, None))
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await bench.leave(b)
    assert await turn is None
    assert not b.holds_permit


async def test_leaving_twice_gives_one_permit_back(bench: Bench) -> None:
    rules = gated(permits=2)
    a, b, c, d = (Run(name, rules) for name in "abcd")
    await bench.enter(a)
    assert await bench.arrive(b) is None
    first, second = await bench.wait(c, d)
    await bench.leave(b)
    await bench.leave(b)
    assert await first is None
    assert not second.done()
    await bench.record(a)
    assert await second is None


async def test_sessions_do_not_wait_for_each_other(bench: Bench) -> None:
    await bench.enter(Run("a", gated(), "one"), Run("b", gated(), "two"))


async def test_a_retry_stands_behind_those_who_came_meanwhile(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated())
    await bench.enter(a)
    (turn,) = await bench.wait(b)
    assert isinstance(await bench.record(a, ERROR), Retry)
    assert await turn is None
    assert await bench.begin(b) is None
    (again,) = await bench.wait(a)
    await bench.record(b)
    assert await again is None
    assert await bench.begin(a) is None
    assert a.number == 2


async def test_a_retry_in_line_fills_no_line(bench: Bench) -> None:
    rules = gated(queue=1)
    a, b, c = (Run(name, rules) for name in "abc")
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    await bench.enter(b)
    await bench.wait(a)
    (turn,) = await bench.wait(c)
    assert not turn.done()


async def test_nobody_passes_a_retry_that_stands_in_line(bench: Bench) -> None:
    """One whose own rule allows more permits would be let in beside what runs, but not past the head of the line."""
    a, b, wide = Run("a", gated()), Run("b", gated()), Run("wide", gated(permits=2))
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    await bench.enter(b)
    await bench.wait(a)
    (turn,) = await bench.wait(wide)
    assert not turn.done()


async def test_one_admits_while_fewer_run_than_its_own_permits(bench: Bench) -> None:
    await bench.enter(Run("narrow", gated()), Run("wide", gated(permits=2)))
    assert isinstance(await bench.arrive(Run("narrow too", gated())), Waiting)


# --- overlap


async def test_skip_refuses_while_a_run_is_under_way_its_backoff_included(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated(overlap=Overlap.SKIP))
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    assert reason(await bench.arrive(b)) is Refusal.OVERLAP
    await bench.end(a)
    assert await bench.arrive(b) is None


async def test_coalesce_keeps_the_newest_and_refuses_the_one_before(bench: Bench) -> None:
    rules = gated(overlap=Overlap.COALESCE)
    a, b, c = (Run(name, rules) for name in "abc")
    await bench.enter(a)
    (displaced,) = await bench.wait(b)
    (turn,) = await bench.wait(c)
    assert reason(await displaced) is Refusal.OVERLAP
    await bench.record(a)
    assert await turn is None
    assert (b.holds_permit, c.holds_permit) == (False, True)


async def test_the_newest_waits_until_the_run_before_it_has_ended(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated(overlap=Overlap.COALESCE))
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    (turn,) = await bench.wait(b)
    assert not turn.done()
    await bench.enter(a)
    await bench.record(a)
    assert await turn is None


async def test_replace_interrupts_every_older_run_and_waits_for_them(bench: Bench) -> None:
    rules = gated(overlap=Overlap.REPLACE)
    running, waiting, newest = Run("running", gated()), Run("waiting", gated()), Run("newest", rules)
    await bench.enter(running)
    await bench.wait(waiting)
    (turn,) = await bench.wait(newest)
    assert running.interrupted == waiting.interrupted == [Reason.REPLACED]
    assert newest.interrupted == []
    await bench.leave(waiting)
    assert not turn.done()
    assert await bench.record(running, ERROR, stopped=Reason.REPLACED) == GiveUp(Reason.REPLACED)
    assert await turn is None


async def test_replace_does_not_start_beside_a_run_that_is_not_over(bench: Bench) -> None:
    """With two permits one is free before both of the older runs are proved gone."""
    rules = gated(permits=2, overlap=Overlap.REPLACE)
    a, b, c = (Run(name, rules) for name in "abc")
    await bench.enter(a, b)
    (turn,) = await bench.wait(c)
    assert a.interrupted == b.interrupted == [Reason.REPLACED]
    await bench.record(a, ERROR, stopped=Reason.REPLACED)
    assert not turn.done()
    await bench.record(b, ERROR, stopped=Reason.REPLACED)
    assert await turn is None


async def test_replace_waits_for_the_end_of_a_run_in_its_backoff(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated(overlap=Overlap.REPLACE))
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    (turn,) = await bench.wait(b)
    assert a.interrupted == [Reason.REPLACED]
    assert not turn.done()
    await bench.end(a)
    assert await turn is None


async def test_the_last_of_several_that_replace_each_other_stays(bench: Bench) -> None:
    rules = gated(overlap=Overlap.REPLACE)
    a, b, c = (Run(name, rules) for name in "abc")
    await bench.enter(a)
    await bench.wait(b)
    (turn,) = await bench.wait(c)
    assert b.interrupted == [Reason.REPLACED]
    await bench.leave(b)
    await bench.record(a, ERROR, stopped=Reason.REPLACED)
    assert await turn is None
    assert c.interrupted == []


async def test_replace_also_interrupts_the_one_that_waits_as_the_newest(bench: Bench) -> None:
    a, newest, b = Run("a", gated()), Run("newest", gated(overlap=Overlap.COALESCE)), Run("b", gated())
    b.policy = gated(overlap=Overlap.REPLACE)
    await bench.enter(a)
    await bench.wait(newest)
    await bench.wait(b)
    assert newest.interrupted == [Reason.REPLACED]


# --- the breaker

TRIPS_AT_TWO: Final = Breaker(failures=2, minimum=10**9, cooldown_s=60.0)


async def trip(bench: Bench, rules: Policy) -> None:
    for name in ("f1", "f2"):
        run = Run(name, rules)
        await bench.attempt(run, Failed(Kind.MEMORY, "too much"))


async def test_failures_of_several_runs_open_the_breaker(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO)
    await trip(bench, rules)
    refused = await bench.arrive(Run("a", rules))
    assert reason(refused) is Refusal.BREAKER_OPEN
    assert isinstance(refused, Refused)
    assert refused.until is not None
    assert refused.until > bench.clock.now()
    assert bench.events.names() == ["BreakerOpened"]


async def test_a_session_s_breaker_does_not_stop_another(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO)
    await trip(bench, rules)
    assert await bench.arrive(Run("a", rules, "another")) is None


async def test_after_the_cooldown_one_trial_is_let_in_and_closes_it(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, gate=Gate(permits=3))
    await trip(bench, rules)
    await bench.clock.sleep(60.0 * 1.2 + 1.0)
    trial, other = Run("trial", rules), Run("other", rules)
    await bench.enter(trial)
    refused = await bench.arrive(other)
    assert reason(refused) is Refusal.BREAKER_OPEN
    assert isinstance(refused, Refused)
    assert refused.until is None
    await bench.record(trial)
    await bench.enter(other)
    assert bench.events.names() == ["BreakerOpened", "BreakerHalfOpened", "BreakerClosed"]


async def test_two_that_were_let_in_find_one_trial_place_at_their_begin(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, gate=Gate(permits=3))
    await trip(bench, rules)
    await bench.clock.sleep(60.0 * 1.2 + 1.0)
    a, b = Run("a", rules), Run("b", rules)
    assert await bench.arrive(a) is None
    assert await bench.arrive(b) is None
    assert await bench.begin(a) is None
    assert reason(await bench.begin(b)) is Refusal.BREAKER_OPEN
    assert not b.holds_permit
    assert b.number == 0


async def test_first_attempts_in_line_are_refused_when_the_breaker_opens(bench: Bench) -> None:
    rules = policy(breaker=Breaker(failures=1, minimum=10**9))
    a, b, c = Run("a", rules), Run("b", rules), Run("c", policy(breaker=rules.breaker, gate=Gate(1)))
    c.policy = policy(breaker=rules.breaker, gate=Gate(overlap=Overlap.COALESCE))
    await bench.enter(a)
    waiting, newest = await bench.wait(b, c)
    await bench.record(a, Failed(Kind.MEMORY, "too much"))
    assert reason(await waiting) is Refusal.BREAKER_OPEN
    assert reason(await newest) is Refusal.BREAKER_OPEN
    assert not b.holds_permit
    assert not c.holds_permit


async def test_breaker_moved_wakes_with_the_trial_s_report_or_at_the_moment(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, gate=Gate(permits=3))
    await trip(bench, rules)
    await bench.clock.sleep(60.0 * 1.2 + 1.0)
    trial = Run("trial", rules)
    await bench.enter(trial)
    began = bench.clock.now()
    await bench.store.breaker_moved("s", None, began + 5.0)
    assert bench.clock.now() == pytest.approx(began + 5.0)
    moved = asyncio.create_task(bench.store.breaker_moved("s", None, None))
    await bench.settle()
    assert not moved.done()
    await bench.record(trial, Failed(Kind.BUSY, "locked"))  # uncounted: the place comes back
    await moved


async def test_a_move_that_came_before_the_wait_is_not_waited_for(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, gate=Gate(permits=3))
    await trip(bench, rules)
    await bench.clock.sleep(60.0 * 1.2 + 1.0)
    trial = Run("trial", rules)
    await bench.enter(trial)
    refused = await bench.arrive(Run("late", rules))
    assert isinstance(refused, Refused)
    await bench.record(trial, None)
    await bench.store.breaker_moved("s", refused.seen, None)  # on the virtual clock, waiting for ever is an error


async def test_a_place_comes_back_from_a_trial_that_was_cancelled(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO)
    await trip(bench, rules)
    await bench.clock.sleep(60.0 * 1.2 + 1.0)
    trial = Run("trial", rules)
    await bench.enter(trial)
    cancelled = Failed(Kind.CANCELLED, "cancelled by its caller")
    assert await bench.record(trial, cancelled, stopped=Reason.CANCELLED) == GiveUp(Reason.CANCELLED)
    await bench.enter(Run("next", rules))


# --- tokens

TWO_TOKENS: Final = Budget(attempts=9, session=Bucket(capacity=2.0, refill=0.0, deposit=0.0))


async def test_runs_of_a_session_draw_their_retries_from_one_bucket(bench: Bench) -> None:
    rules = policy(budget=TWO_TOKENS)
    runs = [Run(name, rules) for name in "abc"]
    verdicts = []
    for run in runs:
        verdicts.append(await bench.attempt(run, ERROR))
        if isinstance(verdicts[-1], Retry):
            assert await bench.attempt(run) == Finish()
    assert [type(verdict) for verdict in verdicts] == [Retry, Retry, GiveUp]
    assert verdicts[-1] == GiveUp(Reason.SESSION_BUDGET)
    assert isinstance(await bench.attempt(Run("d", rules, "another"), ERROR), Retry)


async def test_the_host_s_bucket_is_one_for_all_sessions(make_store: Callable[[], Store]) -> None:
    bench = await opened(make_store, Bucket(capacity=1.0, refill=0.0, deposit=0.0))
    assert isinstance(await bench.attempt(Run("a", policy(), "one"), ERROR), Retry)
    assert await bench.attempt(Run("b", policy(), "two"), ERROR) == GiveUp(Reason.HOST_BUDGET)


async def test_a_retry_that_is_not_launched_gives_its_tokens_back_once(make_store: Callable[[], Store]) -> None:
    bench = await opened(make_store, Bucket(capacity=2.0, refill=0.0, deposit=0.0))
    rules = policy(budget=TWO_TOKENS)
    spends, gives_back = Run("spends", rules), Run("gives back", rules)
    assert isinstance(await bench.attempt(spends, ERROR), Retry)
    assert isinstance(await bench.attempt(gives_back, ERROR), Retry)
    await bench.end(gives_back)
    await bench.end(gives_back)
    assert isinstance(await bench.attempt(Run("takes it", rules), ERROR), Retry)
    assert isinstance(await bench.attempt(Run("finds none", rules), ERROR), GiveUp)


async def test_a_retry_that_was_begun_and_never_launched_gives_its_tokens_back(make_store: Callable[[], Store]) -> None:
    bench = await opened(make_store, Bucket(capacity=1.0, refill=0.0, deposit=0.0))
    rules = policy(budget=TWO_TOKENS)
    parent = Run("parent", policy(), "parent")
    await bench.enter(parent)
    told_to_end = Run("told to end", rules, parent=parent)
    assert isinstance(await bench.attempt(told_to_end, ERROR), Retry)
    await bench.enter(told_to_end)
    told_to_end.never_launched = True
    cancelled = Failed(Kind.CANCELLED, "cancelled by its caller")
    assert await bench.record(told_to_end, cancelled, stopped=Reason.CANCELLED) == GiveUp(Reason.CANCELLED)
    assert parent.retries_below == 0
    assert isinstance(await bench.attempt(Run("takes it", rules), ERROR), Retry)


async def test_a_launched_retry_gives_nothing_back_at_its_end(make_store: Callable[[], Store]) -> None:
    bench = await opened(make_store, Bucket(capacity=1.0, refill=0.0, deposit=0.0))
    run = Run("a", policy())
    assert isinstance(await bench.attempt(run, ERROR), Retry)
    await bench.enter(run)
    await bench.end(run)
    assert await bench.attempt(Run("b", policy()), ERROR) == GiveUp(Reason.HOST_BUDGET)


async def test_a_run_that_ends_gives_back_what_it_holds(bench: Bench) -> None:
    runs = [Run(name, gated()) for name in "abcd"]
    await bench.enter(runs[0])
    turns = [turn for run in runs[1:] for turn in await bench.wait(run)]
    await bench.end(runs[1])  # from the line
    await bench.end(runs[0])  # its permit
    assert await turns[1] is None
    await bench.end(runs[2])
    assert await turns[2] is None
    await bench.end(runs[3])
    assert await bench.attempt(Run("e", gated(overlap=Overlap.SKIP))) == Finish()


async def test_what_was_spent_comes_back_with_time(bench: Bench) -> None:
    rules = policy(budget=Budget(attempts=9, session=Bucket(capacity=1.0, refill=1.0, deposit=0.0)))
    assert isinstance(await bench.attempt(Run("a", rules), ERROR), Retry)
    assert await bench.attempt(Run("b", gated(permits=9)), None) == Finish()
    c = Run("c", policy(gate=Gate(permits=9), budget=rules.budget))
    assert await bench.attempt(c, ERROR) == GiveUp(Reason.SESSION_BUDGET)
    await bench.clock.sleep(60.0)
    d = Run("d", c.policy)
    assert isinstance(await bench.attempt(d, ERROR), Retry)


async def test_first_attempts_deposit_and_retries_do_not(bench: Bench) -> None:
    bucket = Bucket(capacity=1.0, refill=0.0, deposit=0.5)
    rules = policy(budget=Budget(attempts=9, session=bucket))
    a = Run("a", rules)
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    assert await bench.attempt(a, ERROR) == GiveUp(Reason.SESSION_BUDGET)
    assert await bench.attempt(Run("b", rules)) == Finish()
    assert isinstance(await bench.attempt(Run("c", rules), ERROR), Retry)


async def test_a_child_s_retries_are_taken_from_every_run_above_it(bench: Bench) -> None:
    rules = policy(budget=Budget(attempts=2))
    top = Run("top", rules, "top")
    await bench.enter(top)
    middle = Run("middle", policy(budget=Budget(attempts=9)), "middle", parent=top)
    await bench.enter(middle)
    child = Run("child", policy(budget=Budget(attempts=9)), "child", parent=middle)
    assert isinstance(await bench.attempt(child, ERROR), Retry)
    assert await bench.attempt(child, ERROR) == GiveUp(Reason.PARENT_BUDGET)
    assert await bench.record(top, ERROR) == GiveUp(Reason.ATTEMPTS)


@pytest.mark.parametrize("tokens", [1.0, 0.0])
async def test_a_child_s_retry_that_is_not_launched_is_given_back_to_its_parent_once(
    bench: Bench, tokens: float
) -> None:
    parent = Run("parent", policy(budget=Budget(attempts=2)), "parent")
    await bench.enter(parent)
    kinds = {Kind.ERROR: Effect(retried=True, counts=False, tokens=tokens)}
    first, second, third = (Run(name, policy(kinds=kinds), name, parent=parent) for name in ("1", "2", "3"))
    assert isinstance(await bench.attempt(first, ERROR), Retry)
    await bench.end(first)
    await bench.end(first)
    assert isinstance(await bench.attempt(second, ERROR), Retry)
    assert await bench.attempt(third, ERROR) == GiveUp(Reason.PARENT_BUDGET)


# --- quarantine


async def test_an_unknown_receipt_quarantines_the_session(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated())
    await bench.enter(a)
    (turn,) = await bench.wait(b)
    assert await bench.record(a, ERROR, ALIVE) == Quarantine(("task 7",))
    assert reason(await turn) is Refusal.QUARANTINED
    refused = await bench.arrive(Run("c", gated()))
    assert reason(refused) is Refusal.QUARANTINED
    assert "task 7" in str(refused)
    assert bench.events.names() == ["SessionQuarantined"]


async def test_a_success_that_is_not_proved_gone_quarantines_too(bench: Bench) -> None:
    a = Run("a", gated())
    await bench.enter(a)
    assert await bench.record(a, None, ALIVE) == Quarantine(("task 7",))


async def test_who_was_let_in_before_the_quarantine_does_not_begin(bench: Bench) -> None:
    rules = gated(permits=2)
    a, b = Run("a", rules), Run("b", rules)
    await bench.enter(a)
    assert await bench.arrive(b) is None
    await bench.record(a, ERROR, ALIVE)
    assert reason(await bench.begin(b)) is Refusal.QUARANTINED
    assert not b.holds_permit


async def test_lifting_one_run_s_quarantine_leaves_another_s(bench: Bench) -> None:
    rules = gated(permits=2)
    a, b = Run("a", rules), Run("b", rules)
    await bench.enter(a, b)
    await bench.record(a, ERROR, ALIVE)
    await bench.record(b, ERROR, ALIVE)
    await bench.store.lift("s", "a")
    await bench.store.lift("s", "a")
    assert reason(await bench.arrive(Run("c", rules))) is Refusal.QUARANTINED
    await bench.store.lift("s", "b")
    assert await bench.arrive(Run("d", rules)) is None
    await bench.settle()
    assert bench.events.names()[-2:] == ["QuarantineLifted", "QuarantineLifted"]
    assert len(bench.events) == 4


async def test_lifting_what_is_not_quarantined_does_nothing(bench: Bench) -> None:
    await bench.store.lift("nobody", "a")
    await bench.settle()
    assert not bench.events.events


# --- end and reset


async def test_ending_twice_is_ending_once(bench: Bench) -> None:
    a, b = Run("a", gated()), Run("b", gated())
    assert isinstance(await bench.attempt(a, ERROR), Retry)
    await bench.end(a)
    await bench.end(a)
    await bench.enter(b)
    await bench.end(a)
    assert isinstance(await bench.arrive(Run("c", gated())), Waiting)


async def test_reset_forgets_breaker_tokens_and_quarantines(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, budget=TWO_TOKENS)
    spender = Run("spender", policy(budget=TWO_TOKENS))
    assert isinstance(await bench.attempt(spender, Failed(Kind.RATE_LIMITED, "429")), Retry)
    assert isinstance(await bench.attempt(spender, Failed(Kind.RATE_LIMITED, "429")), Retry)
    await bench.end(spender)
    await trip(bench, rules)
    await bench.store.reset("s")
    run = Run("a", rules)
    await bench.enter(run)
    assert isinstance(await bench.record(run, Failed(Kind.RATE_LIMITED, "429")), Retry)
    await bench.enter(run)
    await bench.record(run, ERROR, ALIVE)
    await bench.store.reset("s")
    await bench.enter(Run("b", rules))


async def test_a_report_from_before_the_reset_changes_nothing(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO, gate=Gate(permits=3))
    late = Run("late", rules)
    await bench.attempt(Run("f", rules), Failed(Kind.MEMORY, "too much"))
    await bench.enter(late)
    await bench.store.reset("s")
    await bench.record(late, Failed(Kind.MEMORY, "too much"))
    await bench.attempt(Run("g", rules), Failed(Kind.MEMORY, "too much"))
    assert await bench.arrive(Run("h", rules)) is None


async def test_reset_wakes_who_waits_for_the_breaker(bench: Bench) -> None:
    rules = policy(breaker=TRIPS_AT_TWO)
    await trip(bench, rules)
    moved = asyncio.create_task(bench.store.breaker_moved("s", None, None))
    await bench.settle()
    await bench.store.reset("s")
    await moved


async def test_tokens_stay_spent_when_a_breaker_lets_its_trial_through(bench: Bench) -> None:
    budget = Budget(attempts=3, session=Bucket(capacity=1, refill=0.0, deposit=0.0))
    policy = Policy(budget=budget, backoff=NO_WAIT, breaker=Breaker(failures=2, cooldown_s=10.0))
    spends = Run("spends", policy)
    assert isinstance(await bench.attempt(spends, ERROR), Retry)
    assert await bench.attempt(spends, ERROR) == GiveUp(Reason.SESSION_BUDGET)
    await bench.clock.sleep(15.0)
    assert await bench.attempt(Run("trial", policy), ERROR) == GiveUp(Reason.SESSION_BUDGET)
