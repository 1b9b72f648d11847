"""Two `turnkeeper serve` on one state: killed, stopped, continued and restarted at random; each tick runs once.

SERVE_CHAOS_S=180 is a longer one; SERVE_CHAOS_SEED repeats what was done to them.
"""

import os
import random
import signal
import subprocess
import time

import pytest

from tests.chaos.serves import ask, check_bodies, check_ledger, job, lines_of, script
from tests.supervisor.cli.serving import Serve
from tests.supervisor.tree.trees import until

LENGTH_S = float(os.environ.get("SERVE_CHAOS_S", "20"))
PERIODS = {"quick": 1.0, "other": 1.0, "slow": 2.0, "all": 1.0, "none": 2.0, "fails": 3.0, "again": 3.0}
WORKS = {"slow": "sleep 0.8", "fails": "false", "again": "sleep 0.5"}
KEYS = {"all": 'catch_up = "all"', "none": 'catch_up = "none"', "again": 'on_lost = "retry"'}
ATTEMPTS = {**dict.fromkeys(PERIODS, 1), "fails": 2, "again": 3}

SETTINGS = """
[state]
lease = "2s"
[serve]
drain = "2s"
[policies.default]
attempt = { timeout = "10s", grace = "200ms" }
backoff.base = "0s"
breaker = { failures = 1000000, minimum = 1000000 }
budget.session = { capacity = 1000000 }
gate = { overlap = "queue", queue = 100, wait = "30s" }
"""

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120 + 2 * LENGTH_S)]


class Trouble:
    """Two of them, and what is done to them."""

    def __init__(self, serve: Serve, dice: random.Random) -> None:
        self._serve, self._dice = serve, dice
        self.running: list[subprocess.Popen[bytes]] = [serve.start(is_ready=False) for _ in range(2)]
        self._continue_at: dict[int, float] = {}
        self.done = dict.fromkeys(("kill", "stop", "restart", "nothing"), 0)

    def make(self) -> None:
        """Do one thing to one of them, and continue whose time has come."""
        self.go_on(time.monotonic())
        at = self._dice.randrange(2)
        process = self.running[at]
        what = self._dice.choice(["kill", "stop", "stop", "restart", "nothing", "nothing"])
        if process.pid in self._continue_at and what != "kill":
            return
        self.done[what] += 1
        if what == "kill":
            self._continue_at.pop(process.pid, None)
            process.kill()
            process.wait()
            self.running[at] = self._serve.start(is_ready=False)
        elif what == "stop":
            process.send_signal(signal.SIGSTOP)
            self._continue_at[process.pid] = time.monotonic() + self._dice.choice([0.3, 1.5, 3.5])
        elif what == "restart":
            process.send_signal(signal.SIGTERM)
            self.running[at] = self._serve.start(is_ready=False)

    def go_on(self, now: float) -> None:
        for pid, at in tuple(self._continue_at.items()):
            if now >= at:
                del self._continue_at[pid]
                os.kill(pid, signal.SIGCONT)


def test_each_tick_of_each_job_runs_once_whatever_befalls_them(serve: Serve) -> None:
    seed = int(os.environ.get("SERVE_CHAOS_SEED", str(time.time_ns() % 10**6)))
    print(f"SERVE_CHAOS_SEED={seed}")
    log = serve.folder / "bodies"
    jobs = [
        job(name, period_s, script(log, name, WORKS.get(name, "true")), f"budget.attempts = {ATTEMPTS[name]}", *(
            [KEYS[name]] if name in KEYS else []
        ))
        for name, period_s in PERIODS.items()
    ]  # fmt: skip
    serve.settings(*jobs, before=SETTINGS)
    trouble = Trouble(serve, random.Random(seed))
    until(log.exists, "the first has run")
    end = time.monotonic() + LENGTH_S
    while time.monotonic() < end:
        time.sleep(0.3)
        trouble.make()
    trouble.go_on(float("inf"))
    until_when = settle(serve, trouble)
    lines = lines_of(log)
    check_bodies(lines, ATTEMPTS)
    outcomes = check_ledger(serve.state, PERIODS, lines, until_when)
    check_nothing_is_lost_beyond_catch_up(serve)
    print(f"{trouble.done}, {dict(outcomes)}, {len(lines)} lines, {len(serve.log().splitlines())} of log")
    assert outcomes["started"] > LENGTH_S * len(PERIODS) / 4
    assert "Traceback" not in serve.log()
    serve.sweep()


def settle(serve: Serve, trouble: Trouble) -> float:
    """Have every tick up to now end, then end both; return that moment. Later ones may be left to the next serve."""
    wanted = time.time()

    def is_done() -> bool:
        newest = dict(ask(serve.state, "SELECT job, max(tick_wall) FROM ticks GROUP BY job"))
        is_open = ask(serve.state, f"SELECT 1 FROM ticks WHERE outcome IS NULL AND tick_wall < {wanted}")
        return not is_open and all(newest[name] >= wanted - period for name, period in PERIODS.items())

    until(is_done, "every tick has ended", 60.0)
    for process in trouble.running:
        process.send_signal(signal.SIGTERM)
    ends = {process.wait(40) for process in trouble.running}
    assert ends <= {0, -signal.SIGTERM}  # one may have been started just now, and not listen yet
    return wanted


def check_nothing_is_lost_beyond_catch_up(serve: Serve) -> None:
    """No tick of the job that catches up with all of them has expired; of the others, none that nobody had missed."""
    assert ask(serve.state, "SELECT tick_wall FROM ticks WHERE job = 'all' AND outcome <> 'started'") == []
    assert ask(serve.state, "SELECT tick_wall, reason FROM ticks WHERE outcome = 'skipped'") == []
