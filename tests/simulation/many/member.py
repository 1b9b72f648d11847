"""One process of a simulation: a supervisor over the shared file, for as long as it is wanted or until it is killed."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.budget import Bucket
from supervisor import RunReport, Supervisor
from supervisor.errors import SupervisorError
from supervisor.lock.life_file import Death, RecordedOwner
from supervisor.settings.values import Limits, Settings
from supervisor.steps.running import Running
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import InlineDatabase
from supervisor.testing.faults import Strike
from supervisor.testing.numbered import NumberedTask
from supervisor.testing.process import Process
from tests.simulation.facts import WHO, Facts
from tests.simulation.work import Troupe

if TYPE_CHECKING:
    from tests.simulation.many.simulate import Simulation

STATE = Path("/state/turnkeeper.db")


class SimulatedLife:
    """The life file of a simulated process: the world says who holds it."""

    def __init__(self, process: Process) -> None:
        self.path = process.life

    def close(self) -> None:
        """Nothing: a simulated process that has left is killed at once."""


class WorldSupervisor(Supervisor):
    """Notes which run of the facts a run is, and the moment at which it is asked for."""

    facts: Facts
    process: Process

    async def run(self, *args: Any, **options: Any) -> RunReport:
        self.facts.admitted(WHO.get())
        return await super().run(*args, **options)

    def new_run(self, *args: Any) -> Running:
        run, who = super().new_run(*args), WHO.get()
        who.run_id, who.process = run.run_id, self.process
        self.facts.by_id[run.run_id] = who
        return run


class Member:
    """A process and what runs in it."""

    def __init__(self, simulation: "Simulation", name: str, process: Process) -> None:
        self._simulation = simulation
        self.name = name
        self.process = process
        self._troupe: asyncio.Future[Troupe] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._resetting: list[asyncio.Task[None]] = []
        self.store = self._store()
        self.task = process.start(self._serve())

    async def ready(self) -> Troupe:
        return await asyncio.shield(self._troupe)

    def reset(self, session: str) -> None:
        """Have it reset a session, as an operator's command does."""
        self._resetting.append(self.process.start(self._reset(session)))

    async def _reset(self, session: str) -> None:
        troupe = await self.ready()
        await troupe.supervisor.reset(session)

    def may_leave(self) -> bool:
        """Whether it is there to be told so: it lives, and its supervisor was opened."""
        return self.process.lives and self._troupe.done() and not self._troupe.cancelled()

    def end_plays(self) -> None:
        """Have work that never ends, end."""
        troupe = self._troupe.result()
        troupe.ending = True
        self.process.call(troupe.curtain.set)

    def leave(self) -> None:
        """Have it close its supervisor, and end."""
        self.process.call(self._leaving.set)

    async def _serve(self) -> None:
        simulation, facts = self._simulation, self._simulation.facts
        supervisor = WorldSupervisor(
            self._settings(),
            policies=simulation.policies,
            clock=simulation.clock,
            store=self.store,
            locks=simulation.locks,
            start_task=_start_task,
            launcher=simulation.launcher,
            memory=lambda: 1 << 33,
            owner_death=self._owner_death,
        )
        supervisor.facts, supervisor.process = facts, self.process
        try:
            async with supervisor:
                self._troupe.set_result(Troupe(facts, supervisor, simulation.policies))
                await self._leaving.wait()
        except SupervisorError as error:
            facts.note("failed", self.process.name, shown=str(error))
            self._troupe.cancel()
        except Exception as error:
            facts.violation("crash", f"process {self.process.name} ends by {type(error).__name__}: {error}")
            self._troupe.cancel()
        facts.note("left", self.process.name)
        self.process.kill()  # the end of a process is its death: nothing of it may go on

    def _owner_death(self, recorded: RecordedOwner) -> Death:
        return Death.ALIVE if self._simulation.world.holds_life(recorded.life) else Death.GONE

    def _store(self) -> SqliteStore:
        scenario = self._simulation.scenario
        strikes = [each for each in scenario.faults if isinstance(each, Strike) and each.process == self.process.name]
        database = InlineDatabase(self._simulation.file, self.process, slowness=scenario.slowness, strikes=strikes)
        return SqliteStore(STATE, scenario.lease_s, database, lambda *_: SimulatedLife(self.process))

    def _settings(self) -> Settings:
        scenario = self._simulation.scenario
        bucket = None if scenario.host_bucket is None else Bucket(*scenario.host_bucket)
        return Settings(limits=Limits(scenario.running, None, None, bucket))


def _start_task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return NumberedTask(work, loop=asyncio.get_running_loop())
