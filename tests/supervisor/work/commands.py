"""Commands of the library, in tests: where they run, the policies that they are under, and a stand-in for OpenClaw."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from policies.classification import Rule
from policies.policy import LockedBy, LockRule, Pids, Policy
from supervisor import AttemptReport, Gone, RunFailed, Supervisor, Unknown
from supervisor.work.command import Command
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import MARK, children, marked, python, until

ONCE = rules(attempts=1)
"""One attempt, of 10 s at most; 2 s of grace."""


class Commands:
    """What the commands of one test share: a folder, their life files, and a mark that each process has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive = folder / "state" / "turnkeeper" / "alive"
        self.transcript = folder / "reports.jsonl"
        self.lock_file = folder / "reports.jsonl.lock"
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"

    def processes(self) -> list[str]:
        return marked(self.mark)

    def kill_what_is_left(self) -> None:
        for line in self.processes():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        until(lambda: not self.processes(), "what was killed ends")

    def remove_what_is_unknown(self) -> None:
        """Do what an operator does after a warden was killed."""
        self.kill_what_is_left()
        self.lock_file.unlink(missing_ok=True)
        for life in self.alive.iterdir():
            life.unlink()

    def assert_nothing_is_left(self) -> None:
        left = self.processes()
        self.kill_what_is_left()
        assert left == []
        assert children() == []
        assert not self.lock_file.exists()
        assert not self.alive.exists() or os.listdir(self.alive) == []


@contextmanager
def commands_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Give a test its commands; at its end nothing of them is left."""
    commands = Commands(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv(MARK, commands.mark)
    monkeypatch.chdir(folder)
    yield commands
    commands.assert_nothing_is_left()


def sh(script: str) -> Command:
    """Return a command that is a line of shell."""
    return Command(["sh", "-c", script])


async def fail(command: Command, policy: Policy = ONCE, lock: Path | None = None) -> AttemptReport:
    """Run a command that fails; return how its last attempt ended."""
    async with Supervisor() as supervisor:
        with pytest.raises(RunFailed) as failed:
            await supervisor.run("s", command, policy=policy, lock=lock)
    return failed.value.report.attempts[-1]


def gone(attempt: AttemptReport) -> Gone:
    assert isinstance(attempt.released, Gone)
    return attempt.released


def unknown(attempt: AttemptReport) -> Unknown:
    assert isinstance(attempt.released, Unknown)
    return attempt.released


def by_command(*, wait_s: float = 5.0, pids: Pids = Pids.UNKNOWN, attempts: int = 1) -> Policy:
    """Return a policy for a command that takes the lock itself."""
    policy = rules(attempts=attempts, backoff_s=0.0)
    return replace(policy, lock=LockRule(wait_s=wait_s, by=LockedBy.COMMAND, pids=pids))


def classified(*failures: Rule) -> Policy:
    """Return a policy with rules of what a failure is."""
    return replace(ONCE, failures=failures)


TAKE_LOCK = """
import json
from pathlib import Path
def take(path):
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    lock = {"pid": os.getpid(), "createdAt": "2026-05-22T00:00:00.000Z", "maxHoldMs": 60000, "starttime": int(stat[19])}
    with open(path + ".lock", "x") as file:
        file.write(json.dumps(lock, indent=2) + chr(10))
"""


def taking_the_lock(path: Path, then: str = "") -> Command:
    """Return a command that takes the lock as OpenClaw does, and leaves it."""
    return Command(python(f"{TAKE_LOCK}\ntake({str(path)!r})\n{then}"))
