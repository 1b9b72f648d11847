"""What recovery asks of the store when several processes recover at once: each thing happens once."""

import asyncio
from pathlib import Path

import pytest

from policies.breaker import CLOSED
from policies.failure import Failed, Gone, Kind
from supervisor import Status, Supervisor
from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.remains import Remains
from supervisor.testing import ScriptedWork, SharedFile, fails, hangs, succeeds
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import number_of, store_on

LOST = Failed(Kind.LOST, "its supervisor died during the attempt")


async def test_an_attempt_that_several_have_found_lost_is_ended_and_counted_once() -> None:
    file = SharedFile()
    owner, one, other = store_on(file, "owner"), store_on(file, "one"), store_on(file, "other")
    async with Supervisor(store=owner) as supervisor, Supervisor(store=one), Supervisor(store=other):
        run = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        [dead] = [each for each in await Remains(one).others() if each.id == owner.owner]
        found = [(await Remains(each).attempts_of(dead.id))[0] for each in (one, other)]
        ends = [
            await Remains(each).end_lost(attempt, dead.id, LOST, Gone(("its process is dead",)))
            for each, attempt in zip((one, other), found, strict=True)
        ]
        assert [end is None for end in ends] == [False, True]
        assert number_of(file, "attempts WHERE kind = 'lost'") == 1
        breaker, _ = ledger.read(file.connection, "s")
        assert breaker.in_a_row == 1  # type: ignore[union-attr]
        run.cancel()
        await asyncio.wait((run,))


async def test_an_owner_that_was_heard_after_it_was_judged_silent_keeps_all_it_has() -> None:
    file, long = SharedFile(), rules(timeout_s=None, wait_s=600.0)
    owner, other = store_on(file, "owner"), store_on(file, "other")
    async with Supervisor(store=owner) as supervisor, Supervisor(store=other):
        run = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(hangs()), policy=long))
        waits = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(hangs()), policy=long))
        await asyncio.sleep(1)
        [judged] = [each for each in await Remains(other).others() if each.id == owner.owner]
        [attempt] = await Remains(other).attempts_of(judged.id, judged.renewed_at)
        await asyncio.sleep(owner.lease_s)
        assert not await Remains(other).take(attempt, judged)
        assert await Remains(other).pass_by(judged) == 0
        assert await Remains(other).attempts_of(judged.id, judged.renewed_at) == []
        end = await Remains(other).end_lost(attempt, judged.id, LOST, Gone(("its tree",)), judged.renewed_at)
        assert end is None
        assert number_of(file, "places") == 1
        assert number_of(file, "runs WHERE stop IS NOT NULL") == 0
        for each in (run, waits):
            each.cancel()
        await asyncio.wait((run, waits))


@pytest.mark.parametrize("holder", ["the run itself", "another run of its process"])
async def test_a_lock_is_unused_only_where_no_run_of_its_process_has_a_permit(holder: str) -> None:
    """A parked warden that has one may be ended: of any other its attempt may have begun, or be about to."""
    file, lock = SharedFile(), Path("/somewhere/reports.jsonl")
    owner, same_process, other = store_on(file, "owner"), store_on(file, "same"), store_on(file, "other")
    async with Supervisor(store=owner) as one, Supervisor(store=same_process) as two, Supervisor(store=other):
        runs = [asyncio.ensure_future(one.run_report("s", ScriptedWork(hangs()), policy=rules()))]
        await asyncio.sleep(0.1)
        file.connection.execute("UPDATE runs SET lock = ?, state = 'permitted'", (str(lock),))
        if holder == "another run of its process":
            runs.append(asyncio.ensure_future(two.run_report("another", ScriptedWork(hangs()), policy=rules())))
            await asyncio.sleep(0.1)
            file.connection.execute("UPDATE runs SET lock = ? WHERE session = 'another'", (str(lock),))
        [judged] = [each for each in await Remains(other).others() if each.id == owner.owner]
        assert await Remains(other).locks_of(judged.id) == [lock]
        assert await Remains(other).unused(judged, [lock]) == []
        assert await Remains(other).pass_by(judged) == 1
        unused = await Remains(other).unused(judged, [lock])
        assert unused == ([lock] if holder == "the run itself" else [])
        file.connection.execute("UPDATE owners SET renewed_at = renewed_at + 1")
        assert await Remains(other).unused(judged, [lock]) == [], "it was heard"
        file.connection.execute("UPDATE runs SET lock = NULL")
        for run in runs:
            run.cancel()
        await asyncio.wait(runs)


async def test_the_end_of_a_lost_attempt_that_was_told_to_stop_is_no_failure_of_its_session() -> None:
    file = SharedFile()
    owner, other = store_on(file, "owner"), store_on(file, "other")
    async with Supervisor(store=owner) as supervisor, Supervisor(store=other):
        run = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        file.connection.execute("UPDATE runs SET stop = 'stopped'")  # and its process never hears of it
        [attempt] = await Remains(other).attempts_of(owner.owner)
        end = await Remains(other).end_lost(attempt, owner.owner, LOST, Gone(("its process is dead",)))
        assert end is not None
        assert end.failed is not None
        assert end.failed.kind is Kind.CANCELLED
        assert ledger.read(file.connection, "s")[0] == CLOSED
        assert number_of(file, "runs WHERE status = 'cancelled' AND reason = 'stopped'") == 1
        run.cancel()
        await asyncio.wait((run,))


async def test_a_run_between_two_attempts_that_was_told_to_stop_is_cancelled_when_its_owner_died() -> None:
    file = SharedFile()
    owner, other = store_on(file, "owner"), store_on(file, "other")
    async with Supervisor(store=owner) as supervisor, Supervisor(store=other):
        work = ScriptedWork(fails("crash"))
        run = asyncio.ensure_future(supervisor.run_report("s", work, policy=rules(backoff_s=100.0)))
        await asyncio.sleep(1)
        file.connection.execute("UPDATE runs SET stop = 'replaced'")
        assert await Remains(other).end_between(owner.owner) == 1
        assert number_of(file, "runs WHERE status = 'cancelled' AND reason = 'replaced'") == 1
        run.cancel()
        await asyncio.wait((run,))


async def test_one_whose_place_was_taken_while_it_stood_still_enters_when_nobody_else_is_there() -> None:
    file = SharedFile()
    async with Supervisor(store=store_on(file, "owner")) as supervisor:
        first = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1)
        waits = asyncio.ensure_future(supervisor.run_report("s", ScriptedWork(succeeds()), policy=rules()))
        await asyncio.sleep(1)
        file.connection.execute("DELETE FROM places")  # as one does to whom its process seems silent
        first.cancel()
        report = await waits
        assert (report.status, len(report.attempts)) == (Status.SUCCEEDED, 1)
