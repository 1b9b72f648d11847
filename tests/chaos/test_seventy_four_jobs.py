"""74 jobs in one `turnkeeper serve`, 30 of which hang and 7 fail: 37 healthy ones run in each of their periods.

SEVENTY_FOUR_S=180 is the long one, every 20 s; else it is every 4 s for 40 s. What was seen is printed: pytest -s.
"""

import os
import signal
import statistics
import time
from collections import Counter, defaultdict

import pytest

from tests.chaos.serves import Line, check_bodies, check_ledger, job, lines_of, script
from tests.supervisor.cli.serving import Serve, rss_bytes
from tests.supervisor.tree.trees import until

LENGTH_S = float(os.environ.get("SEVENTY_FOUR_S", "40"))
PERIOD_S = 20.0 if LENGTH_S >= 180.0 else 4.0
TIMEOUT_S = PERIOD_S / 5
ATTEMPTS, CAPACITY, DEPOSIT, REFILL_PER_MINUTE, TOKENS_OF_A_TIMEOUT = 2, 4.0, 0.1, 1.0, 2.0
MOST_GROWTH_BYTES = 4 << 20

HEALTHY = [f"healthy{number}" for number in range(37)]
HANGING = [f"hanging{number}" for number in range(30)]
FAILING = [f"failing{number}" for number in range(7)]
HANGS = ["sleep 600", "trap '' TERM; sleep 600", "sleep 600 & wait"]

SETTINGS = f"""
[serve]
drain = "2s"
[policies.default]
attempt = {{ timeout = "{TIMEOUT_S:g}s", grace = "300ms" }}
budget.attempts = {ATTEMPTS}
budget.deadline = "1h"
budget.session = {{ capacity = {CAPACITY}, refill = {REFILL_PER_MINUTE}, deposit = {DEPOSIT} }}
backoff = {{ strategy = "constant", base = "200ms" }}
breaker = {{ failures = 5, window = "10m", cooldown = "{PERIOD_S:g}s" }}
gate.overlap = "skip"
"""

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120 + 2 * LENGTH_S)]


def test_healthy_jobs_run_in_each_period_beside_those_that_hang_and_fail(serve: Serve) -> None:
    log = serve.folder / "bodies"
    works = {
        **dict.fromkeys(HEALTHY, "true"),
        **{name: HANGS[number % len(HANGS)] for number, name in enumerate(HANGING)},
        **dict.fromkeys(FAILING, "exit 1"),
    }
    serve.settings(*(job(name, PERIOD_S, script(log, name, work)) for name, work in works.items()), before=SETTINGS)
    process = serve.start()
    until(log.exists, "the first has run", 2 * PERIOD_S)
    sizes = []
    end = time.monotonic() + LENGTH_S
    while time.monotonic() < end:
        sizes.append(rss_bytes(process.pid))
        time.sleep(0.2)
    stopped = time.time()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    lines = lines_of(log)
    outcomes = check_ledger(serve.state, dict.fromkeys(works, PERIOD_S), lines, stopped - PERIOD_S)
    check_bodies(lines, dict.fromkeys(works, ATTEMPTS))
    share = share_that_ran(serve, lines, stopped)
    most = check_budgets(lines)
    third = len(sizes) // 3
    grown = statistics.mean(sizes[-third:]) - statistics.mean(sizes[third : 2 * third])
    print(f"healthy {share:.4f}, {dict(outcomes)}, at most {most} retries of a hanging job, ", end="")
    print(f"memory {sizes[-1] / 2**20:.1f} MiB, grown by {grown / 2**20:.2f} MiB in a third")
    assert share >= 0.99
    assert grown < MOST_GROWTH_BYTES
    assert "Traceback" not in serve.log()
    serve.assert_nothing_is_lost()


def share_that_ran(serve: Serve, lines: list[Line], stopped: float) -> float:
    """Return the part of the periods of the healthy jobs in which they ran to their end; the last may be cut off."""
    over = Counter(line.job for line in lines if line.what == "end")
    begun = {name: [tick for tick, _ in serve.ticks(name) if tick < stopped - PERIOD_S] for name in HEALTHY}
    periods = {(max(ticks) - min(ticks)) / PERIOD_S + 1 for ticks in begun.values()}
    assert min(periods) >= LENGTH_S / PERIOD_S - 2
    return sum(min(over[name], len(begun[name])) for name in HEALTHY) / sum(len(ticks) for ticks in begun.values())


def check_budgets(lines: list[Line]) -> int:
    """Nobody retries more than its tokens allow, counted by what the work wrote; return the most retries of one."""
    runs: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.what == "start":
            runs[line.job].append(line.run_id)
    retries = {name: len(runs[name]) - len(set(runs[name])) for name in HANGING}
    for name, number in retries.items():
        tokens = CAPACITY + DEPOSIT * len(set(runs[name])) + REFILL_PER_MINUTE * LENGTH_S / 60
        assert number * TOKENS_OF_A_TIMEOUT <= tokens, f"{name} was retried {number} times"
    assert max(retries.values()) >= 1
    assert not any(runs[name] and len(runs[name]) > len(set(runs[name])) for name in HEALTHY)
    return max(retries.values())
