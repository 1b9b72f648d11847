"""A silent owner whose attempt is taken: from that moment on it has lost it, and from before that moment, nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.failure import Kind
from policies.policy import Policy
from policies.verdict import Reason
from supervisor import Status, Supervisor
from supervisor.lock.life_file import Death, RecordedOwner
from supervisor.owner import RecordedTree
from supervisor.report import RunReport
from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import (
    Happening,
    InlineDatabase,
    ScriptedWork,
    SharedFile,
    SimulatedCommand,
    SimulatedLauncher,
    TreeScript,
    World,
    hangs,
    virtual_clock,
)
from supervisor.testing.process import Process
from tests.supervisor.recovery.test_passed_by import Life
from tests.supervisor.rules import rules

LEASE_S = 30.0
RULES = rules(timeout_s=None, deadline_s=None, grace_s=2.0)


class WokenLauncher(SimulatedLauncher):
    """Somebody wakes in the instant in which a recorded tree is about to be asked to stop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(keep_life=True)
        self.wake = wake
        self.asked = 0

    def stop_tree(self, recorded: RecordedTree) -> bool:
        self.asked += 1
        self.wake()
        return super().stop_tree(recorded)


class Two:
    """One process that freezes, and another that looks after it, until it stops to."""

    def __init__(self, world: World, work: SimulatedCommand) -> None:
        self.world, self.file, self.work = world, SharedFile(), work
        self.frozen, self.looks = world.process("frozen"), world.process("looks")
        self.launcher = WokenLauncher(self.wake)
        self.looks_on = self.wakes = True

    def wake(self) -> None:
        if self.wakes:
            self.frozen.thaw()
        if not self.looks_on:
            self.looks.kill()

    async def run_in(self, process: Process, work: object, session: str, policy: Policy = RULES) -> RunReport:
        database = InlineDatabase(self.file, process)
        store = SqliteStore(Path("/state/state.db"), LEASE_S, database, lambda *_: Life(process))
        how = {"clock": self.world.clock, "launcher": self.launcher, "owner_death": self._death}
        async with Supervisor(store=store, **how) as supervisor:  # type: ignore[arg-type]
            return await supervisor.run_report(session, work, policy=policy)  # type: ignore[arg-type]

    def _death(self, recorded: RecordedOwner) -> Death:
        return Death.ALIVE if self.world.holds_life(recorded.life) else Death.GONE

    async def report_of_frozen(self) -> RunReport:
        still = self.frozen.start(self.run_in(self.frozen, self.work, "s"))
        await asyncio.sleep(1.0)
        looks = self.looks.start(self.run_in(self.looks, ScriptedWork(hangs()), "another"))
        self.frozen.freeze()
        report = await still
        looks.cancel()
        return report

    def attempts(self) -> list[tuple[str, str | None]]:
        return self.file.connection.execute("SELECT outcome, kind FROM attempts WHERE session = 's'").fetchall()


@pytest.mark.parametrize("looks_on", [True, False], ids=["who took it ends it", "who took it has died"])
@pytest.mark.parametrize("ends_in_s", [0.0, 1.0], ids=["at once", "a second later"])
def test_an_owner_that_wakes_as_its_tree_is_stopped_has_lost_that_attempt_and_tries_nothing_again(
    looks_on: bool,  # noqa: FBT001 - of the parameters
    ends_in_s: float,
) -> None:
    async def main() -> None:
        two = Two(world, SimulatedCommand(TreeScript(runs_s=1000.0, ends_in_s=ends_in_s)))
        two.looks_on = looks_on
        report = await two.report_of_frozen()
        assert two.launcher.asked
        assert (report.status, report.reason) == (Status.FAILED, Reason.LOST)
        assert two.attempts() == [("failed", "lost")]
        assert ledger.read(two.file.connection, "s")[0].in_a_row == 1  # type: ignore[union-attr]
        failure = report.attempts[0].failure
        assert failure is not None
        assert (failure.kind is Kind.LOST) is bool(ends_in_s), "it hears of that before the end of its tree"

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())


def test_an_owner_that_does_not_wake_has_lost_an_attempt_that_counts_as_a_failure_of_its_session() -> None:
    async def main() -> None:
        two = Two(world, SimulatedCommand(TreeScript(runs_s=1000.0)))
        two.wakes = False
        still = asyncio.ensure_future(two.report_of_frozen())
        await asyncio.sleep(100.0)
        assert two.attempts() == [("failed", "lost")]
        assert ledger.read(two.file.connection, "s")[0].in_a_row == 1  # type: ignore[union-attr]
        two.frozen.thaw()
        assert (await still).reason is Reason.LOST

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())


def test_a_command_that_had_succeeded_before_its_tree_was_stopped_has_succeeded() -> None:
    """Its owner wakes, and hears that from its warden first."""

    async def main() -> None:
        two = Two(world, SimulatedCommand(TreeScript(runs_s=5.0, daemons=1)))
        two.looks_on = False
        report = await two.report_of_frozen()
        assert two.launcher.asked
        assert (report.status, two.attempts()) == (Status.SUCCEEDED, [("succeeded", None)])

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())


def test_an_owner_that_wakes_to_a_quarantine_says_so() -> None:
    """Its warden was killed: nobody could prove the tree gone, and the row of the run says that."""

    async def main() -> None:
        two = Two(world, SimulatedCommand(TreeScript(runs_s=1000.0, warden_dies=(Happening.STARTED, 5.0))))
        two.wakes = False
        still = asyncio.ensure_future(two.report_of_frozen())
        await asyncio.sleep(100.0)
        assert two.attempts() == [("unconfirmed", "unconfirmed")]
        two.frozen.thaw()
        report = await still
        assert (report.status, report.reason) == (Status.QUARANTINED, Reason.UNCONFIRMED)

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main())
