"""Jobs, and dispatchers of simulated processes on one file, on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.policy import OnLost, Policy
from policies.schedule import Every, Schedule
from supervisor import Supervisor
from supervisor.dispatch.dispatcher import Dispatcher
from supervisor.lock.life_file import Death, RecordedOwner
from supervisor.settings.values import Job
from supervisor.store.sqlite.store import SqliteStore
from supervisor.tasks import start_plain
from supervisor.testing import InlineDatabase, Recorded, ScriptedWork, SharedFile, VirtualClock, World, succeeds
from supervisor.testing.clock import WALL
from supervisor.testing.faults import Strike
from supervisor.testing.process import Process
from tests.supervisor.rules import rules

LEASE_S = 30.0


def job(
    name: str = "job",
    every_s: float = 60.0,
    *,
    schedule: Schedule | None = None,
    policy: Policy | None = None,
    session: str | None = None,
    **more: Any,
) -> Job:
    """Return a job that is due each `every_s` seconds of the clock, or by a schedule of its own."""
    schedule = schedule or Every(every_s, WALL)
    return Job(name, schedule, repr(schedule), session or name, policy or rules(), ("true",), **more)


def lasting(policy: Policy, on_lost: OnLost = OnLost.RETRY) -> Policy:
    return replace(policy, on_lost=on_lost)


class Life:
    """The life file of a simulated process: the world says who holds it."""

    def __init__(self, process: Process) -> None:
        self.path = process.life

    def close(self) -> None: ...


class Serving:
    """A dispatcher in a process of its own. `works` has what each job does; those of other jobs succeed at once."""

    def __init__(
        self, world: World, file: SharedFile, name: str, strikes: tuple[Strike, ...] = (), lease_s: float = LEASE_S
    ) -> None:
        self.world, self.file = world, file
        self.process = world.process(name)
        self.works: dict[str, Any] = {}
        self.recorded = Recorded()
        self._drain_s = 0.0
        self.dispatcher: Dispatcher
        self._database = InlineDatabase(file, self.process, strikes=strikes)
        self.store = SqliteStore(Path("/state/state.db"), lease_s, self._database, lambda *_: Life(self.process))

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[Supervisor]:
        """Have a supervisor alone, which looks after others and knows of no jobs."""
        async with self._made() as supervisor:
            yield supervisor

    @asynccontextmanager
    async def serve(self, *jobs: Job, drain_s: float = 0.0) -> AsyncIterator[Dispatcher]:
        """Serve jobs until the block is left."""
        async with self._made() as supervisor:
            running = await self._begin(supervisor, jobs)
            try:
                yield self.dispatcher
            finally:
                await self.dispatcher.drain(drain_s)
                await running

    def _made(self) -> Supervisor:
        supervisor = Supervisor(clock=self.world.clock, store=self.store, owner_death=self._death)
        supervisor.on(self.recorded)
        return supervisor

    async def _begin(self, supervisor: Supervisor, jobs: Iterable[Job]) -> "asyncio.Task[None]":
        self.dispatcher = Dispatcher(supervisor, self.store, self.world.clock, self.work_of)
        await self.dispatcher.set_jobs(jobs)
        return start_plain(self.dispatcher.run())

    def start(self, *jobs: Job) -> None:
        """Serve jobs in its process, until that is killed or `end` is called."""
        self._ending = asyncio.Event()
        self.task = self.process.start(self._serve_on(jobs))

    def end(self, drain_s: float = 0.0) -> None:
        """Drain, and end the process: its task is `task`."""
        self._drain_s = drain_s
        self.process.call(self._ending.set)

    async def _serve_on(self, jobs: tuple[Job, ...]) -> None:
        async with self._made() as supervisor:  # no generator: those of a process that was killed cannot be closed
            running = await self._begin(supervisor, jobs)
            await self._ending.wait()
            await self.dispatcher.drain(self._drain_s)
            await running
        self.process.kill()

    def work_of(self, job: Job) -> Any:
        return self.works.get(job.name) or ScriptedWork(succeeds())

    def _death(self, recorded: RecordedOwner) -> Death:
        return Death.ALIVE if self.world.holds_life(recorded.life) else Death.GONE


def on_a_clock(main: Callable[[World, SharedFile], Any], seed: int = 0, wall: float = WALL) -> None:
    """Run `main(world, file)` in a world of processes."""
    with VirtualClock(seed, wall=wall) as clock:
        world = World(clock)
        world.run(main(world, SharedFile()))


def ledger(file: SharedFile, name: str = "job") -> list[tuple[float, str | None, str | None]]:
    """Return the ticks of a job, in seconds after the clock's first wall: each with outcome and reason."""
    rows = file.connection.execute(
        "SELECT tick_wall - ?, outcome, reason FROM ticks WHERE job = ? ORDER BY tick_wall", (WALL, name)
    )
    return [tuple(row) for row in rows]


def outcomes(file: SharedFile, name: str = "job") -> list[str | None]:
    """Return how the ticks of a job have ended, the oldest first; a skipped one as its reason."""
    return [reason if outcome == "skipped" else outcome for _, outcome, reason in ledger(file, name)]
