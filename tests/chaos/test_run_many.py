"""Commands from the library: a host that forks, and one that runs thousands."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import AttemptReport, Command, Gone, Outcome, Supervisor
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import children, descriptors, until
from tests.supervisor.work.commands import Commands, commands_in

HERE = Path(__file__).parent
RUNS = int(os.environ.get("COMMAND_RUNS", "200"))  # 10000 before a release

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(60 + RUNS // 10)]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    with commands_in(tmp_path, monkeypatch) as commands:
        yield commands


def test_workers_of_a_fork_pool_keep_nothing_of_a_killed_host(commands: Commands) -> None:
    command = ["sh", "-c", "trap '' TERM; sleep 60 & echo > runs; wait; sleep 60"]
    host = subprocess.Popen(
        [sys.executable, str(HERE / "run_host.py"), str(commands.folder), *command],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
    )
    assert host.stdout is not None
    assert host.stdout.readline() == b"ready\n"
    workers = set((commands.folder / "workers").read_text().split())
    host.kill()
    host.wait()
    host.stdout.close()
    until(
        lambda: {line.split()[0] for line in commands.processes()} == workers, "the tree is gone, the workers are not"
    )
    assert not commands.lock_file.exists()
    assert os.listdir(commands.alive) == []
    commands.kill_what_is_left()


async def test_many_runs_leave_nothing(commands: Commands) -> None:
    policy = rules(attempts=1, timeout_s=0.05, grace_s=0.2)
    scripts = ["true", "exit 3", "sleep 60 & exit 0", "sleep 60 & trap '' TERM; sleep 60", "kill -9 $$"]
    ends: dict[str, set[Outcome]] = {script: set() for script in scripts}
    unproved: list[tuple[str, AttemptReport]] = []

    async def run_some(supervisor: Supervisor, session: str) -> None:
        for number in range(RUNS // 4):
            script = scripts[number % len(scripts)]
            report = await supervisor.run_report(
                session, Command(["sh", "-c", script]), policy=policy, lock=commands.folder / session
            )
            [attempt] = report.attempts
            ends[script].add(attempt.outcome)
            if not isinstance(attempt.released, Gone):
                unproved.append((script, attempt))

    async with Supervisor() as supervisor:
        await supervisor.run("s", Command(["true"]), policy=rules())  # what is opened once is open
        before = len(descriptors())
        await asyncio.gather(*(run_some(supervisor, f"s{number}") for number in range(4)))
        assert len(descriptors()) == before
        assert children() == []
        assert os.listdir(commands.alive) == []
    assert unproved == []
    assert ends["kill -9 $$"] == ends["exit 3"] == {Outcome.FAILED}
    assert [name for name in os.listdir(commands.folder) if name.endswith(".lock")] == []
