"""The host's slots, where the process of whoever waits for one stood still for longer than the lease."""

import asyncio

from policies.failure import Refusal
from supervisor import Status, Supervisor
from supervisor.report import RunReport
from supervisor.settings.values import Limits, Settings
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.remains import Remains
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import ScriptedWork, SharedFile, hangs
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import number_of, store_on

ONE_SLOT = Settings(limits=Limits(1, None, None, None))


async def passed_by(owner: SqliteStore, other: SqliteStore) -> int:
    [silent] = [each for each in await Remains(other).others() if each.id == owner.owner]
    return await Remains(other).pass_by(silent)


async def test_one_that_was_passed_by_in_the_hosts_line_is_told_and_gets_no_slot() -> None:
    file = SharedFile()
    owner, other = store_on(file, "owner"), store_on(file, "other")
    async with Supervisor(ONE_SLOT, store=owner) as one, Supervisor(ONE_SLOT, store=other) as two:
        taken = asyncio.ensure_future(two.run_report("taken", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        waits: asyncio.Future[RunReport] = asyncio.ensure_future(
            one.run_report("waits", ScriptedWork(hangs()), policy=rules())
        )
        await asyncio.sleep(1)
        assert await passed_by(owner, other) == 1
        report = await asyncio.wait_for(waits, 1)
        assert (report.status, report.reason) == (Status.REFUSED, Refusal.BUSY)
        taken.cancel()
        await asyncio.wait((taken,))
        assert number_of(file, "runs WHERE slot = 1") == 0
        assert number_of(file, "host_places") == 0


async def test_a_run_that_was_ended_by_others_takes_no_slot_that_is_free() -> None:
    file = SharedFile()
    owner, other = store_on(file, "owner"), store_on(file, "other")
    async with Supervisor(ONE_SLOT, store=owner) as one, Supervisor(ONE_SLOT, store=other) as two:
        taken = asyncio.ensure_future(two.run_report("taken", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        waits = asyncio.ensure_future(one.run_report("waits", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        await other.database.run(end_waiting)
        taken.cancel()
        await asyncio.wait((taken, waits))
        assert waits.result().reason is Refusal.BUSY
        assert number_of(file, "runs WHERE slot = 1") == 0


def end_waiting(database: Connection) -> None:
    """End what waits as an operator does whom its process does not answer; its place in the host's line is news."""
    database.execute("UPDATE runs SET state = 'ended' WHERE session = 'waits'")
