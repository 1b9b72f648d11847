"""THE LOOP OF JOBS. Due ticks are found in the ledger, once among all who look; each becomes a run of the supervisor.

    look     which jobs are due by the clock on the wall?
    claim    one transaction: every due tick is written down; those that nobody has found are ours to start
    start    each is a run of its own, under its tick's id: no job waits for another
    tend     once a second: runs of the dead, ticks that their finder cannot start any more, jobs that are overdue

The store says what becomes of a tick, with its run's own rows: started, once an attempt has begun; skipped, where the
run was refused. While the store cannot be asked nothing is lost: the same ticks are due at the next look.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from policies.verdict import Reason
from supervisor.clock import Clock
from supervisor.dispatch.ledger import TickLedger
from supervisor.dispatch.overdue import Overdue
from supervisor.dispatch.timetable import Timetable
from supervisor.errors import StoreUnavailable
from supervisor.run import supervise
from supervisor.settings.values import Job
from supervisor.steps.running import Running
from supervisor.store.sqlite.adopting import Adopted
from supervisor.store.sqlite.store import SqliteStore
from supervisor.store.sqlite.ticks import Claimed
from supervisor.supervisor import Supervisor
from supervisor.tasks import start_plain, wait_until

LOOK_S: Final = 1.0
"""The longest time between two looks at the clock: it may be set at any moment."""

ASK_AGAIN_S: Final = 1.0
"""Until a store that could not be asked is asked again."""

CLAIMED_AT_ONCE: Final = 50
"""Jobs in one transaction: after a long pause each of them may have missed a thousand ticks."""

FORGET_EVERY_S: Final = 600.0

BROKEN: Final = "broken"
REMOVED: Final = "removed"
"""Reasons of ticks that are skipped: by an exception that is not the work's; with their job."""

MakeWork = Callable[[Job], Any]
"""Returns the work of one run of a job."""

_log = logging.getLogger("turnkeeper")


class Dispatcher:
    """Starts each due tick of the jobs, once, until it is told to end. `make_work`: what a job does.

    Attributes:
        passed_at: when it last went through all of it and the store had answered, on the loop's clock.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        store: SqliteStore,
        clock: Clock,
        make_work: MakeWork,
        look_s: float = LOOK_S,
        tend_s: float = LOOK_S,
    ) -> None:
        self._supervisor, self._clock, self._make_work = supervisor, clock, make_work
        self._look_s, self._tend_s = look_s, tend_s
        self._ledger = TickLedger(store)
        self._timetable = Timetable()
        self._jobs: dict[str, Job] = {}
        self._overdue = Overdue(self._ledger, clock, supervisor.tell)
        self._runs: dict[asyncio.Task[None], Running | None] = {}
        self._carried: set[str] = set()  # the ids of the runs that are carried out here, or will be
        self._missed: dict[str, deque[Claimed]] = {}
        self._given_up: dict[str, str] = {}  # runs that will not begin, and why: their ticks are to say so
        self._kept_out: set[str] = set()  # runs that the store does not let begin
        self._tend_at, self._forget_at = 0.0, clock.now() + FORGET_EVERY_S
        self._draining = self._hastened = False
        self._wake: asyncio.Future[None] | None = None
        self._is_store_gone = False
        self.passed_at = clock.now()

    # --- its life

    async def set_jobs(self, jobs: Iterable[Job]) -> None:
        """Run these jobs from now on, and no others. What was started goes on. Raises StoreUnavailable."""
        new = {job.name: job for job in jobs}
        states = await self._ledger.sync(new.values(), self._jobs.keys() - new.keys())
        self._jobs = new
        self._overdue.set(new.values(), states)
        self._timetable.set(new.values(), self._clock.wall())
        self._wake_up()

    async def run(self) -> None:
        """Look for due ticks and start them, until `drain`."""
        while not self._draining:
            try:
                await self._look()
                if self._clock.now() >= self._tend_at:
                    await self._tend()
                    self._tend_at = self._clock.now() + self._tend_s
            except StoreUnavailable as error:
                self._note_store(error)
                wait_s = ASK_AGAIN_S
            else:
                if not self._kept_out:
                    self._note_store(None)
                self.passed_at = self._clock.now()
                wait_s = self._until_next_s()
            if not self._draining:
                self._wake = asyncio.get_running_loop().create_future()
                await wait_until(self._wake, self._clock.now() + wait_s)

    async def drain(self, within_s: float) -> int:
        """Start nothing any more, and wait for what runs; return how many runs are not over.

        A run that has begun no attempt ends at once, and its tick is left to whoever comes next. So does one whose next
        attempt is not due in time.
        """
        self._draining = True
        self._missed.clear()
        self._wake_up()
        until = self._clock.now() + within_s
        while self._runs and self._clock.now() < until and not self._hastened:
            for run in self._runs.values():
                if run is not None and _waits(run, until):
                    run.interrupt(Reason.CLOSED)
            self._wake = asyncio.get_running_loop().create_future()
            await wait_until(self._wake, min(until, self._clock.now() + LOOK_S))
        return len(self._runs)

    def hasten(self) -> None:
        """Wait for nothing that runs any more: each is stopped, without its grace."""
        self._hastened = True
        for run in self._runs.values():
            work = None if run is None else run.work
            if work is not None and hasattr(work, "hasten"):
                work.hasten()
        self._wake_up()

    def running(self) -> int:
        """Return how many runs are under way."""
        return len(self._runs)

    def policies_in_use(self) -> frozenset[str]:
        """Return the names of the policies that runs are under."""
        return frozenset(run.policy.name for run in self._runs.values() if run is not None)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _until_next_s(self) -> float:
        due = self._timetable.next_wall()
        return self._look_s if due is None else min(self._look_s, max(0.0, due - self._clock.wall()))

    def _note_store(self, error: StoreUnavailable | None) -> None:
        if (error is not None) == self._is_store_gone:
            return
        self._is_store_gone = error is not None
        if error is None:
            _log.warning("the state answers again")
        else:
            _log.warning("no tick can be started, and none is lost: %s", error)

    # --- what is due

    async def _look(self) -> None:
        wall = self._clock.wall()
        jobs = self._timetable.take_due(wall)
        while jobs and not self._draining:
            some = [job for job in jobs[:CLAIMED_AT_ONCE] if self._jobs.get(job.name) is job]  # others are gone by now
            try:
                claimed = await self._ledger.claim(some)
            except StoreUnavailable:
                self._timetable.look_again(jobs)
                raise
            self._start_all(claimed, {job.name: job for job in some})
            del jobs[:CLAIMED_AT_ONCE]

    async def _tend(self) -> None:
        await self._supervisor.look_for_the_lost()
        if given_up := dict(self._given_up):
            await self._ledger.give_up(given_up)
            for run_id in given_up:
                del self._given_up[run_id]
        if self._draining:  # meanwhile: what is left is for whoever comes next
            return
        jobs = self._jobs  # others may be set while the store is asked
        self._start_all(await self._ledger.take_over(jobs.values(), self._carried | self._given_up.keys()), jobs)
        if self._draining:
            return
        for adopted in await self._ledger.adopt(jobs.values(), self._carried):
            self._carried.add(adopted.run_id)
            self._start(self._go_on(jobs[adopted.job], adopted))
        await self._overdue.look()
        if self._clock.now() >= self._forget_at:
            self._forget_at = self._clock.now() + FORGET_EVERY_S
            await self._ledger.name_again(self._jobs)
            await self._ledger.forget()

    def _start_all(self, claimed: Iterable[Claimed], jobs: Mapping[str, Job]) -> None:
        for tick in claimed:
            self._carried.add(tick.run_id)
            if not tick.late:
                self._start(self._carry_out(jobs[tick.job], tick))
            elif tick.job in self._missed:
                self._missed[tick.job].append(tick)
            else:  # those that were missed go one after the other
                self._missed[tick.job] = deque((tick,))
                self._start(self._catch_up(tick.job, self._missed[tick.job]))

    def _start(self, carried: Coroutine[Any, Any, None]) -> None:
        task = start_plain(carried)
        self._runs[task] = None
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        del self._runs[task]
        if self._draining:
            self._wake_up()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a job's run was broken: %s: %s", type(error).__name__, error, exc_info=error)

    async def _catch_up(self, name: str, ticks: deque[Claimed]) -> None:
        try:
            while ticks and name in self._jobs and not self._draining:
                await self._carry_out(self._jobs[name], ticks.popleft())
        finally:
            self._missed.pop(name, None)
            for tick in ticks if name not in self._jobs else ():
                self._given_up[tick.run_id] = REMOVED
            self._carried.difference_update(tick.run_id for tick in ticks)

    # --- one run

    async def _carry_out(self, job: Job, tick: Claimed) -> None:
        """Carry a tick's run to its end. One that the store would not let begin is asked for again."""
        run_id = tick.run_id
        try:
            while not self._draining and not await self._is_carried_out(job, run_id):
                self._kept_out.add(run_id)
                await self._clock.sleep(ASK_AGAIN_S)
                while not self._ledger.may_ask_again(run_id):
                    await self._clock.sleep(ASK_AGAIN_S)
        except Exception as error:
            self._given_up[run_id] = BROKEN
            _log.exception("the run %s was broken: %s: %s", run_id, type(error).__name__, error)
        finally:
            self._kept_out.discard(run_id)
            self._carried.discard(run_id)

    async def _is_carried_out(self, job: Job, run_id: str) -> bool:
        run = self._new_run(job, job.session, run_id)
        try:
            await supervise(run)
        except StoreUnavailable as error:
            if run.number:
                _log.warning("the run %s was broken: %s", run_id, error)
                return True
            self._note_store(error)
            return False
        return True

    async def _go_on(self, job: Job, adopted: Adopted) -> None:
        """Go on with a run whose process died: its next attempt, when that is due."""
        run = self._new_run(job, adopted.session, adopted.run_id)
        self._ledger.go_on(run, adopted)
        try:
            await supervise(run)
        except StoreUnavailable as error:
            _log.warning("the run %s was broken: %s", adopted.run_id, error)
        finally:
            self._carried.discard(adopted.run_id)

    def _new_run(self, job: Job, session: str, run_id: str) -> Running:
        run = self._supervisor.new_run(session, self._make_work(job), job.policy, job.lock)
        run.given_id, run.is_tick = run_id, True
        task = asyncio.current_task()
        assert task is not None, "a run is carried out in a task"
        self._runs[task] = run
        return run


def _waits(run: Running, until: float) -> bool:
    """Tell whether nothing of a run would be done before a moment: it has begun nothing, or rests for longer.

    An attempt that is being begun is as good as started: ended now, its tick would be used up, and its work never run.
    """
    if run.number == 0:
        return not run.is_beginning
    return (run.rests_until or 0.0) > until
