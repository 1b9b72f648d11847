"""Ten thousand jobs for a week on the virtual clock, on the real SQL: every tick is in the ledger, once.

In the week clocks are set in three zones. `DISPATCH_TICKS=1000000` has so many ticks.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Policy
from policies.schedule import At, Cron, Every, Schedule
from supervisor import Supervisor
from supervisor.dispatch.dispatcher import Dispatcher
from supervisor.settings.values import Job
from supervisor.settings.zones import zone_named
from supervisor.store.sqlite.store import SqliteStore
from supervisor.tasks import start_plain
from supervisor.testing import InlineDatabase, SharedFile, VirtualClock, World
from tests.simulation.dispatch_oracle import CronText, ticks_of_cron, ticks_of_every

JOBS = 10_000
TICKS = int(os.environ.get("DISPATCH_TICKS", "28000"))
WEEK_S = 7 * 86400
START = 1_774_742_400  # 2026-03-29T00:00:00Z
ZONES = (
    "Europe/Berlin",  # ahead on the 29th, by an hour
    "Pacific/Auckland",  # back on April 5 there, the 4th in UTC, by an hour
    "Australia/Lord_Howe",  # back on the same day, by half an hour
    "America/New_York",
    "UTC",
)


class SomeLife:
    def __init__(self, *_: Any) -> None:
        self.path = Path("/alive/one")

    def close(self) -> None: ...


async def nothing() -> None: ...


async def done(_: object) -> None:
    """Do a job's work."""


def a_job(number: int, dice: random.Random, per_job: float) -> tuple[Job, list[float]]:
    """Return a job, and its ticks as the oracle has them."""
    start, end, kind = START, START + WEEK_S, dice.random()
    schedule: Schedule
    if kind < 0.05:
        moment = start + dice.randrange(1, WEEK_S)
        schedule, ticks = At(float(moment)), [float(moment)]
    elif kind < 0.35:
        period_s = max(60, round(WEEK_S / per_job * dice.uniform(0.6, 1.6)))
        anchor = start - dice.randrange(10 * period_s)
        schedule, ticks = (
            Every(float(period_s), float(anchor)),
            list(ticks_of_every(period_s, anchor, start - 200, end)),
        )
    else:
        text = _cron(dice, per_job)
        schedule, ticks = Cron(str(text), zone_named(text.zone)), list(ticks_of_cron(text, start - 240, end))
    stagger_s = dice.choice((0.0, 0.0, 0.125, 17.0, 100.0))
    name = f"job {number}"
    job = Job(name, schedule, repr(schedule), f"session {number % 3000}", POLICY, ("true",), offset_s=stagger_s)
    return job, [tick for tick in ticks if start < tick + stagger_s <= end]  # a new job has missed nothing


POLICY = Policy("week")


def _cron(dice: random.Random, per_job: float) -> CronText:
    zone = dice.choice(ZONES)
    minute = dice.randrange(60)
    if per_job > 30:
        return CronText(dice.choice((-10, -20, -30, minute)), dice.choice((None, None, -2)), None, zone)
    hour = dice.choice((dice.randrange(5), dice.randrange(5), dice.randrange(24), -12))
    return CronText(minute, hour, dice.choice((None, None, dice.randrange(7))), zone)


async def serve_a_week(jobs: list[Job], file: SharedFile, clock: VirtualClock) -> None:
    database = InlineDatabase(file, World(clock).process("one"))
    store = SqliteStore(Path("/state/state.db"), database=database, make_life=SomeLife, keep_runs=1000)
    store._retention.forget_ticks = nothing  # type: ignore[method-assign]  # the ledger is what is looked at
    async with Supervisor(clock=clock, store=store) as supervisor:
        dispatcher = Dispatcher(supervisor, store, clock, lambda _: done, look_s=3600.0, tend_s=3600.0)
        await dispatcher.set_jobs(jobs)
        running = start_plain(dispatcher.run())
        await asyncio.sleep(WEEK_S + 0.001)
        await dispatcher.drain(60.0)
        await running


@pytest.mark.once
@pytest.mark.simulation
@pytest.mark.timeout(0 if TICKS > 100_000 else 300)
def test_every_tick_of_a_week_is_in_the_ledger_once() -> None:
    dice = random.Random("the week")
    made = [a_job(number, dice, TICKS / JOBS) for number in range(JOBS)]
    wanted = {(job.name, tick) for job, ticks in made for tick in ticks}
    file = SharedFile()
    with VirtualClock(0, wall=float(START)) as clock:
        clock.run(serve_a_week([job for job, _ in made], file, clock))
    rows = file.connection.execute("SELECT job, tick_wall FROM ticks").fetchall()
    assert not wanted.difference(rows), "these are missing"
    assert not set(rows) - wanted, "these were never due"
    assert len(rows) == len(wanted), "these came twice"
    counts = dict(file.connection.execute("SELECT coalesce(outcome, 'open'), count(*) FROM ticks GROUP BY outcome"))
    assert counts == {"started": len(wanted)}
    assert len(wanted) > TICKS / 2, "the week is what it says"
    assert file.connection.execute("SELECT count(*) FROM runs WHERE state <> 'ended'").fetchone() == (0,)
