"""The schedules that need no calendar: every so often, and once."""

import math
from dataclasses import dataclass

from policies.schedule.error import ScheduleError

SHORTEST_S = 0.001
"""A period: moments of today, as floats, are a quarter of a microsecond apart."""


@dataclass(frozen=True, slots=True)
class Every:
    """Due at the anchor, and each `period_s` seconds from it on. ScheduleError for a period below a millisecond."""

    period_s: float
    anchor: float

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.period_s < math.inf:
            raise ScheduleError("every", "a period of at least 1 ms", f"{self.period_s:g} s")
        if not math.isfinite(self.anchor):
            raise ScheduleError("every", "an anchor that is a moment", str(self.anchor))

    def next_after(self, moment: float) -> float | None:
        """Return the first tick later than the moment: there always is one."""
        if moment < self.anchor:
            return self.anchor
        number = max(0, math.floor((moment - self.anchor) / self.period_s) - 1)  # the quotient may be rounded up
        while (tick := self.anchor + number * self.period_s) <= moment:
            number += 1
        return tick


@dataclass(frozen=True, slots=True)
class At:
    """Due once."""

    moment: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.moment):
            raise ScheduleError("at", "a moment", str(self.moment))

    def next_after(self, moment: float) -> float | None:
        """Return the moment of the schedule while it is to come, else None."""
        return self.moment if self.moment > moment else None
