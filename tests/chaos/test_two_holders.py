"""Two holders never: eight processes take turns on five sessions, are killed, stopped and continued at random.

What the work itself has written is read by a checker of its own. HOLDER_TURNS=200 is so many attempts a process.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor import Attempt, Supervisor
from supervisor.store.sqlite.store import SqliteStore
from tests.chaos.holders_host import ATTEMPTS, LEASE_S, SESSIONS
from tests.chaos.hosts import Hosts, hosts_of
from tests.chaos.state_files import rows
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import marked, until

PROCESSES = 8
TURNS = int(os.environ.get("HOLDER_TURNS", "15"))

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120 + PROCESSES * TURNS)]


class Trouble:
    """Kills, stops and continues them at random, some with the wardens below; a killed one is followed by another."""

    def __init__(self, hosts: Hosts, folder: Path, dice: random.Random) -> None:
        self._hosts, self._folder, self._dice = hosts, folder, dice
        self._seeds = iter(range(10**6))
        self.running = [self._start() for _ in range(PROCESSES)]
        self.stopped: dict[int, float] = {}
        self.killed = self.frozen = 0

    def _start(self) -> int:
        return self._hosts.start(folder=self._folder, seed=next(self._seeds))

    def make(self) -> None:
        """Do one thing to one of them, and continue whose time has come."""
        self.go_on(time.monotonic())
        pid = self._dice.choice(self.running)
        match self._dice.choice(["kill", "stop", "stop", "stop", "nothing"]):
            case "kill":
                os.kill(pid, signal.SIGKILL)
                self._hosts.wait(pid)
                self.stopped.pop(pid, None)
                self.running[self.running.index(pid)] = self._start()
                self.killed += 1
            case "stop" if pid not in self.stopped:
                os.kill(pid, signal.SIGSTOP)
                length_s = self._dice.choice([0.05, LEASE_S, 1.5 * LEASE_S]) + 0.3 * self._dice.random()
                self.stopped[pid] = time.monotonic() + length_s
                self.frozen += 1
                if self._dice.random() < 0.3:  # then its trees cannot be stopped, and nobody may follow them
                    self._stop_wardens(pid)

    def _stop_wardens(self, pid: int) -> None:
        """Stop those of a process that stands still: one that has ended is not waited for, its pid is its own."""
        for warden in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            os.kill(warden, signal.SIGSTOP)
            self.stopped[warden] = self.stopped[pid] + self._dice.choice([-0.2, 0.5])

    def go_on(self, now: float) -> None:
        for pid, until_when in tuple(self.stopped.items()):
            if now >= until_when:
                del self.stopped[pid]
                with suppress(ProcessLookupError):  # a warden that was killed as it stood still
                    os.kill(pid, signal.SIGCONT)

    def end(self) -> list[int]:
        """Let all of them come to their end; return their exit statuses."""
        (self._folder / "stop").touch()
        self.go_on(float("inf"))
        return [self._hosts.wait(pid) for pid in self.running]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_of("holders_host", tmp_path) as hosts:
        yield hosts


async def test_no_two_hold_a_session_at_once(hosts: Hosts, tmp_path: Path) -> None:
    seed = int(os.environ.get("HOLDER_SEED", str(time.time_ns() % 10**6)))
    print(f"HOLDER_SEED={seed}")
    trouble = Trouble(hosts, tmp_path, random.Random(seed))
    log, began = tmp_path / "log", time.monotonic()
    while not log.exists() or log.read_text().count("start ") < PROCESSES * TURNS:
        await asyncio.sleep(0.1)
        trouble.make()
    took_s = time.monotonic() - began
    assert trouble.end() == [0] * PROCESSES
    print(f"over after {time.monotonic() - began - took_s:.1f} s")
    until(lambda: len(marked(hosts.mark)) == 1, "nothing lives")
    lines = log.read_text().splitlines()
    assert overlaps(lines) == []
    await assert_all_is_free(tmp_path)
    print(f"{lines_of(lines, 'start')} turns in {took_s:.1f} s, {trouble.killed} killed, {trouble.frozen} stopped")
    assert (tmp_path / "stderr").read_text().count("Traceback") == 0
    check_rows(tmp_path / "state.db", lines)


def overlaps(lines: list[str]) -> list[str]:
    """Return what was written on a session by one that had been followed already."""
    holder: dict[str, int] = {}
    found = []
    for line in lines:
        word, session, fence_text = line.split()
        fence = int(fence_text)
        if word == "start":
            if fence <= holder.get(session, 0):
                found.append(f"{line}: started after {holder[session]}")
            holder[session] = fence
        elif holder[session] != fence:
            found.append(f"{line}: within {holder[session]}")
    return found


def lines_of(lines: list[str], word: str) -> int:
    return sum(line.startswith(word) for line in lines)


async def assert_all_is_free(folder: Path) -> None:
    async def work(attempt: Attempt) -> None:
        pass

    async with Supervisor(store=SqliteStore(folder / "state.db", LEASE_S)) as supervisor:
        for session in SESSIONS:  # also one that was quarantined, until a warden that stood still had its last word
            await supervisor.run(session, work, policy=rules(attempts=1))


def check_rows(state: Path, lines: list[str]) -> None:
    assert rows(state, "PRAGMA integrity_check") == [("ok",)]
    assert rows(state, "SELECT id FROM runs WHERE state <> 'ended' OR status IS NULL") == []
    assert rows(state, "SELECT fence FROM attempts WHERE outcome IS NULL") == []
    assert rows(state, "SELECT * FROM quarantines") == []
    assert rows(state, f"SELECT run FROM attempts GROUP BY run HAVING count(*) > {ATTEMPTS}") == []
    fences = {str(fence) for (fence,) in rows(state, "SELECT fence FROM attempts")}
    assert {line.split()[2] for line in lines} <= fences
    print(rows(state, "SELECT outcome, kind, count(*) FROM attempts GROUP BY outcome, kind"))
