"""Policies for tests, in whole seconds and without dice; and what a supervisor holds."""

import asyncio
from typing import Any

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.failure import DEFAULT_EFFECTS, Effect, Kind
from policies.gate import Gate, Overlap
from policies.policy import AttemptLimits, LockRule, Policy
from supervisor import Supervisor
from supervisor.clock import clock_of
from supervisor.store.memory import MemoryStore
from supervisor.testing import VirtualClock


def rules(
    *,
    attempts: int = 3,
    deadline_s: float | None = 600.0,
    capacity: float = 10.0,
    timeout_s: float | None = 10.0,
    idle_s: float | None = None,
    grace_s: float = 2.0,
    backoff_s: float = 1.0,
    failures: int = 100,
    cooldown_s: float = 60.0,
    trials: int = 1,
    permits: int = 1,
    queue: int = 16,
    wait_s: float = 60.0,
    overlap: Overlap = Overlap.QUEUE,
    lock_wait_s: float = 5.0,
    kinds: dict[Kind, Effect] | None = None,
    name: str = "test",
) -> Policy:
    """Return a policy that waits `backoff_s` between attempts; buckets neither refill nor take deposits."""
    return Policy(
        name,
        attempt=AttemptLimits(timeout_s=timeout_s, idle_timeout_s=idle_s, grace_s=grace_s),
        budget=Budget(attempts, deadline_s, Bucket(capacity, refill=0.0, deposit=0.0)),
        backoff=Backoff(Strategy.CONSTANT, base_s=backoff_s),
        breaker=Breaker(failures, failure_rate=1.0, minimum=1000, cooldown_s=cooldown_s, trials=trials),
        gate=Gate(permits, queue, wait_s, overlap),
        lock=LockRule(wait_s=lock_wait_s),
        kinds={**DEFAULT_EFFECTS, **(kinds or {})},
    )


def now() -> float:
    """Return the moment of the running loop's clock."""
    return asyncio.get_running_loop().time()


def block(seconds: float) -> None:
    """Let time pass while the loop can do nothing: as code does that blocks it."""
    clock = clock_of(asyncio.get_running_loop())
    assert isinstance(clock, VirtualClock)
    clock.advance_to(clock.now() + seconds)


def store_of(supervisor: Supervisor) -> MemoryStore:
    effects = supervisor._effects
    assert effects is not None
    assert isinstance(effects.store, MemoryStore)
    return effects.store


def tokens_spent(supervisor: Supervisor, session: str) -> float:
    """Return how many tokens are missing in a session's bucket."""
    tokens: Any = store_of(supervisor)._tokens.get(session)
    return 0.0 if tokens is None else tokens.spent


def failures_counted(supervisor: Supervisor, session: str) -> int:
    """Return how many failures in a row a session's closed breaker knows of."""
    breaker: Any = store_of(supervisor)._breakers.get(session)
    return 0 if breaker is None else breaker.in_a_row


def assert_at_rest(supervisor: Supervisor) -> None:
    """Nobody runs, waits, holds a permit or is watched for: what is left is what sessions have learned."""
    store = store_of(supervisor)
    assert not supervisor._runs
    assert not store._lines
    assert not store._watchers
