from dataclasses import FrozenInstanceError
from itertools import islice
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.failure import (
    DEFAULT_EFFECTS,
    FIXED_KINDS,
    LEAST_RETRYABLE,
    Effect,
    Failed,
    Gone,
    Kind,
    Outcome,
    Refusal,
    Unknown,
    least_retryable,
)

# kind: retried, counts for the breaker, tokens of a retry (where there may be one)
TABLE: dict[Kind, tuple[bool, bool, float | None]] = {
    Kind.TIMEOUT: (True, True, 2),
    Kind.IDLE: (True, True, 2),
    Kind.RATE_LIMITED: (True, False, 1),
    Kind.OVERLOADED: (True, True, 1),
    Kind.SERVER_ERROR: (True, True, 1),
    Kind.NETWORK: (True, True, 1),
    Kind.CRASH: (True, True, 1),
    Kind.ERROR: (True, True, 1),
    Kind.MEMORY: (False, True, None),
    Kind.AUTH: (False, True, None),
    Kind.INVALID: (False, False, None),
    Kind.BUSY: (False, False, 0),
    Kind.LOST: (True, True, 1),
    Kind.CANCELLED: (False, False, 0),
    Kind.UNCONFIRMED: (False, True, None),
}


def test_every_kind_has_its_row_in_the_table() -> None:
    assert set(TABLE) == set(Kind) == set(DEFAULT_EFFECTS)


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_does_by_default_what_the_table_says(kind: Kind) -> None:
    retried, counts, tokens = TABLE[kind]
    effect = DEFAULT_EFFECTS[kind]
    assert (effect.retried, effect.counts) == (retried, counts)
    if tokens is not None:
        assert effect.tokens == tokens


def test_what_is_not_about_the_work_is_changed_by_no_setting() -> None:
    assert {Kind.BUSY, Kind.CANCELLED, Kind.UNCONFIRMED} == FIXED_KINDS
    assert not any(DEFAULT_EFFECTS[kind].retried for kind in FIXED_KINDS)


def test_a_kind_that_somebody_makes_retryable_costs_a_token() -> None:
    assert Effect(retried=True, counts=True).tokens == 1.0


def test_the_defaults_cannot_be_changed_by_their_readers() -> None:
    with pytest.raises(TypeError):
        cast("dict[Kind, Effect]", DEFAULT_EFFECTS)[Kind.ERROR] = Effect(retried=False, counts=False)
    with pytest.raises(FrozenInstanceError):
        DEFAULT_EFFECTS[Kind.ERROR].retried = False  # type: ignore[misc]


def test_kinds_are_listed_once() -> None:
    assert sorted(LEAST_RETRYABLE) == sorted(Kind)


# Within a group no order is promised.
FROM_THE_LEAST_RETRYABLE_ON: list[set[Kind]] = [
    {Kind.UNCONFIRMED},  # never, and quarantine
    {Kind.CANCELLED},  # never
    {kind for kind, (retried, _, _) in TABLE.items() if not retried} - FIXED_KINDS,
    {Kind.LOST},  # by policy
    {Kind.BUSY},  # waits, then refused
    {kind for kind, (retried, counts, _) in TABLE.items() if retried and counts} - {Kind.LOST},
    {Kind.RATE_LIMITED},  # it does not even count
]


def test_the_less_a_kind_may_be_retried_the_earlier_it_speaks() -> None:
    speakers = iter(LEAST_RETRYABLE)
    assert [{*islice(speakers, len(group))} for group in FROM_THE_LEAST_RETRYABLE_ON] == FROM_THE_LEAST_RETRYABLE_ON


@given(st.frozensets(st.sampled_from(Kind), min_size=1))
def test_of_several_failures_the_least_retryable_speaks(kinds: frozenset[Kind]) -> None:
    speaker = least_retryable(kinds)
    assert speaker in kinds
    assert not any(kind in kinds for kind in LEAST_RETRYABLE[: LEAST_RETRYABLE.index(speaker)])


def test_no_failure_at_all_has_no_speaker() -> None:
    with pytest.raises(ValueError):
        least_retryable(frozenset())


def test_words_in_reports_and_settings_are_these() -> None:
    assert [*Outcome] == ["succeeded", "failed", "cancelled", "unconfirmed"]
    assert {*Refusal} == {
        *("breaker_open", "queue_full", "wait_over", "busy", "overlap", "quarantined", "ancestor"),
        *("host_full", "low_memory", "deadline", "paused"),
    }
    assert {*Kind} == {
        *("timeout", "idle", "rate_limited", "overloaded", "server_error", "network", "crash", "error"),
        *("memory", "auth", "invalid", "busy", "lost", "cancelled", "unconfirmed"),
    }


def test_a_bare_failure_and_a_bare_receipt_claim_nothing() -> None:
    assert Failed(Kind.ERROR, "x") == Failed(Kind.ERROR, "x", None, None, None, "", "")
    assert Gone() == Gone((), 0.0, 0, lock_reclaimed=False)
    assert Unknown(("pid 7",)) == Unknown(("pid 7",), (), 0.0, 0, lock_reclaimed=False)
