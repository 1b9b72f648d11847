"""Ends of attempts that the database could not take: asked again, then written later, and what the caller sees."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from policies.failure import Failed, Kind
from policies.verdict import Reason
from supervisor import Attempt, Supervisor
from supervisor.clock import clock_of
from supervisor.errors import StoreUnavailable
from supervisor.events import BreakerOpened, Events, QuarantineLifted, SessionQuarantined
from supervisor.report import Status
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import InlineDatabase, Recorded, SharedFile, VirtualClock, World
from supervisor.testing.faults import Blow, Strike
from tests.conformance.test_store import ERROR, GONE, Run
from tests.supervisor.rules import now, rules
from tests.supervisor.store.sqlite.opened import SomeLife, number_of

RECORD = "record_attempt"


def failing(file: SharedFile, times: int, *, committed: bool = False) -> SqliteStore:
    """Return a store whose first records fail."""
    process = World(VirtualClock()).process("one")
    strikes = [Strike("one", RECORD, nth, Blow.FAILS, committed) for nth in range(1, times + 1)]
    database = InlineDatabase(file, process, strikes=strikes)
    return SqliteStore(Path("/state/state.db"), database=database, make_life=SomeLife)


def outcomes(file: SharedFile) -> list[str | None]:
    return [outcome for (outcome,) in file.connection.execute("SELECT outcome FROM attempts ORDER BY fence")]


async def succeeds(_: Attempt) -> str:
    return "done"


async def fails(_: Attempt) -> None:
    raise ValueError("no")


async def test_an_end_that_fails_a_few_times_is_asked_again() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 3)) as supervisor:
        assert (await supervisor.run("s", succeeds)).value == "done"
        assert outcomes(file) == ["succeeded"]


async def test_an_end_whose_answer_was_lost_is_written_once() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 1, committed=True)) as supervisor:
        assert (await supervisor.run("s", succeeds)).value == "done"
        assert outcomes(file) == ["succeeded"]


async def test_a_success_that_cannot_be_written_now_stays_one_and_holds_its_session_until_it_is() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 6)) as supervisor:
        assert (await supervisor.run("s", succeeds)).value == "done"
        assert outcomes(file) == [None]
        next_one = await asyncio.wait_for(supervisor.run("s", succeeds), 10.0)
        assert next_one.value == "done"
        assert outcomes(file) == ["succeeded", "succeeded"]


async def test_a_failure_that_cannot_be_written_is_not_tried_again() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 6)) as supervisor:
        report = await supervisor.run_report("s", fails)
        assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, "store_unavailable", 1)
        await asyncio.sleep(5.0)
        assert outcomes(file) == ["failed"]


async def test_an_end_that_is_not_written_is_written_on_leaving() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 4)) as supervisor:
        await supervisor.run("s", succeeds)
        assert outcomes(file) == [None]
    assert outcomes(file) == ["succeeded"]


async def ignores_its_end(_: Attempt) -> None:
    """Live on for 3.5 s, though cancelled after one: until then its session is quarantined."""
    ends_at = now() + 3.5
    while now() < ends_at:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(ends_at - now())


@pytest.mark.parametrize("committed", [False, True])
async def test_an_end_that_is_written_late_grants_no_retry_that_nobody_would_carry_out(*, committed: bool) -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, 4, committed=committed)) as supervisor:
        report = await supervisor.run_report("s", fails, policy=rules(attempts=3))
        assert (report.status, report.reason) == (Status.FAILED, "store_unavailable")
        assert (await asyncio.wait_for(supervisor.run("s", succeeds), 10.0)).value == "done"
        await asyncio.sleep(5.0)
        rows = file.connection.execute("SELECT state, status, reason, reserved FROM runs ORDER BY seq").fetchall()
        assert rows == [("ended", "failed", "store_unavailable", None), ("ended", "succeeded", None, None)]
        spent = file.connection.execute("SELECT spent FROM sessions").fetchall()
        assert spent in ([], [(0.0,)])


async def test_a_quarantine_that_is_written_late_is_lifted_where_what_was_left_has_ended_meanwhile() -> None:
    file = SharedFile()
    listener = Recorded()
    async with Supervisor(store=failing(file, 4)) as supervisor:
        supervisor.on(listener)
        policy = rules(timeout_s=1.0, grace_s=1.0, attempts=1)
        report = await supervisor.run_report("s", ignores_its_end, policy=policy)
        assert report.status is Status.QUARANTINED
        await asyncio.sleep(5.0)
        assert (await supervisor.run("s", succeeds)).value == "done"
    told = [type(event) for event in listener.events if isinstance(event, SessionQuarantined | QuarantineLifted)]
    assert told == [SessionQuarantined, QuarantineLifted]


def unheard(file: SharedFile, ends: int = 1) -> SqliteStore:
    """Return a store whose first attempt begins, and is told that it failed; so many ends of runs fail, too."""
    strikes = [Strike("one", "arrive_and_begin", 1, Blow.FAILS, committed=True)]
    strikes += [Strike("one", "end_run", nth, Blow.FAILS, committed=False) for nth in range(1, ends + 1)]
    database = InlineDatabase(file, World(VirtualClock()).process("one"), strikes=strikes)
    return SqliteStore(Path("/state/state.db"), database=database, make_life=SomeLife)


async def test_a_run_whose_end_cannot_be_written_holds_its_session_only_until_it_is() -> None:
    file = SharedFile()
    async with Supervisor(store=unheard(file, 3)) as supervisor:
        with pytest.raises(StoreUnavailable):
            await supervisor.run("s", succeeds)
        assert (await asyncio.wait_for(supervisor.run("s", succeeds), 5.0)).value == "done"


async def test_a_run_whose_end_cannot_be_written_ends_though_nothing_else_is_under_way() -> None:
    file = SharedFile()
    async with Supervisor(store=unheard(file)) as supervisor:
        with pytest.raises(StoreUnavailable):
            await supervisor.run("s", succeeds)
        await asyncio.sleep(5.0)
        assert file.connection.execute("SELECT state FROM runs").fetchall() == [("ended",)]


async def test_a_run_whose_end_cannot_be_written_is_ended_on_leaving() -> None:
    file = SharedFile()
    async with Supervisor(store=unheard(file)) as supervisor:
        with pytest.raises(StoreUnavailable):
            await supervisor.run("s", succeeds)
    assert file.connection.execute("SELECT state FROM runs").fetchall() == [("ended",)]
    assert number_of(file, "owners") == 0


async def test_an_end_whose_answer_was_lost_tells_all_the_same_what_it_has_changed() -> None:
    file = SharedFile()
    listener = Recorded()
    async with Supervisor(store=failing(file, 1, committed=True)) as supervisor:
        supervisor.on(listener)
        policy = rules(timeout_s=1.0, grace_s=1.0, attempts=1, failures=1)
        await supervisor.run_report("s", ignores_its_end, policy=policy)
    assert [len(listener.of(kind)) for kind in (SessionQuarantined, BreakerOpened)] == [1, 1]


async def test_a_retry_that_was_granted_by_an_answer_that_was_lost_gives_its_token_back_if_it_is_not_launched() -> None:
    file = SharedFile()
    store = failing(file, 1, committed=True)
    await store.open(clock_of(asyncio.get_running_loop()), Events(), None)
    run = Run("run", rules(attempts=3))
    for failed in (ERROR, Failed(Kind.CANCELLED, "before it was launched")):
        await store.arrive(run)
        await store.begin(run)
        run.never_launched = failed is not ERROR
        await store.record(run, failed, GONE, Reason.CANCELLED if run.never_launched else None)
    await store.close()
    assert file.connection.execute("SELECT total(spent) FROM sessions").fetchall() == [(0.0,)]
