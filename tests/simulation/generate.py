"""From a seed to a scenario. Each seed has its own subset of faults and its own knobs: a swarm."""

import random
from typing import Any

from supervisor.testing.cancelling import WOKEN
from supervisor.testing.faults import (
    CancelAt,
    CancelPlace,
    Fault,
    HoldLock,
    Leave,
    LowMemory,
    Reset,
    Slowness,
    StepWall,
)
from tests.simulation.generate_trees import Trees
from tests.simulation.scenario import Agents, Beat, Job, Lock, Nested, Open, Play, Rules, Scenario, Sleep, Step

KINDS = ("error", "network", "overloaded", "rate_limited", "server_error", "auth", "invalid", "memory", "crash")
RAISES = ("plain", "chained", "group", "stored", "cancelled", "base")


def generate(seed: int) -> Scenario:
    return Generator(seed).scenario()


class Generator:
    def __init__(self, seed: int, thrown: int | str | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(seed if thrown is None else thrown)
        dice = self.dice
        self.grid_s = dice.choice((0.0, 0.0, 0.25, 0.5, 1.0))
        self.sessions = [f"s{n}" for n in range(dice.choice((1, 1, 2, 3)))]
        self.names = [f"p{n}" for n in range(dice.choice((1, 1, 2, 3)))]
        # The swarm: what may happen at all in this seed.
        self.on = {
            name: dice.random() < share
            for name, share in {
                "locks": 0.35,
                "scope": 0.5,
                "stubborn": 0.3,
                "never": 0.1,
                "nested": 0.3,
                "agents": 0.25,
                "remote": 0.15,
                "beats": 0.3,
                "cleanup": 0.4,
                "slow": 0.4,
                "host": 0.4,
                "bucket": 0.25,
                "cancels": 0.7,
                "odd": 0.4,
                "reset": 0.15,
                "leave": 0.2,
                "keyboard": 0.1,
            }.items()
        }
        self.fails = dice.choice((0.2, 0.5, 0.8, 0.95))
        self.quick = dice.random() < 0.3
        self.budget = 40  # steps of work in all: a scenario stays small
        self.trees = Trees(seed, self.grid_s)

    def time(self, most_s: float) -> float:
        """A length of at most so many seconds, on the grid where there is one."""
        if self.grid_s:
            return self.grid_s * self.dice.randint(0, max(1, int(most_s / self.grid_s)))
        return round(self.dice.random() * most_s, 3)

    def some(self, name: str, share: float) -> bool:
        return self.on[name] and self.dice.random() < share

    # --- rules

    def rules(self, name: str) -> Rules:
        choose = self.dice.choice
        attempts = choose((1, 2, 2, 3, 4))
        return Rules(
            name,
            timeout_s=choose((None, 0.5, 1.0, 2.0, 5.0)),
            idle_s=choose((None, None, 0.5, 1.0)) if self.on["beats"] else None,
            grace_s=choose((0.25, 0.5, 1.0)),
            attempts=attempts,
            deadline_s=choose((1.5, 3.0, 6.0, 15.0, 15.0)),
            capacity=choose((1.0, 2.0, 3.0, 10.0, 10.0)),
            refill=choose((0.0, 1.0, 30.0)),
            deposit=choose((0.0, 0.1, 0.5)),
            strategy=choose(("full_jitter", "constant", "exponential", "equal_jitter")),
            base_s=choose((0.0, 0.0, 0.5, 1.0)),
            cap_s=2.0,
            failures=choose((1, 2, 2, 3, 10)),
            cooldown_s=choose((0.5, 1.0, 2.0)),
            cooldown_cap_s=choose((2.0, 4.0)),
            trials=choose((1, 1, 2)),
            permits=choose((1, 1, 1, 2)),
            queue=choose((0, 1, 2, 16, 16)),
            wait_s=choose((0.5, 1.0, 5.0, 20.0)),
            overlap=choose(("queue", "queue", "queue", "skip", "coalesce", "replace")),
            lock_wait_s=choose((0.0, 0.5, 1.0)),
            timeout_tokens=choose((2.0, 1.0, 0.0)),
            timeout_retried=choose((True, True, False)),
            **self.trees.rules(),
        )

    # --- work

    def play(self, depth: int) -> Play:
        dice = self.dice
        steps = tuple(self.steps(depth))
        ending, retry_after = "return", None
        if dice.random() < self.fails:
            ending = f"fail:{dice.choice(KINDS)}"
            if dice.random() < 0.25:
                retry_after = self.time(2.0)
            if self.some("odd", 0.4):
                ending, retry_after = f"raise:{dice.choice(RAISES)}", None
            if depth == 0 and self.some("keyboard", 0.3):
                ending = "raise:keyboard"
        if dice.random() < 0.2:
            ending = "hang"
        on_cancel, for_s = "obey", 0.0
        if self.some("cleanup", 0.5):
            on_cancel, for_s = "cleanup", self.time(0.5)
        if self.some("stubborn", 0.4):
            on_cancel, for_s = dice.choice(("ignore", "outraise", "cleanup")), self.time(3.0)
        if self.some("never", 0.3):
            on_cancel = "never"
        remote_s = self.time(1.5) if self.some("remote", 0.5) else None
        confirm = dice.choice(("ok", "ok", "hangs", "raises")) if remote_s is not None else "ok"
        return Play(steps, ending, on_cancel, for_s, retry_after, remote_s, confirm)

    def steps(self, depth: int) -> list[Step]:
        dice = self.dice
        steps: list[Step] = []
        for _ in range(dice.choice((0, 1, 1, 2, 3))):
            self.budget -= 1
            steps.append(self.step(depth))
        return steps

    def step(self, depth: int) -> Step:
        dice = self.dice
        if self.some("beats", 0.3):
            return Beat()
        if self.some("scope", 0.4):
            then = dice.choice(("ok", "ok", "raises", "hangs", "stubborn"))
            takes_s = self.time(0.5) if dice.random() < 0.5 else 0.0
            return Open(
                dice.choice(("callback", "enter")), takes_s, then, self.time(3.0) if then == "stubborn" else 0.0
            )
        if self.some("locks", 0.3):
            return Lock(dice.choice(self.sessions))
        if depth < 2 and self.budget > 0 and self.some("nested", 0.25):
            return Nested(self.job(depth + 1), dice.random() < 0.6)
        if depth < 2 and self.budget > 0 and self.some("agents", 0.25):
            jobs = tuple(self.job(depth + 1) for _ in range(dice.choice((1, 2, 3))))
            cancel_after_s = self.time(1.0) if dice.random() < 0.2 else None
            return Agents(jobs, dice.choice((1, 2, 8)), cancel_after_s)
        return Sleep(0.0 if self.quick else self.time(1.5))

    def job(self, depth: int, at: float = 0.0) -> Job:
        dice = self.dice
        session = dice.choice(self.sessions)
        if depth and dice.random() < 0.7:
            session = f"{session}/child{dice.randint(0, 1)}"
        plays = tuple(self.play(depth) for _ in range(dice.choice((1, 1, 2))))
        lock = dice.choice(self.sessions) if depth == 0 and self.some("locks", 0.5) else ""
        return Job(session, dice.choice(self.names), plays, at, lock, self.trees.of_a_job())

    def jobs(self) -> tuple[Job, ...]:
        dice = self.dice
        if dice.random() < 0.4:  # a crowd: many short runs at one instant
            at = self.time(1.0)
            crowd = [self.job(0, at) for _ in range(dice.randint(3, 8))]
            rest = [self.job(0, self.time(5.0)) for _ in range(dice.randint(0, 3))]
            return tuple(sorted(crowd + rest, key=lambda job: job.at))
        jobs = [self.job(0, self.time(6.0)) for _ in range(dice.randint(2, 9))]
        return tuple(sorted(jobs, key=lambda job: job.at))

    # --- faults

    def faults(self, jobs: tuple[Job, ...]) -> tuple[Fault, ...]:
        dice = self.dice
        faults: list[Fault] = []
        if self.on["cancels"]:
            for number in range(len(jobs)):
                while dice.random() < 0.35:
                    faults.append(self.cancel(str(number), jobs[number]))
        if self.on["locks"]:
            for session in self.sessions:
                if dice.random() < 0.7:
                    at = self.time(4.0)
                    faults.append(HoldLock(session, at, at + self.time(2.0), dice.random() < 0.4))
        if dice.random() < 0.3:
            faults.append(StepWall(self.time(5.0), dice.choice((-86400.0, -5.0, 5.0, 86400.0))))
        if self.on["reset"]:
            faults.append(Reset(dice.choice(self.sessions), self.time(6.0)))
        if self.on["leave"]:
            faults.append(Leave(self.time(6.0)))
        if self.on["host"] and dice.random() < 0.3:
            at = self.time(4.0)
            faults.append(LowMemory(at, at + self.time(2.0)))
        return tuple(faults)

    def cancel(self, key: str, job: Job) -> Fault:
        dice = self.dice
        if dice.random() < 0.75:
            return CancelPlace(
                key, dice.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, 8)), dice.choice((WOKEN, WOKEN, 0, 1, 2, 3))
            )
        return CancelAt(key, round(job.at + self.time(3.0), 3))

    def scenario(self) -> Scenario:
        dice = self.dice
        jobs = self.jobs()
        faults = self.faults(jobs)
        limits: dict[str, Any] = {}
        if self.on["host"]:
            limits["running"] = dice.choice((None, 1, 2, 2, 3))
            limits["starts"] = dice.choice((None, None, (1, 0.5), (2, 1.0), (3, 1.0)))
            limits["memory"] = any(isinstance(fault, LowMemory) for fault in faults)
        if self.on["bucket"]:
            limits["host_bucket"] = dice.choice(((1.0, 1.0, 0.1), (2.0, 30.0, 0.0), (3.0, 0.0, 0.5)))
        slowness = Slowness()
        if self.on["slow"]:
            slowness = Slowness(dice.choice((0.2, 0.5, 1.0)), dice.choice((1, 3)), dice.choice((0.0, 0.0, 0.1)))
        return Scenario(self.seed, tuple(self.rules(name) for name in self.names), jobs, faults, slowness, **limits)
