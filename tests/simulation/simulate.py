"""One scenario, from its first job to rest: what happened, and what the checker says of it."""

import asyncio
import gc
import hashlib
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.budget import Bucket
from policies.policy import Policy
from policies.verdict import Retry
from supervisor import RunFailed, RunRefused, RunReport, Supervisor
from supervisor.errors import SupervisorError
from supervisor.settings.values import Limits, Settings
from supervisor.store.memory import MemoryStore
from supervisor.tasks import start_eager
from supervisor.testing import VirtualClock
from supervisor.testing.faults import CancelAt, CancelPlace, HoldLock, LowMemory, Reset, StepWall
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.numbered import NumberedTask
from supervisor.testing.slow_store import SlowStore
from supervisor.testing.trees import SimulatedLauncher
from tests.simulation.checker import checkers
from tests.simulation.endings import Interrupt
from tests.simulation.facts import WHO, Facts
from tests.simulation.rest import Rest
from tests.simulation.scenario import Job, Scenario
from tests.simulation.watched_store import WatchedStore
from tests.simulation.work import Troupe

GIB = 1 << 30

logging.getLogger("turnkeeper").addHandler(logging.NullHandler())  # what stays quarantined is checked, not read


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to."""

    violations: tuple[str, ...]
    log: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.log).encode()).hexdigest()[:16]


class Plant:
    """How a planted bug gets in: another store, or parts of the engine replaced while `planted` is entered."""

    store: type[MemoryStore] = MemoryStore
    locks: type[MemoryLockFiles] = MemoryLockFiles

    @contextmanager
    def planted(self) -> Iterator[None]:
        yield


HEALTHY = Plant()


def simulate(scenario: Scenario, plant: Plant = HEALTHY, *, eager: bool = False) -> Outcome:
    """Run a scenario to its end. The same scenario has the same log, on every Python (not so with `eager`)."""
    clock = _Clock(scenario.seed)
    clock.facts = facts = Facts(clock)
    simulation = _Simulation(scenario, plant, facts, clock, eager=eager)
    collecting = gc.isenabled()
    gc.disable()  # what dies, dies because nothing refers to it
    try:
        with plant.planted(), clock:
            clock.run(simulation.main())
    except SupervisorError as stuck:
        facts.violation("rest", f"{type(stuck).__name__}: {stuck}")
    finally:
        if collecting:
            gc.enable()
    return Outcome(tuple(facts.violations), tuple(facts.log))


class _Clock(VirtualClock):
    """Notes when a backoff begins."""

    facts: Facts

    async def sleep(self, seconds: float) -> None:
        run = WHO.get(None)
        last = None if run is None or run.begun or not run.records else run.records[-1]
        if last is not None and isinstance(last.verdict, Retry) and not last.waited:
            last.waited = True
            self.facts.note("backoff", run, shown=f"{seconds:.4f}")
        await super().sleep(seconds)


class _Supervisor(Supervisor):
    """Notes the moment at which a run is asked for: a subagent may have waited for its place until then."""

    facts: Facts

    async def run(self, *args: Any, **options: Any) -> RunReport:
        self.facts.admitted(WHO.get())
        return await super().run(*args, **options)


class _Simulation:
    def __init__(self, scenario: Scenario, plant: Plant, facts: Facts, clock: _Clock, *, eager: bool) -> None:
        self.scenario, self.facts, self.clock, self.eager = scenario, facts, clock, eager
        self.policies = {rules.name: rules.policy() for rules in scenario.policies}
        self.policies["fresh"] = Policy("fresh")
        self.watched = WatchedStore(plant.store(), facts)
        self.locks = plant.locks(self.clock, facts)
        self.launcher = SimulatedLauncher(self.locks, facts.tree)
        self.checkers = checkers(facts, scenario, self.locks, self.launcher)
        for checker in self.checkers:
            facts.watch(checker)
        facts.slack_s = 6 * scenario.slowness.seconds
        self.memory = 8 * GIB
        self.callers: dict[str, asyncio.Task[None]] = {}

    async def main(self) -> None:
        scenario = self.scenario
        store = SlowStore(self.watched, scenario.slowness, scenario.seed) if scenario.slowness.share else self.watched
        supervisor = _Supervisor(
            self._settings(),
            policies=self.policies,
            clock=self.clock,
            store=store,
            locks=self.locks,
            start_task=start_eager if self.eager else self._start_task,
            launcher=self.launcher,
            memory=lambda: self.memory,
        )
        supervisor.facts = self.facts
        self.troupe = Troupe(self.facts, supervisor, self.policies)
        supervisor.on(self._event, capacity=100_000)
        rest = Rest(scenario, self.facts, self.clock, self.troupe, self.callers)
        async with supervisor:
            self._schedule()
            left = await rest.reached()
            if not left:
                await rest.quiet()
            else:
                self.facts.leaving_at = self.clock.now()
                self.facts.note("leaving")
        self.facts.note("left_supervisor")
        if left:
            rest.check_leaving()
            await rest.all_over()
        await rest.end(self.watched.inner)

    def _start_task(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return NumberedTask(work, loop=asyncio.get_running_loop())

    def _settings(self) -> Settings:
        scenario = self.scenario
        bucket = None if scenario.host_bucket is None else Bucket(*scenario.host_bucket)
        memory = GIB if scenario.memory else None
        return Settings(limits=Limits(scenario.running, scenario.starts, memory, bucket))

    def _event(self, event: Any) -> None:
        run = self.facts.by_id.get(event.run_id)
        self.facts.note("event", run or "", event, shown=type(event).__name__)

    # --- faults and jobs

    def _schedule(self) -> None:
        loop, start = asyncio.get_running_loop(), self.facts.start
        for fault in self.scenario.faults:
            match fault:
                case StepWall():
                    loop.call_at(start + fault.at, self.clock.step_wall, fault.by)
                case HoldLock():
                    self._hold(loop, fault)
                case LowMemory():
                    loop.call_at(start + fault.at, self._set_memory, 0)
                    loop.call_at(start + fault.until, self._set_memory, 8 * GIB)
                case Reset():
                    loop.call_at(start + fault.at, self._reset, fault.session)
                case CancelAt():
                    loop.call_at(start + fault.at, self._cancel, fault.job)
                case _:  # of a place, of the end, or of a world of several processes
                    pass
        for number, job in enumerate(self.scenario.jobs):
            loop.call_at(start + job.at, self._begin, str(number), job)

    def _hold(self, loop: asyncio.AbstractEventLoop, fault: HoldLock) -> None:
        start, path, name = self.facts.start, Path(fault.path), f"pid 7 since {fault.at:g}"
        loop.call_at(start + fault.at, self.locks.hold, path, name)
        loop.call_at(start + fault.until, self.locks.die if fault.dies else self.locks.free, path, name)

    def _set_memory(self, available: int) -> None:
        self.memory = available

    def _reset(self, session: str) -> None:
        if self.facts.leaving_at is None:
            self._resetting = asyncio.get_running_loop().create_task(self.troupe.supervisor.reset(session))

    def _cancel(self, key: str) -> None:
        task, run = self.callers.get(key), self.facts.runs.get(key)
        if task is not None and run is not None and run.ended_at is None and not task.done():
            self.troupe.cancelling(run)
            task.cancel()

    def _begin(self, key: str, job: Job) -> None:
        if self.facts.leaving_at is None:
            self.callers[key] = asyncio.get_running_loop().create_task(self._caller(key, job))

    async def _caller(self, key: str, job: Job) -> None:
        if self.facts.leaving_at is not None:
            return
        run = self.troupe.enlist(job, key)
        places = {f.nth: f.rounds for f in self.scenario.faults if isinstance(f, CancelPlace) and f.job == key}
        try:
            await self.troupe.call(run, job, places)
        except (RunFailed, RunRefused, KeyboardInterrupt, Interrupt):
            pass
        except asyncio.CancelledError:
            if not run.cancelled:
                raise
        task = asyncio.current_task()
        assert task is not None
        if not run.cancelled and task.cancelling():
            self.facts.violation("cancel", f"run {key}: its caller is left with a cancellation that nobody asked for")
