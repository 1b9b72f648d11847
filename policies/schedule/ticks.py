"""What is asked of any schedule: the ticks of a while, the newest of them, and a job's place within its stagger."""

import hashlib
import math
from collections.abc import Iterator

from policies.schedule.cron import Cron
from policies.schedule.plain import SHORTEST_S, At, Every

Schedule = Cron | Every | At


def between(schedule: Schedule, after: float, until: float) -> Iterator[float]:
    """Yield each tick later than `after` and not later than `until`, one by one."""
    tick = schedule.next_after(after)
    while tick is not None and tick <= until:
        yield tick
        tick = schedule.next_after(tick)


def newest(schedule: Schedule, after: float, until: float, most: int = 1) -> list[float]:
    """Return the last `most` ticks of those that `between` yields, the oldest first.

    However many they are, each is found by some thirty questions: nobody walks through the others.
    """
    found: list[float] = []
    while len(found) < most and (tick := _last(schedule, after, until)) is not None:
        found.append(tick)
        until = math.nextafter(tick, -math.inf)
    return found[::-1]


def _last(schedule: Schedule, after: float, until: float) -> float | None:
    """Return the last tick in (after, until]: halve what lies between a tick and a moment with none from there on."""
    last = schedule.next_after(after)
    if last is None or last > until:
        return None
    while until - last > SHORTEST_S / 2:  # no two ticks are as near to each other
        middle = last + (until - last) / 2
        tick = schedule.next_after(middle)
        if tick is None or tick > until:
            until = middle
        else:
            last = tick
    return last


def stagger_s(name: str, window_s: float) -> float:
    """Return by how much a job's ticks are late: whole milliseconds in [0, window_s), always the same for its name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % max(1, math.floor(window_s * 1000)) / 1000
