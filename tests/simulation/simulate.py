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

from policies.breaker import Breaker
from policies.budget import Bucket
from policies.failure import Refusal
from policies.policy import Policy
from policies.verdict import Retry
from supervisor import RunFailed, RunRefused, RunReport, Status, Supervisor
from supervisor.errors import SupervisorError
from supervisor.settings.values import Limits, Settings
from supervisor.store.memory import MemoryStore
from supervisor.tasks import start_eager
from supervisor.testing import VirtualClock
from supervisor.testing.faults import CancelAt, CancelPlace, HoldLock, Leave, LowMemory, Reset, StepWall
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.numbered import NumberedTask
from supervisor.testing.slow_store import SlowStore
from supervisor.testing.stuck import tasks_waiting
from tests.simulation.checker import checkers
from tests.simulation.facts import WHO, Facts
from tests.simulation.scenario import Job, Play, Scenario, Sleep
from tests.simulation.watched_store import WatchedStore
from tests.simulation.work import Interrupt, Troupe

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
        cap_s = max(rules.cooldown_cap_s for rules in scenario.policies)
        self.policies["fresh"] = Policy("fresh", breaker=Breaker(cooldown_cap_s=cap_s))
        self.checkers = checkers(facts, scenario)
        for checker in self.checkers:
            facts.watch(checker)
        self.watched = WatchedStore(plant.store(), facts)
        self.locks = plant.locks(self.clock, facts)
        facts.slack_s = 6 * scenario.slowness.seconds
        self.memory = 8 * GIB
        self.callers: dict[str, asyncio.Task[None]] = {}
        self.all_begun = False

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
            memory=lambda: self.memory,
        )
        supervisor.facts = self.facts
        self.troupe = Troupe(self.facts, supervisor, self.policies)
        supervisor.on(self._event, capacity=100_000)
        left = False
        async with supervisor:
            self._schedule()
            left = await self._until_rest()
            if not left:
                await self._quiet()
            else:
                self.facts.leaving_at = self.clock.now()
                self.facts.note("leaving")
        self.facts.note("left_supervisor")
        if left:
            await self._all_over()
        await self._end(self.watched.inner)

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
                case CancelPlace() | Leave():
                    pass
        for number, job in enumerate(self.scenario.jobs):
            loop.call_at(start + job.at, self._begin, str(number), job)
        loop.call_at(start + max((job.at for job in self.scenario.jobs), default=0.0), self._note_begun)

    def _note_begun(self) -> None:
        self.all_begun = True

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

    # --- rest

    def _bound_s(self) -> float:
        """By when everything must have come to rest, from the beginning."""
        last = max((job.at for job in self.scenario.jobs), default=0.0)
        longest = max(rules.deadline_s + 2 * rules.grace_s + 1.0 for rules in self.scenario.policies)
        return last + 2 * longest + 10.0 + 4 * self.facts.slack_s

    async def _until_rest(self) -> bool:
        """Wait until each caller has its answer; True: `async with` is to be left before."""
        leave_at = min((fault.at for fault in self.scenario.faults if isinstance(fault, Leave)), default=None)
        until = self.facts.start + self._bound_s()
        while self.clock.now() < until:
            if leave_at is not None and self.clock.now() >= self.facts.start + leave_at:
                return True
            pending = [task for task in self.callers.values() if not task.done()]
            if self.all_begun and not pending:
                return False
            now = self.clock.now()
            wait_s = min(until, self.facts.start + leave_at if leave_at is not None else until) - now
            if self.all_begun:
                await asyncio.wait(pending, timeout=wait_s)
            else:
                await self.clock.sleep(min(wait_s, 0.1))
        self._not_at_rest()
        return False

    def _not_at_rest(self) -> None:
        waiting = "; ".join(tasks_waiting(asyncio.get_running_loop())[:6])
        open_runs = [key for key, task in self.callers.items() if not task.done()]
        self.facts.violation("rest", f"runs {open_runs} did not come to rest: {waiting}")

    async def _all_over(self) -> None:
        pending = [task for task in self.callers.values() if not task.done()]
        if pending:
            await asyncio.wait(pending, timeout=self._bound_s())
        if any(not task.done() for task in self.callers.values()):
            self._not_at_rest()

    async def _quiet(self) -> None:
        """The faults are over: each session must take a fresh run, once what lives in it has ended."""
        if self.facts.violations:
            return
        await self.clock.sleep(40.0)  # cooldowns, releases that ran on, locks of others, far ends that are asked again
        self.facts.note("quiet")
        await self._fresh_runs("fresh")
        self.troupe.ending = True
        self.troupe.curtain.set()
        await self.clock.sleep(700.0)  # far ends are asked at twice the distance each time
        self.facts.note("curtain")
        await self._fresh_runs("last")

    async def _fresh_runs(self, name: str) -> None:
        sessions = sorted({run.session for run in self.facts.runs.values() if not run.session.startswith("slot")})
        fresh = (Play((Sleep(0.1),)),)
        await asyncio.gather(*(self._fresh(Job(session, "fresh", fresh), f"{name} {session}") for session in sessions))
        slots = self.scenario.running
        if slots is None:
            return
        # Every slot must have come back: as many attempts must run at once as there are slots.
        self.troupe.expect(slots)
        together = (Play(ending="together"),)
        jobs = [(Job(f"slot {n}", "fresh", together), f"{name} slot {n}") for n in range(slots)]
        if not all(await asyncio.gather(*(self._fresh(*job) for job in jobs))):
            self.facts.violation("rest", f"not all {slots} slots of the host came back")

    async def _fresh(self, job: Job, key: str) -> bool:
        run = self.troupe.enlist(job, key)
        try:
            report = await self.troupe.call(run, job)
        except (RunFailed, RunRefused) as error:
            report = error.report
        blocked = any(body.alive(self.clock.now()) for body in self.facts.limbo.get(job.session, ()))
        if not report.attempts and not (blocked and report.reason == Refusal.QUARANTINED.value):
            self.facts.violation("rest", f"{key} is not started: {report.reason}: {report.detail}")
        return report.status is Status.SUCCEEDED

    async def _end(self, store: MemoryStore) -> None:
        """Nothing is left over: no task, no state but breakers, tokens and quarantines."""
        self.troupe.ending = True
        self.troupe.curtain.set()
        await self.clock.sleep(60.0)
        self.facts.note("end", store)
        here = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not here]
        if tasks:
            self.facts.violation("rest", "tasks are left over: " + "; ".join(tasks_waiting(asyncio.get_running_loop())))
            for task in tasks:
                task.cancel()
