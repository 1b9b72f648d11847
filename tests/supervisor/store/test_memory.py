"""What the memory store keeps, and for how long: a healthy, idle session costs nothing."""

import asyncio
import gc
import weakref

import pytest

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker, HalfOpen, Open
from policies.budget import Bucket, Budget
from policies.failure import Failed, Gone, Kind, Unknown
from policies.gate import Gate, Overlap
from policies.policy import Policy
from policies.verdict import GiveUp, Reason, Retry
from supervisor.clock import clock_of
from supervisor.events import Events
from supervisor.store.contract import SUCCEEDED, Refused, Standing, Waiting
from supervisor.store.forgetting import FORGET_AFTER_S
from supervisor.store.memory import MemoryStore

NO_WAIT = Backoff(Strategy.CONSTANT, base_s=0.0)
PLAIN = Policy(backoff=NO_WAIT)
DAY_S = 86400.0
GONE = Gone()


class Run(Standing):
    def __init__(self, session: str = "s", policy: Policy = PLAIN) -> None:
        self.session, self.policy = session, policy

    @property
    def run_id(self) -> str:
        return "run"

    def interrupt(self, reason: Reason) -> None:
        """Nobody is asked here."""


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    store.open(clock_of(asyncio.get_running_loop()), Events(), None)
    return store


def kept(store: MemoryStore) -> dict[str, object]:
    """Return what is left of sessions, by the name of the table."""
    tables = {name: getattr(store, name) for name in ("_lines", "_breakers", "_tokens", "_quarantines", "_watchers")}
    return {name: dict(table) for name, table in tables.items() if table}


async def sleep(seconds: float) -> None:
    await clock_of(asyncio.get_running_loop()).sleep(seconds)


def attempt(store: MemoryStore, run: Run, kind: Kind | None = None) -> object:
    assert store.arrive(run) is None
    assert store.begin(run) is None
    return store.record(run, None if kind is None else Failed(kind, "it broke"), GONE, None)


async def test_a_run_that_succeeded_leaves_nothing(store: MemoryStore) -> None:
    run = Run()
    attempt(store, run)
    assert kept(store) == {}


async def test_a_run_leaves_nothing_after_each_way_that_it_can_end(store: MemoryStore) -> None:
    skip = Policy(gate=Gate(overlap=Overlap.SKIP))
    full = Policy(gate=Gate(queue=0))
    first, skipped, no_place, waits = Run(), Run(policy=skip), Run(policy=full), Run()
    store.arrive(first)
    assert isinstance(store.arrive(skipped), Refused)
    assert isinstance(store.arrive(no_place), Refused)
    assert isinstance(store.arrive(waits), Waiting)
    assert await store.turn(waits, 0.0) is not None
    store.leave(first)
    assert kept(store) == {}


async def test_a_failure_that_does_not_count_is_not_kept(store: MemoryStore) -> None:
    assert attempt(store, Run(), Kind.INVALID) == GiveUp(Reason.NOT_RETRIED)
    assert kept(store) == {}


async def test_a_breaker_that_a_trial_closed_is_dropped(store: MemoryStore) -> None:
    rules = Policy(breaker=Breaker(failures=1, cooldown_s=1.0))
    attempt(store, Run(policy=rules), Kind.AUTH)
    assert isinstance(store._breakers["s"], Open)
    await sleep(2.0)
    attempt(store, Run(policy=rules))
    assert kept(store) == {}


async def test_a_failure_is_dropped_once_it_has_left_the_window_and_a_run_succeeds(store: MemoryStore) -> None:
    attempt(store, Run(), Kind.AUTH)
    attempt(store, Run())
    assert set(kept(store)) == {"_breakers"}
    await sleep(PLAIN.breaker.window_s + 1.0)
    attempt(store, Run())
    assert kept(store) == {}


async def test_tokens_that_came_back_are_dropped_when_a_run_asks(store: MemoryStore) -> None:
    run = Run()
    assert isinstance(attempt(store, run, Kind.RATE_LIMITED), Retry)
    assert set(kept(store)) == {"_lines", "_tokens"}
    attempt(store, run)
    await sleep(120.0)
    attempt(store, Run())
    assert kept(store) == {}


async def test_a_lifted_quarantine_leaves_nothing(store: MemoryStore) -> None:
    rules = Policy(breaker=Breaker(failures=99))
    run = Run(policy=rules)
    store.arrive(run)
    store.begin(run)
    store.record(run, Failed(Kind.UNCONFIRMED, "not proved dead"), Unknown(("task 7",)), None)
    await store.lift("s", "run")
    assert set(kept(store)) == {"_breakers"}
    await store.reset("s")
    assert kept(store) == {}


async def test_who_stopped_waiting_for_a_breaker_is_forgotten(store: MemoryStore) -> None:
    loop = asyncio.get_running_loop()
    await store.breaker_moved("s", None, loop.time() + 1.0)
    waiting = asyncio.create_task(store.breaker_moved("s", None, None))
    await sleep(1.0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert kept(store) == {}


async def test_the_store_keeps_no_run_that_has_ended(store: MemoryStore) -> None:
    runs = [Run(policy=Policy(gate=Gate(queue=9))) for _ in range(5)]
    for run in runs:
        store.arrive(run)
    for run in runs:
        store.begin(run)
        store.record(run, None, GONE, None)
    dead = [weakref.ref(run) for run in runs]
    gc.disable()
    try:
        runs.clear()
        del run
        assert [ref() for ref in dead] == [None] * 5
    finally:
        gc.enable()


# --- spare objects: what a busy session was is used again for the next


async def test_a_session_s_object_is_used_again_as_good_as_new(store: MemoryStore) -> None:
    wide, queue = Policy(gate=Gate(permits=2)), Policy(gate=Gate(queue=1))
    a, b, c = Run("one", wide), Run("one", wide), Run("one", wide)
    store.arrive(a)
    store.arrive(b)
    store.arrive(c)
    line = store._lines["one"]
    for run in (a, b, c):
        store.leave(run)
    first, second, third = Run("two", queue), Run("two", queue), Run("two", queue)
    assert store.arrive(first) is None
    assert store._lines["two"] is line
    assert isinstance(store.arrive(second), Waiting)
    assert isinstance(store.arrive(third), Refused)
    store.leave(first)
    assert second.holds_permit


async def test_no_more_than_a_few_spare_objects_are_kept(store: MemoryStore) -> None:
    runs = [Run(f"session {n}") for n in range(1000)]
    for run in runs:
        store.arrive(run)
    for run in runs:
        store.leave(run)
    assert len(store._spare) <= 64


async def test_a_late_leave_touches_no_session_that_uses_the_object_now(store: MemoryStore) -> None:
    a, b = Run("one"), Run("two")
    store.arrive(a)
    store.leave(a)
    store.arrive(b)
    store.leave(a)
    store.end(a, SUCCEEDED)
    assert b.holds_permit
    assert isinstance(store.arrive(Run("two")), Waiting)


# --- what is forgotten after a week, once there are many

ONE_FAILURE = Policy(breaker=Breaker(failures=99), budget=Budget(attempts=1))
OPENS = Policy(breaker=Breaker(failures=1, cooldown_s=1.0, cooldown_cap_s=1.0), budget=Budget(attempts=1))
NEVER_REFILLS = Policy(budget=Budget(session=Bucket(refill=0.0)))


def many(store: MemoryStore, policy: Policy, kind: Kind, name: str, count: int = 5000) -> None:
    for n in range(count):
        run = Run(f"{name} {n}", policy)
        attempt(store, run, kind)
        if run.retry_reserved:  # launched, or its tokens would come back
            store.arrive(run)
            store.begin(run)
        store.end(run, SUCCEEDED)


@pytest.mark.parametrize(
    ("policy", "kind", "table"),
    [
        (ONE_FAILURE, Kind.ERROR, "_breakers"),
        (OPENS, Kind.ERROR, "_breakers"),
        (NEVER_REFILLS, Kind.RATE_LIMITED, "_tokens"),
    ],
    ids=["failures of a closed breaker", "an open breaker", "tokens"],
)
async def test_keys_that_come_once_are_forgotten_after_a_week(
    store: MemoryStore, policy: Policy, kind: Kind, table: str
) -> None:
    many(store, policy, kind, "old")
    await sleep(FORGET_AFTER_S + 2.0)
    many(store, policy, kind, "new", 10_000)
    assert not [key for key in getattr(store, table) if key.startswith("old")]
    assert len(getattr(store, table)) == 10_000


async def test_what_is_younger_than_a_week_is_kept(store: MemoryStore) -> None:
    many(store, OPENS, Kind.ERROR, "old")
    await sleep(FORGET_AFTER_S - DAY_S)
    many(store, OPENS, Kind.ERROR, "new", 10_000)
    assert len(store._breakers) == 15_000


async def test_a_week_old_breaker_of_a_session_that_is_busy_is_kept(store: MemoryStore) -> None:
    rules = Policy(breaker=Breaker(failures=1, cooldown_s=1.0), gate=Gate(permits=2))
    attempt(store, Run("busy", rules), Kind.AUTH)
    await sleep(FORGET_AFTER_S)
    trial = Run("busy", rules)
    assert store.arrive(trial) is None
    assert store.begin(trial) is None
    await sleep(FORGET_AFTER_S)
    many(store, OPENS, Kind.ERROR, "new")
    assert isinstance(store._breakers["busy"], HalfOpen)
    store.record(trial, None, GONE, None)
    assert "busy" not in store._breakers


async def test_a_half_open_breaker_that_nobody_tries_is_forgotten_too_and_no_sooner(store: MemoryStore) -> None:
    rules = Policy(breaker=Breaker(failures=1, cooldown_s=1.0, cooldown_cap_s=60.0))
    for n in range(3000):
        first = Run(f"old {n}", rules)
        attempt(store, first, Kind.AUTH)
        store.end(first, SUCCEEDED)
    await sleep(2.0)
    attempt(store, Run("old 0", rules), Kind.AUTH)
    await sleep(3.0)
    for n in range(3000):
        trial = Run(f"old {n}", rules)
        attempt(store, trial, Kind.CANCELLED)  # uncounted: it stays half open
        store.end(trial, SUCCEEDED)
    assert isinstance(store._breakers["old 0"], HalfOpen)
    many(store, OPENS, Kind.ERROR, "new", 10_000)
    trial = Run("old 0", rules)
    assert (store.arrive(trial), store.begin(trial)) == (None, None)
    assert trial.admitted.trial
    store.record(trial, Failed(Kind.AUTH, ""), GONE, None)
    state = store._breakers["old 0"]
    assert isinstance(state, Open)
    assert state.trips == 2  # what came before is not forgotten
    await sleep(FORGET_AFTER_S + 100.0)
    many(store, OPENS, Kind.ERROR, "newest", 40_000)
    assert not [key for key in store._breakers if key.startswith("old")]
