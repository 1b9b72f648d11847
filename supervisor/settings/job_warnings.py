"""What of a job looks wrong and may be meant. It costs a walk through its year, so `turnkeeper check` alone asks."""

import os
import shutil
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Final

from policies.schedule import At, Every, Schedule, between
from supervisor.settings.job_paths import with_whole_paths
from supervisor.settings.problems import printable, shown
from supervisor.settings.units import duration_text
from supervisor.settings.values import Job, Settings

YEAR_S: Final = 366 * 86400.0
MOST_TICKS: Final = 1000
"""So many of the next year's are looked at."""


def job_warnings(settings: Settings, wall: float) -> tuple[str, ...]:
    """Return one line for each thing that looks wrong. `wall`: the moment from which on schedules are looked at."""
    schedules = {job.schedule_text: job.schedule for job in settings.jobs}
    periods = {text: shortest_period_s(schedule, wall) for text, schedule in schedules.items()}
    return tuple(
        f"job {printable(job.name)}: {words}"
        for job in settings.jobs
        for words in (*_over(job, wall), *_too_long(job, periods[job.schedule_text]), *_not_found(job, settings))
    )


def shortest_period_s(schedule: Schedule, wall: float) -> float | None:
    """Return the shortest time between two ticks after a moment; None: there are no two."""
    if isinstance(schedule, At):
        return None
    if isinstance(schedule, Every):
        return schedule.period_s
    ticks = islice(between(schedule, wall, wall + YEAR_S), MOST_TICKS)
    return min((later - earlier for earlier, later in pairwise(ticks)), default=None)


def _over(job: Job, wall: float) -> Iterator[str]:
    if isinstance(job.schedule, At) and job.schedule.moment + job.offset_s <= wall:
        yield "its moment is over: where it is new, it never runs"


def _too_long(job: Job, period_s: float | None) -> Iterator[str]:
    if period_s is None:
        return
    deadline_s, period = job.policy.budget.deadline_s, duration_text(period_s)
    if deadline_s is None:
        yield f'budget.deadline is "off": a run may take longer than the period, {period} at the least'
    elif deadline_s > period_s:
        yield f"budget.deadline is longer than its period: {duration_text(deadline_s)}, {period} at the least"
    if job.stagger_s > period_s:
        yield f"stagger is longer than its period: {duration_text(job.stagger_s)}, {period} at the least"


def _not_found(job: Job, settings: Settings) -> Iterator[str]:
    """Look for the folder of its lock; and for the program where the job would find it: by its own PATH and folder."""
    job = with_whole_paths(job, settings)
    if job.lock is not None and not os.path.isdir(of_lock := os.path.dirname(job.lock)):
        yield f"the folder of its lock is not there: {shown(of_lock)}"
    folder = job.cwd or os.getcwd()
    if not os.path.isdir(folder):
        yield f"its folder is not there: {shown(folder)}"
        return
    program = job.command[0]
    if "/" in program:
        if not os.access(os.path.join(folder, program), os.X_OK):
            yield f"its program is not found, or cannot be executed: {shown(program)}"
    elif shutil.which(program, path=job.env.get("PATH")) is None:
        yield f"its program is not found on PATH: {shown(program)}"
