"""From a seed to a scenario of several processes: jobs of the single one, spread over them, and what befalls them."""

import dataclasses
from typing import Any

from supervisor.testing.cancelling import WOKEN
from supervisor.testing.faults import (
    Blow,
    Fault,
    Freeze,
    FreezePlace,
    HoldLock,
    Kill,
    KillPlace,
    ProcessFault,
    Reset,
    Slowness,
    StepWall,
    Strike,
)
from tests.simulation.generate import Generator
from tests.simulation.scenario import Job, Rules, Scenario

TRANSACTIONS = (
    *("arrive", "arrive_and_begin", "take_turn", "begin", "record_attempt") * 3,
    *("leave", "leave_begun", "end_run", "renew", "take_slot"),
)
OF_RECOVERY = ("register", "end_between", "attempts_of", "pass_by", "end_lost", "unregister", "lift")
LEASE_S = 1.0


def generate_many(seed: int) -> Scenario:
    return _Generator(seed).scenario()


class _Generator(Generator):
    """The swarm of one process, without what only that is about, and with what befalls several."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, f"many {seed}")
        for name in ("remote", "keyboard", "leave"):
            self.on[name] = False
        dice = self.dice
        self.names_of_processes = list("abcd"[: dice.choice((1, 2, 2, 3, 3, 4))])
        for name, share in {"kills": 0.6, "freezes": 0.5, "strikes": 0.6, "failures": 0.3}.items():
            self.on[name] = dice.random() < share

    def rules(self, name: str) -> Rules:
        rules = super().rules(name)
        return dataclasses.replace(rules, grace_s=min(rules.grace_s, LEASE_S / 2))

    def jobs(self) -> tuple[Job, ...]:
        choose = self.dice.choice
        return tuple(dataclasses.replace(job, process=choose(self.names_of_processes)) for job in super().jobs())

    # --- faults

    def freeze_s(self) -> float:
        """Mostly just longer than the lease: short of it nobody does anything."""
        if self.dice.random() < 0.25:
            return round(0.05 + self.dice.random() * LEASE_S, 3)
        return round(LEASE_S + 0.1 + 0.5 * self.dice.random(), 3)

    def place(self) -> tuple[int, int]:
        return self.dice.choice((1, 2, 3, 4, 5, 6, 8, 10)), self.dice.choice((WOKEN, WOKEN, 0, 1, 2))

    def of_processes(self, jobs: tuple[Job, ...]) -> list[ProcessFault]:
        dice, faults = self.dice, list[ProcessFault]()
        for name in self.names_of_processes:
            if self.some("kills", 0.3):
                faults.append(Kill(name, self.time(5.0), dice.random() < 0.25))
            if self.some("freezes", 0.3):
                faults.append(Freeze(name, self.time(4.0), self.freeze_s()))
            if self.some("strikes", 0.6):
                faults.append(self.strike(name, dice.choice((Blow.KILLED, Blow.FROZEN))))
            if self.some("failures", 0.5):
                faults.append(self.strike(name, Blow.FAILS))
        for number in range(len(jobs)):
            if self.some("kills", 0.15):
                faults.append(KillPlace(str(number), *self.place()))
            if self.some("freezes", 0.15):
                faults.append(FreezePlace(str(number), *self.place(), self.freeze_s()))
        return faults

    def strike(self, name: str, blow: Blow) -> Strike:
        dice = self.dice
        transaction = dice.choice(TRANSACTIONS if dice.random() < 0.75 else OF_RECOVERY)
        for_s = self.freeze_s() if blow is Blow.FROZEN else 0.0
        times = dice.choice((1, 1, 6)) if blow is Blow.FAILS else 1  # a record is asked for four times
        return Strike(name, transaction, dice.choice((1, 1, 1, 2, 2, 3, 4)), blow, dice.random() < 0.5, for_s, times)

    def scenario(self) -> Scenario:
        dice = self.dice
        jobs = self.jobs()
        kept = (StepWall, Reset, HoldLock)
        cancels: list[Fault] = []
        if self.on["cancels"]:
            cancels = [self.cancel(str(number), job) for number, job in enumerate(jobs) if dice.random() < 0.25]
        others = [fault for fault in self.faults(jobs) if isinstance(fault, kept)]
        limits: dict[str, Any] = {}
        if self.on["host"]:
            limits["running"] = dice.choice((None, 1, 2, 2, 3))
        if self.on["bucket"]:
            limits["host_bucket"] = dice.choice(((1.0, 1.0, 0.1), (2.0, 30.0, 0.0), (3.0, 0.0, 0.5)))
        slowness = Slowness()
        if self.on["slow"] and dice.random() < 0.5:
            slowness = Slowness(dice.choice((0.2, 0.5)), 1, dice.choice((0.02, 0.1)))
        return Scenario(
            self.seed,
            tuple(self.rules(name) for name in self.names),
            jobs,
            (*cancels, *others, *self.of_processes(jobs)),
            slowness,
            turns=dice.choice((0.0, 0.2, 0.5)),
            lease_s=LEASE_S,
            **limits,
        )
