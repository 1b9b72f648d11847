"""A run that was told to end after it had got its permit, and before its attempt began: the work never starts."""

import asyncio

import pytest

from policies.breaker import CLOSED
from policies.budget import FULL
from policies.gate import Overlap
from policies.verdict import Reason
from supervisor import Status, Supervisor
from supervisor.store.contract import Refused, Standing, Waiting
from supervisor.store.sqlite import admission, ledger, operate
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import ScriptedWork, SharedFile, fails, succeeds
from supervisor.testing.clock import WALL
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import number_of, store_on


class NeverAtOnce(SqliteStore):
    """It begins an attempt when it is asked to, as for a run that makes something ready after it was let in."""

    async def _arrive(self, run: Standing) -> Refused | Waiting | None:
        return await self.database.run(admission.arrive, self.asking(run), self.moment())


class ToldInBetween(NeverAtOnce):
    """As each of its attempts begins from the `after`th on, another process has just told its run to end."""

    file: SharedFile
    after = 1

    async def begin(self, run: Standing) -> Refused | None:
        if run.number + 1 >= self.after:
            operate.stop(self.file.connection, run.session, Reason.STOPPED.value, "another", WALL)
        return await super().begin(run)


def store_told_in_between(file: SharedFile, after: int) -> ToldInBetween:
    plain = store_on(file)
    store = ToldInBetween(plain.path, database=plain.database, make_life=plain._make_life)
    store.file, store.after = file, after
    return store


@pytest.mark.parametrize("attempt", [1, 2])
async def test_an_attempt_of_a_run_that_was_told_to_end_never_starts_and_costs_nothing(attempt: int) -> None:
    file, work = SharedFile(), ScriptedWork(*([fails("crash")] * (attempt - 1)), succeeds())
    store = store_told_in_between(file, attempt)
    async with Supervisor(store=store) as supervisor:
        report = await supervisor.run_report("s", work, policy=rules(capacity=10.0))
        assert (report.status, report.reason) == (Status.CANCELLED, Reason.STOPPED)
        assert len(work.attempts) == attempt - 1
        breaker, tokens = ledger.read(file.connection, "s")
        assert tokens == FULL
        assert (breaker == CLOSED) is (attempt == 1)
        assert number_of(file, "attempts WHERE outcome IS NULL") == 0
        assert number_of(file, "runs WHERE status = 'cancelled' AND reason = 'stopped'") == 1
        await asyncio.sleep(1.0)  # no cancellation is left over for whoever called


async def test_whoever_replaces_it_is_next_at_once() -> None:
    file, late, newest = SharedFile(), ScriptedWork(succeeds(after=50.0)), ScriptedWork(succeeds())
    policy = rules(overlap=Overlap.REPLACE)
    replaced = asyncio.Event()

    class Slow(NeverAtOnce):
        async def begin(self, run: Standing) -> Refused | None:
            await replaced.wait()
            return await super().begin(run)

    plain = store_on(file, "slow")
    slow = Slow(plain.path, database=plain.database, make_life=plain._make_life)
    async with Supervisor(store=slow) as one, Supervisor(store=store_on(file, "quick")) as other:
        older = asyncio.ensure_future(one.run_report("s", late, policy=policy))
        await asyncio.sleep(0.5)
        newer = asyncio.ensure_future(other.run_report("s", newest, policy=policy))
        for _ in range(100):  # in one moment: no tick comes between
            await asyncio.sleep(0)
        assert number_of(file, "runs WHERE stop = 'replaced'") == 1
        replaced.set()
        assert (await older).reason is Reason.REPLACED
        assert (await newer).status is Status.SUCCEEDED
        assert not late.attempts
