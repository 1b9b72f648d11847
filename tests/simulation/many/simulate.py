"""One scenario of several processes, from its first job to rest, on the real SQL: what happened, and what is wrong."""

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from policies.policy import Policy
from supervisor import RunFailed, RunRefused
from supervisor.errors import SupervisorError
from supervisor.testing import SharedFile, SimulatedLauncher, VirtualClock, World
from supervisor.testing.cancelling import cancelled_at, struck_at
from supervisor.testing.faults import (
    CancelAt,
    CancelPlace,
    Freeze,
    FreezePlace,
    HoldLock,
    Kill,
    KillPlace,
    Reset,
    StepWall,
)
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.process import Process, State
from tests.simulation.facts import Facts
from tests.simulation.many.check_bodies import Bodies
from tests.simulation.many.check_ledger import Breaker, Tokens
from tests.simulation.many.check_recovery import Recoveries
from tests.simulation.many.check_reports import Reports
from tests.simulation.many.check_rows import Leases
from tests.simulation.many.check_waits import Waits
from tests.simulation.many.member import Member
from tests.simulation.many.rest import Rest
from tests.simulation.many.rows import Rows
from tests.simulation.scenario import Job, Scenario
from tests.simulation.simulate import HEALTHY, Outcome, Plant

logging.getLogger("turnkeeper").addHandler(logging.NullHandler())  # what stays quarantined is checked, not read


def simulate_many(scenario: Scenario, plant: Plant = HEALTHY) -> Outcome:
    """Run a scenario to its end. The same scenario has the same log, on every Python."""
    clock = VirtualClock(scenario.seed)
    simulation = Simulation(scenario, clock)
    facts = simulation.facts
    collecting = gc.isenabled()
    gc.disable()  # what dies, dies because nothing refers to it
    try:
        with plant.planted(), clock:
            simulation.world.run(simulation.main())
    except SupervisorError as stuck:
        facts.violation("rest", f"{type(stuck).__name__}: {stuck}")
    finally:
        simulation.file.connection.close()
        if collecting:
            gc.enable()
    return Outcome(tuple(facts.violations), tuple(facts.log))


class Simulation:
    """The world of one scenario. `members` has the newest process of each name."""

    def __init__(self, scenario: Scenario, clock: VirtualClock) -> None:
        self.scenario, self.clock = scenario, clock
        self.world = World(clock, scenario.turns)
        self.facts = facts = Facts(clock)
        self.file = SharedFile(self._committed)
        self.rows = Rows(facts, self.file.connection)
        self.locks = MemoryLockFiles(clock, facts)
        self.launcher = SimulatedLauncher(self.locks, facts.tree, keep_life=True)
        self.policies = {rules.name: rules.policy() for rules in scenario.policies}
        self.policies["fresh"] = Policy("fresh")
        self.members: dict[str, Member] = {}
        self.all_members: list[Member] = []
        self.callers: dict[str, asyncio.Task[None]] = {}
        self.begun_by: dict[str, Member] = {}
        facts.slack_s = 6 * scenario.slowness.seconds
        for checker in (
            Bodies(facts, self.rows, scenario),
            Breaker(facts, self.rows),
            Tokens(facts, self.rows, scenario),
            Leases(facts, self.rows, scenario),
            Reports(facts, self.rows, scenario),
            Recoveries(facts, self.rows, self),
            Waits(facts, self.rows, scenario),
        ):
            facts.watch(checker)

    def _committed(self, process: Process, name: str, args: tuple[Any, ...]) -> None:
        if self.facts.is_over:
            return
        if name == "reset":
            self.facts.note("reset", args[0])
        self.rows.committed(process, name)

    async def main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._crashed)
        self._schedule()
        rest = Rest(self)
        await rest.reached()
        await rest.quiet()
        await rest.end()
        self.facts.is_over = True

    def _crashed(self, _: object, context: dict[str, Any]) -> None:
        """An exception that nobody has handled, or retrieved."""
        error = context.get("exception")
        self.facts.violation("crash", f"{context['message']}: {type(error).__name__}: {error}")

    # --- processes

    def member(self, name: str) -> Member:
        """Return the process of that name; where it has died, another one is started in its stead, as by cron."""
        member = self.members.get(name)
        if member is None or not member.process.lives:
            again = sum(1 for each in self.all_members if each.name == name)
            process = self.world.process(f"{name}{again + 1}" if again else name)
            member = self.members[name] = Member(self, name, process)
            self.all_members.append(member)
            process.at_death(lambda: self.facts.note("killed", process.name, process))
            self.facts.note("started", process.name)
        return member

    def freeze(self, process: Process, for_s: float) -> None:
        if process.state is State.RUNS:
            self.facts.note("frozen", process.name, shown=f"for {for_s:g}")
            process.freeze(for_s)

    def member_of(self, key: str) -> Member:
        """Return whose job that is."""
        return self.begun_by[key]

    # --- faults and jobs

    def _schedule(self) -> None:
        loop, start = asyncio.get_running_loop(), self.facts.start
        for fault in self.scenario.faults:
            match fault:
                case StepWall():
                    loop.call_at(start + fault.at, self.clock.step_wall, fault.by)
                case HoldLock():
                    path, name = Path(fault.path), f"pid 7 since {fault.at:g}"
                    loop.call_at(start + fault.at, self.locks.hold, path, name)
                    loop.call_at(start + fault.until, self.locks.die if fault.dies else self.locks.free, path, name)
                case Reset():
                    loop.call_at(start + fault.at, self._reset, fault.session)
                case CancelAt():
                    loop.call_at(start + fault.at, self._cancel, fault.job)
                case Kill():
                    kill = self._kill_all if fault.wardens else Process.kill
                    loop.call_at(start + fault.at, self._at_member, fault.process, kill)
                case Freeze():
                    freeze = self._freezing(fault.for_s)
                    loop.call_at(start + fault.at, self._at_member, fault.process, freeze)
                case _:  # of a place, or of a transaction
                    pass
        for number, job in enumerate(self.scenario.jobs):
            loop.call_at(start + job.at, self._begin, str(number), job)

    def _kill_all(self, process: Process) -> None:
        for run in self.facts.runs.values():
            if run.process is process:
                for tree in run.trees:
                    tree.kill_warden()
        process.kill()

    def _freezing(self, for_s: float) -> Callable[[Process], None]:
        return lambda process: self.freeze(process, for_s)

    def _at_member(self, name: str, do: Callable[[Process], None]) -> None:
        if (member := self.members.get(name)) is not None:
            do(member.process)

    def _reset(self, session: str) -> None:
        member = next((each for each in self.members.values() if each.process.state is State.RUNS), None)
        if member is not None:
            member.reset(session)

    def _cancel(self, key: str) -> None:
        task, run = self.callers.get(key), self.facts.runs.get(key)
        process = None if run is None else run.process
        if task is not None and not task.done() and process is not None and process.lives:
            process.call(self._cancel_now, key)

    def _cancel_now(self, key: str) -> None:
        run = self.facts.runs[key]
        if run.ended_at is not None:
            return
        run.cancelled = True
        self.facts.note("cancelling", run)
        self.callers[key].cancel()

    def _begin(self, key: str, job: Job) -> None:
        member = self.begun_by[key] = self.member(job.process)
        self.callers[key] = member.process.start(self._caller(key, job, member))

    async def _caller(self, key: str, job: Job, member: Member) -> None:
        troupe = await member.ready()
        run = troupe.enlist(job, key)
        run.process = member.process
        operation = troupe.call(run, job)
        for fault in self.scenario.faults:
            match fault:
                case CancelPlace(job=of) if of == key:
                    operation = cancelled_at(operation, {fault.nth: fault.rounds}, lambda: troupe.cancelling(run))
                case KillPlace(job=of) if of == key:
                    places = {fault.nth: fault.rounds}
                    operation = struck_at(operation, places, member.process.kill)
                case FreezePlace(job=of) if of == key:
                    places, freeze = {fault.nth: fault.rounds}, self._freezing(fault.for_s)
                    operation = struck_at(operation, places, _bound(freeze, member.process))
                case _:
                    pass
        with suppress(RunFailed, RunRefused, SupervisorError):
            try:
                await operation
            except asyncio.CancelledError:
                if not run.cancelled:
                    raise


def _bound(do: Callable[[Process], None], process: Process) -> Callable[[], None]:
    return lambda: do(process)
