"""The end of a simulation: all comes to rest within a bound, a fresh run starts on each session, nothing is left."""

import asyncio

from policies.failure import Refusal
from supervisor import RunFailed, RunRefused, Status
from supervisor.clock import Clock
from supervisor.store.memory import MemoryStore
from supervisor.testing.faults import Leave
from supervisor.testing.stuck import tasks_waiting
from tests.simulation.facts import Facts
from tests.simulation.scenario import Job, Play, Scenario, Sleep
from tests.simulation.work import Troupe


class Rest:
    """Faults first, then quiet."""

    def __init__(
        self, scenario: Scenario, facts: Facts, clock: Clock, troupe: Troupe, callers: dict[str, asyncio.Task[None]]
    ) -> None:
        self.scenario, self.facts, self.clock, self.troupe, self.callers = scenario, facts, clock, troupe, callers

    def _all_begun(self) -> bool:
        return self.clock.now() >= self.facts.start + max((job.at for job in self.scenario.jobs), default=0.0)

    def _bound_s(self) -> float:
        """By when everything must have come to rest, from the beginning."""
        last = max((job.at for job in self.scenario.jobs), default=0.0)
        longest = max(rules.deadline_s + 2 * rules.grace_s + 1.0 for rules in self.scenario.policies)
        return last + 2 * longest + 10.0 + 4 * self.facts.slack_s

    async def reached(self) -> bool:
        """Wait until each caller has its answer; True: `async with` is to be left before."""
        leave_at = min((fault.at for fault in self.scenario.faults if isinstance(fault, Leave)), default=None)
        until = self.facts.start + self._bound_s()
        while self.clock.now() < until:
            if leave_at is not None and self.clock.now() >= self.facts.start + leave_at:
                return True
            pending = [task for task in self.callers.values() if not task.done()]
            if self._all_begun() and not pending:
                return False
            now = self.clock.now()
            wait_s = min(until, self.facts.start + leave_at if leave_at is not None else until) - now
            if self._all_begun():
                await asyncio.wait(pending, timeout=wait_s)
            else:
                await self.clock.sleep(min(wait_s, 0.1))
        self._not_at_rest()
        return False

    def _not_at_rest(self) -> None:
        waiting = "; ".join(tasks_waiting(asyncio.get_running_loop())[:6])
        open_runs = [key for key, task in self.callers.items() if not task.done()]
        self.facts.violation("rest", f"runs {open_runs} did not come to rest: {waiting}")

    def check_leaving(self) -> None:
        """Two graces and a second for the runs, and a second for the listeners."""
        longest_s = max(rules.grace_s for rules in self.scenario.policies)
        took_s = self.clock.now() - (self.facts.leaving_at or 0.0)
        if took_s > 2 * longest_s + 2.0 + self.facts.slack_s:
            self.facts.violation("time", f"leaving took {took_s:.3f} s")

    async def all_over(self) -> None:
        pending = [task for task in self.callers.values() if not task.done()]
        if pending:
            await asyncio.wait(pending, timeout=self._bound_s())
        if any(not task.done() for task in self.callers.values()):
            self._not_at_rest()

    async def quiet(self) -> None:
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

    async def end(self, store: MemoryStore) -> None:
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
