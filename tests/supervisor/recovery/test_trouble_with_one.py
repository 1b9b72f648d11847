"""What goes wrong as one dead process, or one quarantine, is looked at leaves the others what they are due."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Refusal
from policies.policy import Policy
from supervisor import Status, Supervisor
from supervisor.errors import Failure
from supervisor.lock.life_file import Death, Exited, RecordedOwner
from supervisor.owner import RecordedTree
from supervisor.report import RunReport
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import (
    InlineDatabase,
    ScriptedWork,
    SharedFile,
    SimulatedCommand,
    SimulatedLauncher,
    TreeScript,
    World,
    hangs,
    succeeds,
    virtual_clock,
)
from supervisor.testing.process import Process
from tests.supervisor.rules import rules

LONG = rules(timeout_s=None, deadline_s=None)
TROUBLES = [OSError(5, "Input/output error"), Failure("error", "the folder is gone"), KeyError("a bug")]


class Life:
    def __init__(self, process: Process) -> None:
        self.path = process.life

    def close(self) -> None: ...


class Host:
    """Processes on one file. `trouble` is raised when it is asked whether the one with that life is dead."""

    def __init__(self, world: World) -> None:
        self.world, self.file = world, SharedFile()
        self.trouble: dict[Path, Exception] = {}
        self.launcher = SimulatedLauncher(keep_life=True)
        self.unknown: set[Path] = set()

    def start(self, name: str, work: ScriptedWork, policy: Policy = LONG) -> Process:
        process = self.world.process(name)
        process.start(self.run(process, work, policy, name))
        return process

    def supervisor(self, process: Process) -> Supervisor:
        store = SqliteStore(Path("/s/state.db"), 30.0, InlineDatabase(self.file, process), lambda *_: Life(process))
        how: dict[str, Any] = {"clock": self.world.clock, "launcher": self.launcher, "owner_death": self._death}
        return Supervisor(store=store, **how)

    async def run(self, process: Process, work: Any, policy: Policy, *sessions: str) -> list[RunReport]:
        async with self.supervisor(process) as supervisor:
            return await asyncio.gather(*(supervisor.run_report(each, work, policy=policy) for each in sessions))

    def _death(self, recorded: RecordedOwner) -> Death:
        if recorded.life in self.trouble:
            raise self.trouble[recorded.life]
        if recorded.life in self.unknown:
            return Death.UNKNOWN
        return Death.ALIVE if self.world.holds_life(recorded.life) else Death.GONE

    def sessions(self, table: str) -> set[str]:
        return {session for (session,) in self.file.connection.execute(f"SELECT session FROM {table}")}


def on_host(main: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    with virtual_clock() as clock:
        world = World(clock)
        world.run(main(Host(world)))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("trouble", TROUBLES, ids=repr)
@pytest.mark.parametrize("troubled", ["one", "other"])
def test_trouble_with_one_dead_process_is_told_once_and_the_runs_of_others_are_ended(
    trouble: Exception, troubled: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(host: Host) -> None:
        lost = [host.start(name, ScriptedWork(hangs())) for name in ("one", "other")]
        looks = host.start("looks", ScriptedWork(hangs()))
        await asyncio.sleep(1.0)
        host.trouble = {Path(f"/alive/{troubled}"): trouble}
        for process in lost:
            process.kill()
        await asyncio.sleep(10.0)
        assert host.sessions("runs WHERE state <> 'ended'") == {"looks", troubled}
        assert len(warnings_in(caplog)) == 1
        host.trouble.clear()
        await asyncio.sleep(1.0)
        assert host.sessions("runs WHERE state <> 'ended'") == {"looks"}
        looks.kill()

    on_host(main)


@pytest.mark.parametrize("troubled", ["one", "other"])
def test_trouble_with_one_quarantine_is_told_once_and_the_others_are_lifted(
    troubled: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(host: Host) -> None:
        left = [host.start(name, ScriptedWork(hangs())) for name in ("one", "other")]
        await asyncio.sleep(1.0)
        looks = host.start("looks", ScriptedWork(hangs()))
        host.unknown = {process.life for process in left}
        for process in left:
            process.freeze()
        await asyncio.sleep(100.0)
        assert host.sessions("quarantines") == {"one", "other"}
        for process in left:
            process.kill()
        host.unknown.clear()
        host.trouble = {Path(f"/alive/{troubled}"): OSError(5, "Input/output error")}
        await asyncio.sleep(10.0)
        assert host.sessions("quarantines") == {troubled}
        assert len(warnings_in(caplog)) == 2, "one of the process, one of its quarantine"
        looks.kill()

    on_host(main)


@pytest.mark.parametrize("troubled", [0, 1])
def test_trouble_with_one_attempt_of_a_dead_process_leaves_its_others_ended(troubled: int) -> None:
    class Launcher(SimulatedLauncher):
        def tree_gone(self, recorded: RecordedTree, renewed_at: float | None = None) -> tuple[Death, Exited]:
            if recorded == self.trees[troubled].recorded:
                raise OSError(5, "Input/output error")
            return super().tree_gone(recorded, renewed_at)

    async def main(host: Host) -> None:
        host.launcher = Launcher(keep_life=True)
        dead = host.world.process("dead")
        dead.start(host.run(dead, SimulatedCommand(TreeScript(runs_s=1000.0)), LONG, "one", "other"))
        looks = host.start("looks", ScriptedWork(hangs()))
        await asyncio.sleep(1.0)
        dead.kill()
        await asyncio.sleep(10.0)
        assert host.sessions("runs WHERE state <> 'ended'") == {"looks", ("one", "other")[troubled]}
        looks.kill()

    on_host(main)


def test_whoever_is_refused_for_a_dead_process_is_told_so_though_there_is_trouble_with_that_one() -> None:
    """It looks at the dead first: what goes wrong there is not its failure."""

    async def main(host: Host) -> None:
        dead = host.start("one", ScriptedWork(hangs()))
        await asyncio.sleep(1.0)
        dead.kill()
        host.trouble = {dead.life: OSError(5, "Input/output error")}
        process = host.world.process("comes")
        [report] = await process.start(host.run(process, ScriptedWork(succeeds()), rules(queue=0), "one"))
        assert (report.status, report.reason) == (Status.REFUSED, Refusal.QUEUE_FULL)

    on_host(main)
