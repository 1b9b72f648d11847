"""`turnkeeper serve --dry-run`: what would start in the next day, when, under which policy, by the settings alone."""

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from supervisor.cli.shared_state import note, print_json
from supervisor.clock import SystemClock, iso_utc

if TYPE_CHECKING:
    from supervisor.settings.values import Job, Settings

DAY_S: Final = 86400.0
MOST_SHOWN: Final = 10_000


def print_next_day(settings: "Settings", *, as_json: bool) -> None:
    """Print the starts of the next day, the first ones first: at most 10,000 of them."""
    now = SystemClock().wall()
    starts = list(islice(next_day(settings, now), MOST_SHOWN + 1))
    rows = [
        {"at": iso_utc(at), "job": job.name, "session": job.session, "policy": job.policy.name, "hash": job.policy.hash}
        for at, job in starts[:MOST_SHOWN]
    ]
    if as_json:
        print_json(rows)
    elif rows:
        from supervisor.cli.table import cut, print_table

        shown = [(r["at"], cut(r["job"]), cut(r["session"]), r["policy"]) for r in rows]
        print_table(("starts", "job", "session", "policy"), shown)
    else:
        note("nothing would start in the next day")
    if len(starts) > MOST_SHOWN:
        note(f"these are the first {MOST_SHOWN}: there are more")


def next_day(settings: "Settings", now: float) -> "Iterator[tuple[float, Job]]":
    """Yield (moment, job) of each start in the day after a moment, in order."""
    yield from heapq.merge(*(_starts(job, now) for job in settings.jobs), key=lambda start: start[0])


def _starts(job: "Job", now: float) -> "Iterator[tuple[float, Job]]":
    from policies.schedule import between

    for tick in between(job.schedule, now - job.offset_s, now - job.offset_s + DAY_S):
        yield tick + job.offset_s, job
