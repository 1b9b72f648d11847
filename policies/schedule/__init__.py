"""When a job is due: a cron expression in a zone, every so often from an anchor, or once.

Moments are seconds since 1970, going in and coming out. A schedule is a set of moments, and `next_after` finds the
first of them that is later than a given one: two processes that ask from different moments never disagree on what was
due.
"""

from policies.schedule.cron import Cron
from policies.schedule.error import NeverDue, ScheduleError
from policies.schedule.plain import At, Every
from policies.schedule.ticks import Schedule, between, newest, stagger_s

__all__ = ["At", "Cron", "Every", "NeverDue", "Schedule", "ScheduleError", "between", "newest", "stagger_s"]
