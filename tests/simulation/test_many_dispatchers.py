"""Several dispatchers on one file, killed, frozen and thawed at random: each tick is decided on once, and none is lost.

`DISPATCHER_SEED=17` runs one seed, `DISPATCHER_SEEDS=5000` so many.
"""

import asyncio
import logging
import os
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from policies.catch_up import CatchUp, tick_id
from policies.failure import Kind
from policies.gate import Overlap
from policies.policy import OnLost
from policies.schedule import Every, between
from supervisor.errors import Failure
from supervisor.settings.values import Job
from supervisor.testing import SharedFile, VirtualClock, World
from supervisor.testing.clock import WALL
from supervisor.testing.process import PROCESS, Process
from tests.supervisor.dispatch.dispatching import Serving, job, lasting
from tests.supervisor.rules import rules

SEEDS = int(os.environ.get("DISPATCHER_SEEDS", "100"))
ONE = os.environ.get("DISPATCHER_SEED")
CHUNK = 25
TROUBLE_S, LONGEST_S = 40.0, 600.0
LEASE_S = 6.0
BUDGET = 3


@dataclass
class Facts:
    """What the work did: each attempt by its run's id; and in which processes a session's work is alive."""

    attempts: dict[str, list[int]] = field(default_factory=dict)
    alive: dict[str, list[Process]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Work:
    """Work that lasts, fails or hangs, by its own dice."""

    def __init__(self, facts: Facts, dice: random.Random) -> None:
        self._facts, self._dice = facts, dice

    async def __call__(self, attempt: Any) -> None:
        me, facts = PROCESS.get(), self._facts
        assert me is not None, "a dispatcher runs in a process"
        alive = facts.alive.setdefault(attempt.session, [])
        if others := [process for process in alive if process.lives]:
            facts.wrong.append(f"{attempt.run_id} overlaps with work of {others}")
        facts.attempts.setdefault(attempt.run_id, []).append(attempt.number)
        alive.append(me)
        try:
            await asyncio.sleep(self._dice.choice((0.0, 0.5, 3.0, 3.0, 40.0)))
            if self._dice.random() < 0.2:
                raise Failure(Kind.SERVER_ERROR, "no")
        finally:
            alive.remove(me)


def some_jobs(dice: random.Random) -> list[Job]:
    made = []
    for number in range(4):
        policy = rules(
            attempts=BUDGET,
            timeout_s=6.0,
            grace_s=1.0,
            deadline_s=40.0,
            wait_s=20.0,
            overlap=dice.choice((Overlap.QUEUE, Overlap.SKIP, Overlap.COALESCE)),
            name=f"policy {number}",
        )
        policy = lasting(policy, dice.choice((OnLost.RETRY, OnLost.GIVE_UP)))
        schedule = Every(float(dice.randrange(4, 15)), WALL - dice.randrange(100))
        catch_up = dice.choice(tuple(CatchUp))
        made.append(job(f"job {number}", schedule=schedule, policy=policy, catch_up=catch_up, overdue=None))
    return made


class Trouble:
    """The world of one seed."""

    def __init__(self, seed: int, world: World, file: SharedFile) -> None:
        self.dice, self.world, self.file = random.Random(f"trouble {seed}"), world, file
        self.facts, self.jobs = Facts(), some_jobs(self.dice)
        self.serving: list[Serving] = []
        self.count = 0

    def start(self) -> Serving:
        self.count += 1
        serving = Serving(self.world, self.file, f"serve {self.count}", lease_s=LEASE_S)
        for each in self.jobs:
            serving.works[each.name] = Work(self.facts, self.dice)
        serving.start(*self.jobs)
        self.serving.append(serving)
        return serving

    async def main(self) -> None:
        clock = self.world.clock
        until = clock.now() + TROUBLE_S
        first = self.start()
        await asyncio.sleep(0.01)
        known = first.world.clock.wall()
        self.start()
        while clock.now() < until:
            await asyncio.sleep(self.dice.random() * 5.0)
            self.befall()
        for serving in self.serving:
            serving.process.thaw()
        await self.drained()
        last = clock.wall()
        self.start()  # what they have left open is started, or decided on, by who comes next
        await clock.sleep(5.0)
        while self._open(last) and clock.now() < until + LONGEST_S:
            await clock.sleep(5.0)
        await self.drained()
        self.check(known, last)

    async def drained(self) -> None:
        living = [serving for serving in self.serving if serving.process.lives]
        for serving in living:
            serving.end(5.0)
        await asyncio.wait([serving.task for serving in living] or [asyncio.ensure_future(asyncio.sleep(0))])

    def befall(self) -> None:
        alive = [serving.process for serving in self.serving if serving.process.lives]
        match self.dice.randrange(4):
            case 0 if alive:
                self.dice.choice(alive).kill()
            case 1 if alive:
                self.dice.choice(alive).freeze(self.dice.choice((0.3, 2.0, 9.0, 20.0)))
            case 2 if alive:
                self.dice.choice(alive).thaw()
            case _ if len(alive) < 3:
                self.start()

    def _open(self, last: float) -> bool:
        open_ones = "SELECT count(*) FROM ticks WHERE outcome IS NULL AND tick_wall <= ?"
        [number] = self.file.connection.execute(open_ones, (last,)).fetchone()
        return bool(number)

    # --- what must be so

    def check(self, known: float, last: float) -> None:
        wrong = self.facts.wrong
        wrong += [f"{each.process} has not left" for each in self.serving if each.process.lives]
        for serving in self.serving:
            if serving.task.done() and serving.task.exception() is not None:
                wrong.append(f"{serving.process} has ended by {serving.task.exception()!r}")
        for each in self.jobs:
            self._check_job(each, known, last)
        for run_id, numbers in self.facts.attempts.items():
            if len(set(numbers)) < len(numbers) or len(numbers) > BUDGET:
                wrong.append(f"{run_id} made attempts {numbers}")
        assert not wrong, "; ".join(wrong)

    def _check_job(self, each: Job, known: float, last: float) -> None:
        rows = self.file.connection.execute(
            "SELECT tick_wall, outcome, reason, run_id FROM ticks WHERE job = ? AND tick_wall <= ?", (each.name, last)
        ).fetchall()
        wrong, found = self.facts.wrong, {tick for tick, *_ in rows}
        wrong += [
            f"{each.name} at {t - WALL} is missing" for t in between(each.schedule, known, last) if t not in found
        ]
        for tick, outcome, reason, run_id in rows:
            what = f"{each.name} at {tick - WALL} is {outcome} {reason or ''}"
            if outcome is None:
                wrong.append(what)
            if outcome == "expired" and each.catch_up is CatchUp.ALL:
                wrong.append(what)
            if outcome == "skipped" and reason not in {"overlap", "wait_over", "queue_full", "deadline", "busy"}:
                wrong.append(what)
            if outcome != "started" and tick_id(each.name, tick) in self.facts.attempts:
                wrong.append(f"{what}, and was started")
            if run_id is not None and run_id != tick_id(each.name, tick):
                wrong.append(f"{what}, as {run_id}")


def trouble_of(seed: int) -> None:
    with VirtualClock(seed) as clock:
        world = World(clock, share=0.2)
        world.run(Trouble(seed, world, SharedFile()).main())


@pytest.mark.simulation
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # what a killed process leaves to be collected
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK) if ONE is None else [int(ONE)])
def test_several_dispatchers_decide_on_each_tick_once_whatever_befalls_them(first: int) -> None:
    logging.getLogger("asyncio").disabled = True  # of tasks that a killed process has left
    try:
        for seed in range(first, first + CHUNK if ONE is None else first + 1):
            try:
                trouble_of(seed)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from None
    finally:
        logging.getLogger("asyncio").disabled = False
