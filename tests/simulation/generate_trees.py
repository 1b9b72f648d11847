"""From a seed to commands. The dice are their own: a seed without commands is the scenario that it was before."""

import random
from typing import Any

from supervisor.testing.tree_script import Happening, TreeScript

DIES = (
    Happening.SPAWNED,
    Happening.PARKED,
    Happening.WENT,
    Happening.STARTED,
    Happening.EXITED,
    Happening.TOLD,
)
HANGS_S = 60.0
SIGABRT, SIGKILL, SIGSEGV = 6, 9, 11


class Trees:
    """The commands of one scenario."""

    def __init__(self, seed: int, grid_s: float) -> None:
        self.dice = dice = random.Random(f"wardens {seed}")
        self.grid_s = grid_s
        self.share = dice.choice((0.0, 0.0, 0.0, 0.4, 1.0))  # of the jobs
        shares = {
            "slow": 0.5,  # to park, to start, to end
            "fails_to_start": 0.2,
            "stubborn": 0.4,
            "daemons": 0.4,
            "wardens": 0.3,  # are killed
            "memory": 0.2,
            "says": 0.4,
            "stalls": 0.15,
        }
        self.on = {name: dice.random() < share for name, share in shares.items()}
        self.fails = dice.choice((0.2, 0.5, 0.8))

    def time(self, most_s: float) -> float:
        if self.grid_s and most_s >= self.grid_s:
            return self.grid_s * self.dice.randint(0, max(1, int(most_s / self.grid_s)))
        return round(self.dice.random() * most_s, 3)

    def some(self, name: str, share: float) -> bool:
        return self.on[name] and self.dice.random() < share

    def rules(self) -> dict[str, Any]:
        """What of a policy is for commands alone."""
        if not self.share:
            return {}
        return {
            "leave_children": self.on["daemons"] and self.dice.random() < 0.3,
            "max_rss_bytes": 1 << 20 if self.on["memory"] else None,
        }

    def of_a_job(self) -> tuple[TreeScript, ...]:
        """Its attempts; empty: it is no command."""
        if not self.share or self.dice.random() >= self.share:
            return ()
        return tuple(self.script() for _ in range(self.dice.choice((1, 1, 2))))

    def script(self) -> TreeScript:
        dice = self.dice
        told: dict[str, Any] = {}
        if self.on["slow"]:
            told["parks_in_s"] = dice.choice((0.0, 0.01, 0.01, self.time(1.0), self.time(1.0), HANGS_S))
            told["starts_in_s"] = dice.choice((0.0, 0.01, self.time(0.5)))
            told["ends_in_s"] = dice.choice((0.0, 0.01, self.time(0.5), self.time(3.0)))
        if self.some("fails_to_start", 0.3):
            told["cannot_park"] = "no processes are left"
        if self.some("fails_to_start", 0.3):
            told["cannot_start"] = dice.choice((126, 127))
        told["runs_s"] = dice.choice((0.0, self.time(1.5), self.time(3.0), None))
        if dice.random() < self.fails:
            told["code"] = dice.choice((1, 1, 2, 75))
            told["signal"] = dice.choice((None, None, SIGABRT, SIGKILL, SIGSEGV))
            told["output"] = "it went wrong"
        if self.on["stubborn"]:
            told["ignores_sigterm_s"] = dice.choice((0.0, self.time(1.0), None))
        if self.some("daemons", 0.6):
            told["daemons"] = dice.choice((1, 2))
            told["daemons_run_s"] = dice.choice((None, self.time(2.0)))
            told["daemons_ignore_sigterm_s"] = dice.choice((0.0, self.time(1.0), None))
        if self.some("says", 0.7):
            told["says_every_s"] = 0.05 + self.time(1.0)
        if self.some("memory", 0.6):
            told["over_memory_after_s"] = self.time(1.5)
        if self.some("wardens", 0.4):
            told["warden_dies"] = (dice.choice(DIES), dice.choice((0.0, 0.0, 0.01, self.time(1.0))))
        if self.some("stalls", 0.5):
            told["reader_stalls"] = True
        return TreeScript(**told)
