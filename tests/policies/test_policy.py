import re
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import pytest

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.classification import Rule
from policies.failure import DEFAULT_EFFECTS, FIXED_KINDS, Effect, Kind
from policies.gate import Gate, Overlap
from policies.policy import AttemptLimits, LockedBy, LockRule, OnLost, Pids, Policy

OTHER: dict[str, Callable[[Policy], Policy]] = {
    "attempt.timeout_s": lambda p: replace(p, attempt=replace(p.attempt, timeout_s=None)),
    "attempt.idle_timeout_s": lambda p: replace(p, attempt=replace(p.attempt, idle_timeout_s=5.0)),
    "attempt.grace_s": lambda p: replace(p, attempt=replace(p.attempt, grace_s=11.0)),
    "attempt.max_rss_bytes": lambda p: replace(p, attempt=replace(p.attempt, max_rss_bytes=1)),
    "attempt.leave_children": lambda p: replace(p, attempt=replace(p.attempt, leave_children=True)),
    "budget.attempts": lambda p: replace(p, budget=replace(p.budget, attempts=5)),
    "budget.deadline_s": lambda p: replace(p, budget=replace(p.budget, deadline_s=None)),
    "budget.session.capacity": lambda p: replace(p, budget=replace(p.budget, session=Bucket(capacity=11.0))),
    "budget.session.refill": lambda p: replace(p, budget=replace(p.budget, session=Bucket(refill=1.5))),
    "budget.session.deposit": lambda p: replace(p, budget=replace(p.budget, session=Bucket(deposit=0.0))),
    "backoff.strategy": lambda p: replace(p, backoff=Backoff(Strategy.CONSTANT)),
    "backoff.base_s": lambda p: replace(p, backoff=Backoff(base_s=2.5)),
    "backoff.cap_s": lambda p: replace(p, backoff=Backoff(cap_s=121.0)),
    "breaker.failures": lambda p: replace(p, breaker=Breaker(failures=6)),
    "breaker.window_s": lambda p: replace(p, breaker=Breaker(window_s=601.0)),
    "breaker.failure_rate": lambda p: replace(p, breaker=Breaker(failure_rate=0.6)),
    "breaker.minimum": lambda p: replace(p, breaker=Breaker(minimum=11)),
    "breaker.cooldown_s": lambda p: replace(p, breaker=Breaker(cooldown_s=61.0)),
    "breaker.cooldown_cap_s": lambda p: replace(p, breaker=Breaker(cooldown_cap_s=1801.0)),
    "breaker.trials": lambda p: replace(p, breaker=Breaker(trials=2)),
    "gate.permits": lambda p: replace(p, gate=Gate(permits=2)),
    "gate.queue": lambda p: replace(p, gate=Gate(queue=17)),
    "gate.wait_s": lambda p: replace(p, gate=Gate(wait_s=61.0)),
    "gate.overlap": lambda p: replace(p, gate=Gate(overlap=Overlap.SKIP)),
    "lock.wait_s": lambda p: replace(p, lock=LockRule(wait_s=11.0)),
    "lock.by": lambda p: replace(p, lock=LockRule(by=LockedBy.COMMAND)),
    "lock.pids": lambda p: replace(p, lock=LockRule(pids=Pids.OURS)),
    "kinds": lambda p: replace(p, kinds={Kind.TIMEOUT: Effect(retried=False, counts=True, tokens=2.0)}),
    "kinds.tokens": lambda p: replace(p, kinds={Kind.TIMEOUT: Effect(retried=True, counts=True, tokens=1.0)}),
    "failures.kind": lambda p: replace(p, failures=(Rule(Kind.AUTH, exit_code=3),)),
    "failures.exit_code": lambda p: replace(p, failures=(Rule(Kind.AUTH, exit_code=4),)),
    "failures.exception": lambda p: replace(p, failures=(Rule(Kind.AUTH, exception="a.B"),)),
    "failures.output": lambda p: replace(p, failures=(Rule(Kind.AUTH, output=re.compile("x")),)),
    "failures.output's flags": lambda p: replace(p, failures=(Rule(Kind.AUTH, output=re.compile("x", re.DOTALL)),)),
    "failures, their order": lambda p: replace(
        p, failures=(Rule(Kind.AUTH, exit_code=3), Rule(Kind.AUTH, exit_code=4))
    ),
    "failures, the other order": lambda p: replace(
        p, failures=(Rule(Kind.AUTH, exit_code=4), Rule(Kind.AUTH, exit_code=3))
    ),
    "on_lost": lambda p: replace(p, on_lost=OnLost.RETRY),
}


def test_the_hash_changes_with_every_rule_and_each_change_has_its_own() -> None:
    hashes = {name: change(Policy()).hash for name, change in OTHER.items()} | {"": Policy().hash}
    assert len(set(hashes.values())) == len(hashes), sorted(hashes.items(), key=lambda item: item[1])


def test_the_hash_is_12_digits_and_does_not_change_with_the_name() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", Policy().hash)
    assert Policy(name="cron").hash == Policy().hash


# It is written into reports that outlive a release: where a default or a key changes, so may this, and on purpose.
def test_the_hash_of_the_defaults_is_the_same_in_each_process_and_version() -> None:
    assert Policy().hash == "67c22a299825"


def test_equal_policies_have_equal_hashes_whether_a_number_was_written_with_a_point_or_not() -> None:
    written = Policy(
        attempt=AttemptLimits(timeout_s=300, grace_s=10),
        budget=Budget(attempts=4, deadline_s=1800, session=Bucket(capacity=10, refill=1)),
        backoff=Backoff(base_s=2, cap_s=120),
        kinds={Kind.TIMEOUT: Effect(retried=True, counts=True, tokens=2)},
    )
    assert written.hash == Policy().hash


def test_a_kind_that_is_not_changed_has_its_default_effect() -> None:
    changed = Effect(retried=False, counts=False)
    policy = Policy(kinds={Kind.TIMEOUT: changed})
    assert policy.effect(Kind.TIMEOUT) is changed
    assert all(policy.effect(kind) is DEFAULT_EFFECTS[kind] for kind in Kind if kind is not Kind.TIMEOUT)


@pytest.mark.parametrize("kind", sorted(FIXED_KINDS))
def test_the_effect_of_a_fixed_kind_is_changed_by_no_policy(kind: Kind) -> None:
    policy = Policy(kinds={kind: Effect(retried=True, counts=True, tokens=5.0)})
    assert policy.effect(kind) is DEFAULT_EFFECTS[kind]
    assert policy.hash == Policy().hash


def test_the_defaults_are_the_documented_ones() -> None:
    assert Policy() == Policy(
        name="default",
        attempt=AttemptLimits(
            timeout_s=300.0, idle_timeout_s=None, grace_s=10.0, max_rss_bytes=None, leave_children=False
        ),
        budget=Budget(),
        backoff=Backoff(strategy=Strategy.FULL_JITTER, base_s=2.0, cap_s=120.0),
        breaker=Breaker(),
        gate=Gate(),
        lock=LockRule(wait_s=10.0, by=LockedBy.SUPERVISOR, pids=Pids.AUTO),
        kinds=MappingProxyType(dict(DEFAULT_EFFECTS)),
        failures=(),
        on_lost=OnLost.GIVE_UP,
    )


def test_words_in_the_settings_are_these() -> None:
    assert [*Strategy] == ["constant", "exponential", "full_jitter", "equal_jitter"]
    assert [*Overlap] == ["queue", "skip", "coalesce", "replace"]
    assert [*LockedBy] == ["supervisor", "command"]
    assert [*Pids] == ["auto", "ours", "unknown"]
    assert [*OnLost] == ["give_up", "retry"]
