"""Which job is due next: a heap of moments, by the clock on the wall, which may be set at any time."""

import heapq
from collections.abc import Iterable

from supervisor.settings.values import Job

_SET_BACK_S = 1.0


class Timetable:
    """The next moment of each job. Moments are seconds since 1970."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._due: dict[str, float] = {}  # what the heap says otherwise of a job is void
        self._heap: list[tuple[float, str]] = []
        self._again: dict[str, None] = {}
        self._seen = 0.0

    def set(self, jobs: Iterable[Job], wall: float) -> None:
        """Take these jobs, and no others; each is looked at once more now."""
        self._jobs = {job.name: job for job in jobs}
        self._due = dict.fromkeys(self._jobs, wall)
        self._heap = [(wall, name) for name in self._jobs]
        self._again = {}

    def take_due(self, wall: float) -> list[Job]:
        """Return the jobs that are due; each is due again at its next moment."""
        if wall < self._seen - _SET_BACK_S:  # the clock was set back: all that was worked out from it is void
            self.set(self._jobs.values(), wall)
        self._seen = wall
        found, self._again = dict.fromkeys(self._again), {}
        while self._heap and self._heap[0][0] <= wall:
            at, name = heapq.heappop(self._heap)
            if self._due.get(name) != at:
                continue
            found[name] = None
            if (after := next_moment(self._jobs[name], wall)) is None:
                del self._due[name]
            else:
                self._push(name, after)
        return [self._jobs[name] for name in found]

    def look_again(self, jobs: Iterable[Job]) -> None:
        """These could not be asked for: they are still due, if they are still there."""
        self._again.update(dict.fromkeys(job.name for job in jobs if job.name in self._jobs))

    def _push(self, name: str, at: float) -> None:
        if self._due.get(name) != at:
            self._due[name] = at
            heapq.heappush(self._heap, (at, name))

    def next_wall(self) -> float | None:
        """Return when the next job is due; None: none ever is."""
        if self._again:
            return self._seen
        return self._heap[0][0] if self._heap else None


def next_moment(job: Job, wall: float) -> float | None:
    """Return when a job starts next, after a moment, its stagger included; None: never."""
    tick = job.schedule.next_after(wall - job.offset_s)
    return None if tick is None else tick + job.offset_s
