"""What 10,000 different cron expressions cost the processor: read, and asked for their next time.

python tests/benchmarks/bench_schedule.py [--smoke] [--json]

The expressions are drawn like people's, and wilder, for four zones. One figure is for a moment at which no clock
changes within a day, one for a night in which Berlin's do.
"""

import random
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.schedule import Cron, fields, newest
from tests.benchmarks.measuring import options, row, show

ZONES: Final = [ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kolkata")]
QUIET: Final = datetime.fromisoformat("2026-08-30T06:00:00Z").timestamp()
CHANGING: Final = datetime.fromisoformat("2026-10-25T00:30:00Z").timestamp()


def field(dice: random.Random, low: int, high: int, stars: float) -> str:
    if dice.random() < stars:
        return "*"
    values = sorted(dice.sample(range(low, high + 1), 3))
    shapes = (f"{values[0]}", f"*/{dice.randint(2, 7)}", f"{values[0]}-{values[2]}", ",".join(map(str, values)))
    return dice.choice(shapes)


def expressions(number: int) -> list[str]:
    """Return so many different ones, the same in each run."""
    dice = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < number:
        day = dice.choice(["L", "LW", "15W"]) if dice.random() < 0.05 else field(dice, 1, 28, 0.7)
        weekday = f"{dice.randint(0, 6)}#{dice.randint(1, 4)}" if dice.random() < 0.05 else field(dice, 0, 6, 0.6)
        parts = (field(dice, 0, 59, 0.1), field(dice, 0, 23, 0.2), day, field(dice, 1, 12, 0.9), weekday)
        found[" ".join(parts)] = None
    return list(found)


def next_times_s(texts: list[str], moment: float) -> float:
    """Return the processor's seconds for all of them, read for the first time."""
    fields._values.cache_clear()
    fields._days.cache_clear()
    start = time.process_time()
    for number, text in enumerate(texts):
        Cron(text, ZONES[number % len(ZONES)]).next_after(moment)
    return time.process_time() - start


def main() -> None:
    asked = options(__doc__)
    number, rounds = (500, 1) if asked.smoke else (10_000, 5)
    texts = expressions(number)
    every_second = Cron("* * * * * *", ZONES[0])
    quiet = min(next_times_s(texts, QUIET) for _ in range(rounds))
    changing = min(next_times_s(texts, CHANGING) for _ in range(rounds))
    start = time.process_time()
    newest(every_second, QUIET - 365 * 86400, QUIET, 100)
    last = time.process_time() - start
    rows = [
        row(f"{number:,} cron expressions read, and their next time", quiet, "s", least=1.0),
        row("the same, in the night in which clocks change", changing, "s", least=1.0),
        row("the last 100 ticks of a year of seconds", last * 1e3, "ms", least=100.0),
    ]
    show(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
