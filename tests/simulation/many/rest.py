"""The end of a simulation: faults first, then quiet. All comes to rest, and a fresh run starts on each session."""

import asyncio
from typing import TYPE_CHECKING

from policies.failure import Refusal
from supervisor import RunFailed, RunRefused, Status
from supervisor.errors import SupervisorError
from supervisor.testing.faults import Freeze, FreezePlace, Strike
from supervisor.testing.stuck import tasks_waiting
from tests.simulation.facts import is_unproved
from tests.simulation.many.member import Member
from tests.simulation.scenario import Job, Play, Sleep

if TYPE_CHECKING:
    from tests.simulation.many.simulate import Simulation

FRESH = (Play((Sleep(0.1),)),)


class Rest:
    """See above."""

    def __init__(self, simulation: "Simulation") -> None:
        self.simulation, self.facts, self.clock = simulation, simulation.facts, simulation.clock

    def _bound_s(self) -> float:
        """By when everything must have come to rest, from the beginning."""
        scenario = self.simulation.scenario
        last = max((job.at for job in scenario.jobs), default=0.0)
        longest = max(rules.deadline_s + 2 * rules.grace_s + 1.0 for rules in scenario.policies)
        frozen = sum(fault.for_s for fault in scenario.faults if isinstance(fault, Freeze | FreezePlace | Strike))
        return last + 2 * longest + 10.0 + frozen + 20 * self.facts.slack_s

    def _pending(self) -> dict[str, "asyncio.Task[None]"]:
        """Return the callers that still wait, and can."""
        simulation = self.simulation
        dead = {key for key, run in self.facts.runs.items() if run.process is not None and not run.process.lives}
        left = {key: task for key, task in simulation.callers.items() if not task.done() and key not in dead}
        alive = {key for key in left if key in self.facts.runs or simulation.member_of(key).process.lives}
        return {key: task for key, task in left.items() if key in alive}

    async def reached(self) -> None:
        until = self.facts.start + self._bound_s()
        begun_at = self.facts.start + max((job.at for job in self.simulation.scenario.jobs), default=0.0)
        while self.clock.now() < until:
            if self.clock.now() > begun_at and not self._pending():
                return
            await self.clock.sleep(0.25)
        waiting = "; ".join(tasks_waiting(asyncio.get_running_loop())[:6])
        self.facts.violation("rest", f"runs {sorted(self._pending())} did not come to rest: {waiting}")

    async def quiet(self) -> None:
        """The faults are over: another process finds all that is left, and each session takes a fresh run from it."""
        if self.facts.violations:
            return
        for member in self.simulation.all_members:
            member.process.thaw()
        await self.clock.sleep(40.0)  # cooldowns, releases that ran on
        self.facts.note("quiet")
        last = self.simulation.member("last")
        await last.ready()
        await self.clock.sleep(10.0)  # what was lost may have opened a breaker only now
        await self._fresh_runs(last, "fresh")
        await self._all_leave()
        await self._fresh_runs(self.simulation.member("final"), "last")

    async def _fresh_runs(self, member: Member, name: str) -> None:
        sessions = sorted({run.session for run in self.facts.runs.values() if not run.session.startswith("slot")})
        await asyncio.gather(
            *(member.process.start(self._fresh(member, Job(s, "fresh", FRESH), f"{name} {s}")) for s in sessions)
        )
        slots = self.simulation.scenario.running
        if slots is None:
            return
        # Every slot must have come back: as many attempts must run at once as there are slots.
        (await member.ready()).expect(slots)
        together = (Play(ending="together"),)
        jobs = [(Job(f"slot {n}", "fresh", together), f"{name} slot {n}") for n in range(slots)]
        if not all(await asyncio.gather(*(member.process.start(self._fresh(member, *job)) for job in jobs))):
            self.facts.violation("rest", f"not all {slots} slots of the host came back")

    async def _fresh(self, member: Member, job: Job, key: str) -> bool:
        troupe = await member.ready()
        run = troupe.enlist(job, key)
        try:
            report = await troupe.call(run, job)
        except (RunFailed, RunRefused) as error:
            report = error.report
        except SupervisorError as error:
            self.facts.violation("rest", f"{key} is not started: {error}")
            return False
        blocked = report.reason == Refusal.QUARANTINED.value and self._may_be_quarantined(job.session)
        if not report.attempts and not blocked:
            self.facts.violation("rest", f"{key} is not started: {report.reason}: {report.detail}")
        return report.status is Status.SUCCEEDED

    def _may_be_quarantined(self, session: str) -> bool:
        now = self.clock.now()
        runs = [run for run in self.facts.runs.values() if run.session == session and run.unconfirmed]
        return any(
            any(is_unproved(tree) or tree.processes for tree in each.trees)
            or (each.process is not None and each.process.lives and any(b.alive(now) for b in each.bodies.values()))
            for run in runs
            for each in run.tree_of_runs()
        )

    async def end(self) -> None:
        if self.facts.violations:
            return
        await self._all_leave()
        await self.simulation.member("sweeper").ready()  # the owner of a quarantine is forgotten once that is lifted
        self.facts.note("end")
        await self._all_leave()

    async def _all_leave(self) -> None:
        for member in self.simulation.all_members:
            if member.may_leave():
                member.end_plays()
                member.leave()
        await self.clock.sleep(60.0)
        if staying := [each.process.name for each in self.simulation.all_members if each.process.lives]:
            self.facts.violation("rest", f"{staying} have not left")
