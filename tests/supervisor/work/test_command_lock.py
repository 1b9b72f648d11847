"""The session's lock file and a command: in the warden's name, or taken by the command itself."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policies.failure import Refusal
from policies.policy import AttemptLimits, Pids, Policy
from supervisor import Command, RunRefused, Supervisor
from supervisor.clock import SystemClock
from supervisor.events import AttemptStarted
from supervisor.lock.session_lock import SystemLockFiles
from supervisor.testing import Recorded
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import python, until
from tests.supervisor.work.commands import (
    ONCE,
    TAKE_LOCK,
    Commands,
    by_command,
    fail,
    gone,
    sh,
    taking_the_lock,
)

pytestmark = pytest.mark.processes

IGNORE_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


async def test_the_lock_is_the_wardens_while_the_tree_lives(commands: Commands) -> None:
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", sh("cat reports.jsonl.lock; echo $PPID"), policy=ONCE, lock="reports.jsonl")
        *lock, parent = report.value.stdout.decode().splitlines()
        assert not commands.lock_file.exists()
    told = json.loads("\n".join(lock))
    assert told["pid"] == int(parent)
    assert told["turnkeeper"]["owner"] == "warden"
    assert any(f"lock {commands.lock_file} released" in step for step in gone(report.attempts[0]).steps)


@pytest.mark.parametrize("policy", [rules(lock_wait_s=0.05), by_command(wait_s=0.05)], ids=["supervisor", "command"])
async def test_a_busy_lock_starts_nothing(commands: Commands, policy: Policy) -> None:
    held = SystemLockFiles(SystemClock()).take_now(commands.transcript, 60.0)
    assert held is not None
    async with Supervisor() as supervisor:
        with pytest.raises(RunRefused) as refused:
            await supervisor.run("s", sh("echo > runs"), policy=policy, lock=commands.transcript)
    assert commands.lock_file.exists()
    held.release()
    assert refused.value.report.reason == Refusal.BUSY
    assert f"{commands.lock_file} is held by Turnkeeper's process {os.getpid()}" in refused.value.report.detail
    assert not (commands.folder / "runs").exists()


async def test_a_lock_that_gets_free_is_waited_for_without_anything_started(commands: Commands) -> None:
    held = SystemLockFiles(SystemClock()).take_now(commands.transcript, 60.0)
    assert held is not None
    recorded = Recorded()
    seen: list[list[str]] = []

    def free(event: object) -> None:
        if type(event).__name__ == "LockWaiting":
            seen.append(commands.processes())
            held.release()

    async with Supervisor() as supervisor:
        supervisor.on(recorded)
        supervisor.on(free)
        await supervisor.run("s", sh("true"), policy=ONCE, lock=commands.transcript)
    assert seen == [[]]
    assert [type(event).__name__ for event in recorded.events][:3] == ["LockWaiting", "LockTaken", "AttemptStarted"]


async def test_a_lock_that_the_command_took_and_left_is_reclaimed_with_its_tree(commands: Commands) -> None:
    attempt = await fail(taking_the_lock(commands.transcript, "sys.exit(1)"), by_command(), commands.transcript)
    assert gone(attempt).lock_reclaimed
    assert not commands.lock_file.exists()


async def test_so_is_one_of_a_command_that_was_gone_before_we_heard_of_it(commands: Commands) -> None:
    script = 'set -- $(cat /proc/$$/stat); shift 21; printf \'{"pid": %d, "starttime": %d}\' $$ $1 > reports.jsonl.lock'

    def be_busy() -> None:
        until(lambda: commands.lock_file.exists() and len(commands.processes()) == 1, "only the warden is left")

    def be_busy_soon(event: object) -> None:
        if isinstance(event, AttemptStarted):
            asyncio.get_running_loop().call_soon(be_busy)  # once the warden was told to go

    async with Supervisor() as supervisor:
        supervisor.on(be_busy_soon)
        report = await supervisor.run_report("s", sh(script), policy=by_command(), lock=commands.transcript)
    assert gone(report.attempts[0]).lock_reclaimed


async def test_so_is_one_of_a_process_below_the_command_that_is_stopped(commands: Commands) -> None:
    child = f"{TAKE_LOCK}\n{IGNORE_TERM}\ntake('reports.jsonl')\nopen('runs', 'w').close()\nimport time; time.sleep(60)"
    (commands.folder / "child.py").write_text(f"import os\n{child}")
    command = sh(f"{sys.executable} -I -S child.py & while [ ! -e runs ]; do sleep 0.02; done; exit 1")
    attempt = await fail(command, by_command(), commands.transcript)
    assert gone(attempt).lock_reclaimed
    assert not commands.lock_file.exists()


@pytest.mark.parametrize("grace_s", [0.1, 0.0])
async def test_so_is_one_of_a_command_that_timed_out(commands: Commands, grace_s: float) -> None:
    policy = replace(by_command(), attempt=AttemptLimits(timeout_s=1.0, grace_s=grace_s))
    command = taking_the_lock(commands.transcript, f"{IGNORE_TERM}\nimport time; time.sleep(60)")
    attempt = await fail(command, policy, commands.transcript)
    assert gone(attempt).lock_reclaimed
    assert not commands.lock_file.exists()


async def test_a_retry_does_not_wait_for_the_lock_that_its_own_attempt_left(commands: Commands) -> None:
    command = taking_the_lock(commands.transcript, "sys.exit(os.environ['TURNKEEPER_ATTEMPT'] == '1')")
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", command, policy=by_command(attempts=2), lock=commands.transcript)
    assert [gone(attempt).lock_reclaimed for attempt in report.attempts] == [True, True]
    assert not commands.lock_file.exists()


async def test_a_lock_that_the_command_gave_back_itself_is_not_reclaimed(commands: Commands) -> None:
    command = taking_the_lock(commands.transcript, "os.unlink('reports.jsonl.lock')")
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", command, policy=by_command(), lock=commands.transcript)
    assert not gone(report.attempts[0]).lock_reclaimed


@pytest.mark.parametrize("is_alive", [True, False])
async def test_a_strangers_lock_that_came_meanwhile_stays(commands: Commands, *, is_alive: bool) -> None:
    # One that is dead is so here: in another container, for all we know, it is not.
    stranger = {"pid": os.getpid(), "starttime": starttime(os.getpid()) if is_alive else 1}
    command = python("open('reports.jsonl.lock', 'w').write(sys.argv[1]); sys.exit(1)", json.dumps(stranger))
    attempt = await fail(Command(command), by_command(), commands.transcript)
    assert not gone(attempt).lock_reclaimed
    assert json.loads(commands.lock_file.read_text()) == stranger
    commands.lock_file.unlink()


def starttime(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


async def test_a_lock_left_by_the_dead_is_reclaimed_before_the_start(commands: Commands) -> None:
    commands.lock_file.write_text(json.dumps({"pid": os.getpid(), "starttime": 1}))  # somebody had our pid before us
    command = taking_the_lock(commands.transcript)
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", command, policy=by_command(pids=Pids.OURS), lock=commands.transcript)
    assert gone(report.attempts[0]).lock_reclaimed


async def test_so_is_one_of_a_process_below_the_command_that_has_died_before(commands: Commands) -> None:
    child = f"{TAKE_LOCK}\ntake('reports.jsonl')\nimport time; time.sleep(1)"
    (commands.folder / "child.py").write_text(f"import os\n{child}")
    command = sh(f"{sys.executable} -I -S child.py; exit 1")
    attempt = await fail(command, by_command(), commands.transcript)
    assert gone(attempt).lock_reclaimed
    assert not commands.lock_file.exists()
