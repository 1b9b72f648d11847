"""Nobody waits for a silent process beyond its lease, whatever its runs wait for themselves."""

import asyncio
from pathlib import Path

import pytest

from policies.gate import Overlap
from policies.policy import Policy
from supervisor import Status, Supervisor
from supervisor.lock.life_file import Death, RecordedOwner
from supervisor.report import RunReport
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import InlineDatabase, ScriptedWork, SharedFile, World, fails, hangs, succeeds, virtual_clock
from supervisor.testing.process import Process
from tests.supervisor.rules import rules

LEASE_S = 30.0
LONG = rules(timeout_s=None, deadline_s=None)


class Life:
    def __init__(self, process: Process) -> None:
        self.path = process.life

    def close(self) -> None: ...


class Two:
    """One process that freezes after ten seconds, and another one."""

    def __init__(self, world: World) -> None:
        self.file, self.world = SharedFile(), world
        self.unknown = False
        self.freezes, self.goes_on = world.process("freezes"), world.process("goes on")

    async def run_in(self, process: Process, work: ScriptedWork, policy: Policy, session: str = "s") -> RunReport:
        database = InlineDatabase(self.file, process)
        store = SqliteStore(Path("/state/state.db"), LEASE_S, database, lambda *_: Life(process))
        async with Supervisor(clock=self.world.clock, store=store, owner_death=self._death) as supervisor:
            return await supervisor.run_report(session, work, policy=policy)

    def _death(self, recorded: RecordedOwner) -> Death:
        if self.unknown:
            return Death.UNKNOWN
        return Death.ALIVE if self.world.holds_life(recorded.life) else Death.GONE


@pytest.mark.parametrize("overlap", [Overlap.COALESCE, Overlap.REPLACE])
@pytest.mark.parametrize("frozen", ["displaced", "in line", "between two attempts"])
def test_the_newest_waits_for_no_run_that_stands_still(overlap: Overlap, frozen: str) -> None:
    """Whether it was displaced, stood in line or had its backoff, and holds nothing that others need."""

    async def main() -> None:
        two = Two(world)
        newest = rules(wait_s=200.0, overlap=overlap, timeout_s=None)
        older = (
            newest if frozen == "displaced" else rules(wait_s=200.0, backoff_s=500.0, deadline_s=None, timeout_s=None)
        )
        holder = None
        if frozen == "between two attempts":
            still = two.freezes.start(two.run_in(two.freezes, ScriptedWork(fails("crash"), succeeds()), older))
        else:
            holder = two.goes_on.start(two.run_in(two.goes_on, ScriptedWork(succeeds(after=20.0)), older))
            await clock.sleep(5.0)
            still = two.freezes.start(two.run_in(two.freezes, ScriptedWork(succeeds()), older))
        await clock.sleep(5.0)
        two.freezes.freeze()
        await clock.sleep(5.0)
        process = world.process("newest")
        report = await process.start(two.run_in(process, ScriptedWork(succeeds()), newest))
        assert report.status is Status.SUCCEEDED
        assert report.duration_s < 2 * LEASE_S
        two.freezes.thaw()
        await asyncio.wait((still,))
        assert still.result().status is not Status.QUARANTINED
        if holder is not None:
            await asyncio.wait((holder,))

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())


def test_what_is_quarantined_as_nothing_says_whether_its_process_lives_is_freed_by_the_proof_of_its_death() -> None:
    async def main() -> None:
        two = Two(world)
        still = two.freezes.start(two.run_in(two.freezes, ScriptedWork(hangs()), rules(timeout_s=None)))
        await clock.sleep(1.0)
        two.freezes.freeze()
        two.unknown = True
        looks = two.goes_on.start(two.run_in(two.goes_on, ScriptedWork(succeeds(after=200.0)), LONG, "another"))
        await clock.sleep(100.0)
        assert [row[1] for row in two.file.connection.execute("SELECT session, tasks FROM quarantines")] == [1]
        two.freezes.kill()
        two.unknown = False
        await clock.sleep(1.0)
        assert two.file.connection.execute("SELECT session FROM quarantines").fetchall() == []
        [owners] = two.file.connection.execute("SELECT count(*) FROM owners").fetchone()
        assert owners == 1
        still.cancel()
        await asyncio.wait((looks,))

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())
