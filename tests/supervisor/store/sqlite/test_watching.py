"""What wakes a run: its own process's changes at once, those of others by polling, forgotten news all the same."""

import asyncio
from pathlib import Path

import pytest

from policies.gate import Overlap
from supervisor import Attempt, Supervisor
from supervisor.store.sqlite.store import SqliteStore
from supervisor.store.sqlite.watching import IDLE_POLL_S, POLL_S
from supervisor.testing import InlineDatabase, SharedFile, VirtualClock, World
from supervisor.testing.faults import Blow, Strike
from tests.supervisor.rules import now, rules
from tests.supervisor.store.sqlite.opened import SomeLife, number_of, store_on, supervised

FORGOTTEN = """
CREATE TEMP TRIGGER forgotten AFTER INSERT ON news WHEN new.session = 's' BEGIN
    UPDATE news SET session = 'of no interest', kind = 'freed', seq = seq + 10 WHERE seq = new.seq;
END
"""


async def nothing(_: Attempt) -> None:
    """Work that is done at once."""


async def test_one_who_joins_a_line_is_polled_for_from_then_on() -> None:
    """Its process was in the middle of a long pause: it had only a run that ran."""
    file = SharedFile()
    ends: list[float] = []

    async def for_a_while(_: Attempt) -> None:
        await asyncio.sleep(IDLE_POLL_S / 4)
        ends.append(now())

    async def long(_: Attempt) -> None:
        await asyncio.sleep(1.0)

    async with supervised(file, name="one") as one, supervised(file, name="two") as two:
        other = asyncio.ensure_future(two.run("another", long))
        await asyncio.sleep(IDLE_POLL_S / 10)
        first = asyncio.ensure_future(one.run("s", for_a_while))
        await asyncio.sleep(IDLE_POLL_S / 10)
        report = await two.run("s", nothing)
        assert now() - ends[0] <= 2 * POLL_S
        assert len(report.attempts) == 1
        await asyncio.gather(first, other)


async def test_news_that_were_forgotten_before_they_were_read_wake_everybody() -> None:
    file = SharedFile()
    released = asyncio.Event()

    async def until_released(_: Attempt) -> None:
        await released.wait()

    async with supervised(file, name="one") as one, supervised(file, name="two") as two:
        first = asyncio.ensure_future(one.run("s", until_released))
        await asyncio.sleep(1.0)
        second = asyncio.ensure_future(two.run("s", nothing))
        await asyncio.sleep(1.0)
        file.connection.execute(FORGOTTEN)
        released.set()
        await asyncio.wait_for(asyncio.gather(first, second), 1.0)


async def test_a_run_that_nobody_carries_out_is_found_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    """A call of it had happened, though its process was told that it had failed."""
    file = SharedFile()
    store = store_on(file, lease_s=9.0)
    async with Supervisor(store=store) as supervisor:
        await supervisor.run("s", nothing)
        file.connection.execute("UPDATE runs SET state = 'permitted', status = NULL")
        assert isinstance(store.database, InlineDatabase)

        async def long(_: Attempt) -> None:
            await asyncio.sleep(10.0)

        await supervisor.run("another", long, policy=rules(timeout_s=60.0))
        rows = file.connection.execute("SELECT session, state, status FROM runs ORDER BY seq").fetchall()
        assert rows == [("s", "ended", "cancelled"), ("another", "ended", "succeeded")]
        assert "nobody carried it out" in caplog.text
        await supervisor.run("s", nothing)


async def test_those_who_wait_behind_a_run_that_nobody_carries_out_are_woken_when_it_is_ended() -> None:
    file = SharedFile()
    async with supervised(file, lease_s=9.0) as supervisor:
        await supervisor.run("s", nothing)
        file.connection.execute("UPDATE runs SET state = 'permitted', status = NULL")
        await asyncio.wait_for(supervisor.run("s", nothing, policy=rules(wait_s=60.0)), 10.0)


async def test_a_run_that_nobody_carries_out_is_ended_on_leaving() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await supervisor.run("s", nothing)
        file.connection.execute("UPDATE runs SET state = 'permitted', status = NULL")
    assert file.connection.execute("SELECT state, status FROM runs").fetchall() == [("ended", "cancelled")]
    assert number_of(file, "owners") == 0


def failing(file: SharedFile, name: str, transaction: str, times: int = 1) -> SqliteStore:
    """Return a store of a process whose first transactions of that name fail."""
    strikes = [Strike(name, transaction, 1, Blow.FAILS, committed=False, times=times)]
    database = InlineDatabase(file, World(VirtualClock()).process(name), strikes=strikes)
    return SqliteStore(Path("/state/state.db"), database=database, make_life=SomeLife)


async def long(_: Attempt) -> None:
    await asyncio.sleep(3000.0)


@pytest.mark.parametrize("transaction", ["_news_after", "_stops"])
async def test_a_stop_is_heard_though_the_first_looks_for_it_fail(transaction: str) -> None:
    file = SharedFile()
    store = failing(file, "one", transaction, 3)
    async with Supervisor(store=store) as one, supervised(file, name="two") as two:
        first = asyncio.ensure_future(one.run_report("s", long, policy=rules(timeout_s=None)))
        await asyncio.sleep(1.0)
        await asyncio.wait_for(two.run("s", nothing, policy=rules(overlap=Overlap.REPLACE)), 2.0)
        assert (await first).reason == "replaced"


async def test_a_run_is_woken_though_the_look_for_what_it_waits_for_fails() -> None:
    file = SharedFile()
    store = failing(file, "two", "_news_after", 3)
    async with supervised(file, name="one") as one, Supervisor(store=store) as two:
        first = asyncio.ensure_future(one.run("s", for_a_second))
        await asyncio.sleep(0.5)
        await asyncio.wait_for(two.run("s", nothing), 2.0)
        await first


async def for_a_second(_: Attempt) -> None:
    await asyncio.sleep(1.0)


async def test_whom_a_run_of_the_same_process_replaces_hears_of_it_though_the_first_look_fails() -> None:
    file = SharedFile()
    async with Supervisor(store=failing(file, "one", "_stops")) as one:
        first = asyncio.ensure_future(one.run_report("s", long, policy=rules(timeout_s=None)))
        await asyncio.sleep(1.0)
        await asyncio.wait_for(one.run("s", nothing, policy=rules(overlap=Overlap.REPLACE)), 2.0)
        assert (await first).reason == "replaced"


async def test_a_stop_whose_news_were_forgotten_is_heard() -> None:
    file = SharedFile()
    async with supervised(file, name="one") as one, supervised(file, name="two") as two:
        first = asyncio.ensure_future(one.run_report("s", long, policy=rules(timeout_s=None)))
        await asyncio.sleep(1.0)
        file.connection.execute(FORGOTTEN)
        await asyncio.wait_for(two.run("s", nothing, policy=rules(overlap=Overlap.REPLACE)), 2.0)
        assert (await first).reason == "replaced"


async def test_one_who_waits_as_the_newest_keeps_nobody_of_its_process_waiting_who_came_later() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        first = asyncio.ensure_future(supervisor.run("s", for_a_second))
        await asyncio.sleep(0.1)
        newest = asyncio.ensure_future(supervisor.run("s", nothing, policy=rules(overlap=Overlap.COALESCE)))
        await asyncio.sleep(0.1)
        queued = asyncio.ensure_future(supervisor.run("s", nothing, policy=rules()))
        await asyncio.wait_for(asyncio.gather(first, newest, queued), 5.0)
