"""How late jobs are started, and what `turnkeeper serve` costs while it has much, and nothing, to do.

python tests/benchmarks/bench_dispatch.py [--smoke] [--json]

Lateness is that of the dispatcher alone, on a real state, with work of this process: from when a job may start until
its work runs. It may once it is due, and a period after the start that the start-rate limit counts it after. Memory and
processor are those of a real `serve`, its wardens aside.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from policies.policy import Policy
from policies.schedule import At
from supervisor import Attempt, Supervisor
from supervisor.clock import SystemClock
from supervisor.dispatch.dispatcher import Dispatcher
from supervisor.settings.values import Job, Limits, Settings, State
from supervisor.store.of_settings import durable_store
from tests.benchmarks.measuring import Row, options, row, show

REPOSITORY: Final = Path(__file__).parents[2]
A_SECOND: Final = 20
"""So many starts a second are allowed where all jobs are due at once: a thousand of them within a minute."""
LONGEST_S: Final = 120.0


async def lateness_s(folder: Path, due_s: list[float], limits: Limits) -> list[float]:
    """Return how late each of the jobs' works began, sorted; they are due at `due_s`, seconds after a first moment."""
    clock = SystemClock()
    began: list[tuple[float, int]] = []
    all_ran = asyncio.Event()

    def work_of(job: Job) -> Callable[[Attempt], object]:
        async def work(_: Attempt) -> None:
            began.append((clock.wall(), int(job.name)))
            if len(began) == len(due_s):
                all_ran.set()

        return work

    state = State(f"sqlite://{folder}/state.db")
    store = durable_store(state)
    async with Supervisor(Settings(state=state, limits=limits), store=store, clock=clock) as supervisor:
        dispatcher = Dispatcher(supervisor, store, clock, work_of)
        first = clock.wall() + 2.0
        policy, schedules = Policy(), [At(first + due) for due in due_s]
        jobs = [Job(str(n), each, str(each), f"job:{n}", policy, ("true",)) for n, each in enumerate(schedules)]
        await dispatcher.set_jobs(jobs)
        running = asyncio.ensure_future(dispatcher.run())
        async with asyncio.timeout(LONGEST_S):
            await all_ran.wait()
        await dispatcher.drain(5.0)
        await running
    began.sort()
    count, period_s = limits.starts or (len(began), 0.0)
    limited = [0.0] * count + [wall + period_s for wall, _ in began]
    return sorted(wall - max(first + due_s[n], least) for (wall, n), least in zip(began, limited, strict=False))


def lateness_rows(*, smoke: bool) -> list[Row]:
    number, within_s = (100, 6.0) if smoke else (1000, 60.0)
    spread = [place * within_s / number for place in range(number)]
    limited = Limits(starts=(A_SECOND, 1.0))
    rows = []
    for what, due_s, limits in (
        (f"{number:,} jobs due within {within_s:g} s: lateness, p99", spread, Limits()),
        (f"{number:,} due at once, {A_SECOND} starts a second: beyond the limit, p99", [0.0] * number, limited),
        (f"{number:,} due at once, no limit: until the last of them runs", [0.0] * number, Limits()),
    ):
        with tempfile.TemporaryDirectory() as folder:
            late_s = asyncio.run(lateness_s(Path(folder), due_s, limits))
        if what.endswith("p99"):
            rows.append(row(what, late_s[int(0.99 * (number - 1))] * 1e3, "ms", least=100.0))
        else:
            rows.append(row(what, late_s[-1], "s"))
    return rows


@contextmanager
def serving(folder: Path, jobs: Iterator[str]) -> Iterator[int]:
    """Run `turnkeeper serve` on these jobs, and give its pid once it serves them."""
    (folder / "settings.toml").write_text("serve.drain = '0s'\npolicies.default.attempt.grace = '1s'\n" + "".join(jobs))
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(folder / "state")}
    command = [sys.executable, "-m", "supervisor.cli.main", "serve"]
    log = folder / "log"
    with log.open("wb") as to, subprocess.Popen(command, cwd=folder, env=environ, stderr=to) as process:
        try:
            wait(lambda: "serving" in log.read_text())
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LONGEST_S)


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.05)


def job(name: str, keys: str, command: str = "['true']") -> str:
    return f"[[jobs]]\nname = '{name}'\n{keys}\ncommand = {command}\n"


def idle(number: int) -> Iterator[str]:
    """Jobs that are due once a year, each at another minute."""
    for each in range(number):
        yield job(f"idle {each}", f"cron = '{each % 60} {each // 60 % 24} 1 {each % 12 + 1} *'\ntz = 'Europe/Berlin'")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_row(*, smoke: bool) -> Row:
    number, busy = (100, 5) if smoke else (1000, 100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ran").mkdir()
        sleeps = "['sh', '-c', ': > ran/$$; exec sleep 600']"
        jobs = (job(f"busy {each}", "every = '1h'\nanchor = {}", sleeps) for each in range(busy))
        anchor = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 8.0))
        texts = [*(text.format(f"'{anchor}'") for text in jobs), *idle(number - busy)]
        with serving(folder, iter(texts)) as pid:
            wait(lambda: len(os.listdir(folder / "ran")) == busy)
            time.sleep(2.0)
            resident = resident_mb(pid)
    return row(f"resident memory, {number:,} jobs, {busy} attempts in progress", resident, "MB", least=120.0)


def idle_row(*, smoke: bool) -> Row:
    number, length_s = (100, 2.0) if smoke else (1000, 60.0)
    with tempfile.TemporaryDirectory() as name, serving(Path(name), idle(number)) as pid:
        time.sleep(3.0)
        before, start = processor_s(pid), time.monotonic()
        time.sleep(length_s)
        share = (processor_s(pid) - before) / (time.monotonic() - start)
    return row(f"{number:,} idle jobs: the share of a core", share * 100, "%", least=0.5)


def main() -> None:
    asked = options(__doc__)
    rows = [*lateness_rows(smoke=asked.smoke), memory_row(smoke=asked.smoke), idle_row(smoke=asked.smoke)]
    show(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
