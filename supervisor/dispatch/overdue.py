"""Jobs without a success for so many of their periods: told once, until they have succeeded again."""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from policies.catch_up import overdue_at
from supervisor.clock import Clock
from supervisor.events import Event, JobOverdue
from supervisor.settings.values import Job

if TYPE_CHECKING:
    from supervisor.dispatch.ledger import TickLedger
    from supervisor.store.sqlite.jobs import JobState


class Overdue:
    """Looks for them. The ledger is read only when one of them would be one, as far as is known."""

    def __init__(self, ledger: "TickLedger", clock: Clock, tell: Callable[[Event], None]) -> None:
        self._ledger, self._clock, self._tell = ledger, clock, tell
        self._jobs: dict[str, Job] = {}
        self._heap: list[tuple[float, str]] = []  # when each is to be looked at

    def set(self, jobs: Iterable[Job], states: "Mapping[str, JobState]") -> None:
        """Watch these jobs, of which so much is remembered."""
        self._jobs = {job.name: job for job in jobs if job.overdue is not None}
        wall = self._clock.wall()
        self._heap = [
            (wall if name in states and states[name].overdue else self._at(job, states), name)
            for name, job in self._jobs.items()
        ]
        heapq.heapify(self._heap)

    async def look(self) -> None:
        """Tell of each job that is overdue by now. Raises StoreUnavailable."""
        wall = self._clock.wall()
        if not self._heap or self._heap[0][0] > wall:
            return
        jobs, states = self._jobs, await self._ledger.states()
        while jobs is self._jobs and self._heap[0][0] <= wall:
            job = jobs[self._heap[0][1]]
            at = self._at(job, states)
            if at <= wall:
                await self._tell_of(job, states[job.name], wall)
                at = math.inf
            if jobs is self._jobs:  # no others were set meanwhile
                heapq.heapreplace(self._heap, (self._once_more(job, wall) if at == math.inf else at, job.name))

    async def _tell_of(self, job: Job, state: "JobState", wall: float) -> None:
        if await self._ledger.claim_overdue(job.name, state.succeeded):
            assert job.overdue is not None, "it is watched"
            since = state.known if state.succeeded is None else state.succeeded
            ever = state.succeeded is not None
            self._tell(
                JobOverdue(job.session, "", wall, job.name, job.overdue, wall - since, ever, state.paused is not None)
            )

    def _at(self, job: Job, states: "Mapping[str, JobState]") -> float:
        """Return when a job is overdue, in seconds since 1970; never, where that was told."""
        state = states.get(job.name)
        if state is None or state.overdue is not None:
            return math.inf
        at = overdue_moment(job, state)
        return math.inf if at is None else at

    @staticmethod
    def _once_more(job: Job, wall: float) -> float:
        """Return when one that is overdue, and told of, may be so once more, having succeeded in between."""
        assert job.overdue is not None, "it is watched"
        at = overdue_at(job.schedule, wall - job.offset_s, job.overdue)
        return math.inf if at is None else at + job.offset_s


def overdue_moment(job: Job, state: "JobState") -> float | None:
    """Return when a job is overdue unless it succeeds before; None: never."""
    if job.overdue is None:
        return None
    if state.succeeded is None or state.succeeded_tick is None:
        since, took_s = state.known - job.offset_s, 0.0
    else:
        since = state.succeeded_tick
        took_s = max(0.0, state.succeeded - since - job.offset_s)
    at = overdue_at(job.schedule, since, job.overdue, took_s)
    return None if at is None else at + job.offset_s
