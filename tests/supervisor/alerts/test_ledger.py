"""What holds of each ledger, in memory and in a database."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.alerting import HOLD, REPEAT, SOME_SESSIONS, AlertKind, Send, Summary, Summed
from supervisor.alerts.ledger import AlertLedger, Collected, MemoryLedger
from tests.supervisor.alerts.ledgers import DatabaseLedger

START = 1000.0


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def now() -> Hand:
    return Hand()


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, now: Callable[[], float]) -> Iterator[AlertLedger]:
    if request.param == "memory":
        yield MemoryLedger(now)
        return
    with closing(DatabaseLedger(now)) as made:
        yield made


async def outage(ledger: AlertLedger, sessions: range) -> list[object]:
    return [(await ledger.claim(AlertKind.BREAKER_OPENED, f"s{number}")).answer for number in sessions]


async def test_the_eleventh_of_a_minute_is_held_and_told_when_the_minute_is_over(
    now: Hand, ledger: AlertLedger
) -> None:
    assert await outage(ledger, range(74)) == [Send()] * 10 + [HOLD] * 64
    now.moment += 59.5
    assert await ledger.collect(leaving=False) == Collected(None, 0.5)
    now.moment += 0.5
    names = tuple(f"s{number}" for number in range(10, 10 + SOME_SESSIONS))
    summary = Summary((Summed(AlertKind.BREAKER_OPENED, 64, names),), 60.0)
    assert await ledger.collect(leaving=False) == Collected(summary, None)
    assert await ledger.collect(leaving=False) == Collected(None, None)


async def test_whoever_claims_after_the_minute_is_given_its_summary(now: Hand, ledger: AlertLedger) -> None:
    await outage(ledger, range(10))
    now.moment += 1.0
    await ledger.claim(AlertKind.LOST, "a")
    await ledger.claim(AlertKind.GIVE_UP, "a")
    await ledger.claim(AlertKind.LOST, "b")
    now.moment += 600.0
    claimed = await ledger.claim(AlertKind.LOST, "c")
    summed = (Summed(AlertKind.LOST, 2, ("a", "b")), Summed(AlertKind.GIVE_UP, 1, ("a",)))
    assert (claimed.answer, claimed.summary, claimed.wait_s) == (Send(), Summary(summed, 600.0), None)
    assert (await ledger.claim(AlertKind.LOST, "d")).summary is None


async def test_repeats_within_the_hour_are_counted_in_the_next(now: Hand, ledger: AlertLedger) -> None:
    assert [(await ledger.claim(AlertKind.LOST, "a")).answer for _ in range(4)] == [Send(), REPEAT, REPEAT, REPEAT]
    assert (await ledger.claim(AlertKind.QUARANTINE, "a")).answer == Send()
    assert (await ledger.claim(AlertKind.LOST, "b")).answer == Send()
    now.moment += 3600.0
    assert (await ledger.claim(AlertKind.LOST, "a")).answer == Send(3)
    assert (await ledger.claim(AlertKind.LOST, "b")).answer == Send()


async def test_who_leaves_takes_along_only_what_is_his_alone(now: Hand, ledger: AlertLedger) -> None:
    await outage(ledger, range(11))
    collected = await ledger.collect(leaving=True)
    if isinstance(ledger, MemoryLedger):
        assert collected == Collected(Summary((Summed(AlertKind.BREAKER_OPENED, 1, ("s10",)),), 0.0), None)
    else:
        assert collected == Collected(None, 60.0)


async def test_a_clock_that_was_set_back_silences_nobody(now: Hand, ledger: AlertLedger) -> None:
    await outage(ledger, range(11))
    now.moment = 5.0  # as after a reboot, should nobody have shifted the moments
    claimed = await ledger.claim(AlertKind.BREAKER_OPENED, "s0")
    assert claimed.answer == Send()
    assert claimed.summary == Summary((Summed(AlertKind.BREAKER_OPENED, 1, ("s10",)),), 0.0)
    assert await outage(ledger, range(1, 10)) == [Send()] * 9


async def test_a_ledger_does_not_grow_with_the_sessions_that_ever_were(now: Hand, ledger: AlertLedger) -> None:
    for number in range(3000):
        await ledger.claim(AlertKind.LOST, f"s{number}")
        now.moment += 10.0
    if isinstance(ledger, MemoryLedger):
        assert len(ledger._told) < 1500
    else:
        assert isinstance(ledger, DatabaseLedger)
        for table, most in (("alerts_sent", 361), ("alerts_recent", 7)):
            assert ledger.database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] <= most


WAITS = st.sampled_from([0.0, 0.0, 0.0, 0.5, 3.0, 59.5, 60.0, 1800.0, 3600.0, 8 * 86400.0])
STEPS = st.lists(st.tuples(WAITS, st.integers(0, 15), st.sampled_from(AlertKind), st.booleans()), max_size=80)


@settings(deadline=None, derandomize=True, max_examples=150, database=None)
@given(STEPS)
def test_both_ledgers_give_the_same_answers(steps: list[tuple[float, int, AlertKind, bool]]) -> None:
    async def both() -> None:
        now = Hand()
        memory = MemoryLedger(now)
        with closing(DatabaseLedger(now)) as database:
            for wait_s, session, kind, asks in steps:
                now.moment += wait_s
                assert await memory.claim(kind, f"s{session}") == await database.claim(kind, f"s{session}")
                if asks:
                    assert await memory.collect(leaving=False) == await database.collect(leaving=False)

    asyncio.run(both())
