"""Commands as work: what they come to, what they are given, and what is left of them."""

import asyncio
import os
import re
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from policies.classification import Rule
from policies.failure import Kind
from supervisor import Command, CommandResult, Outcome, RunFailed, Status, Supervisor
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import until
from tests.supervisor.work.commands import ONCE, Commands, classified, fail, gone, sh

pytestmark = pytest.mark.processes


async def succeed(command: Command, **how: Any) -> CommandResult:
    """Run a command that succeeds."""
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", command, **{"policy": ONCE, **how})
    return cast("CommandResult", report.value)


async def test_a_success_has_the_commands_output_for_a_value(commands: Commands) -> None:
    result = await succeed(sh(r"printf 'out\377\n'; sleep 0.05; echo err >&2; sleep 0.05; echo out again"))
    assert result == CommandResult(0, b"out\xff\nout again\n", "out\ufffd\nerr\nout again\n")


async def test_of_much_output_the_end_is_kept(commands: Commands) -> None:
    result = await succeed(sh("head -c 3000000 /dev/zero; printf end"))
    assert (len(result.stdout), result.stdout[-5:]) == (1024 * 1024, b"\0\0end")
    assert (len(result.output), result.output[-5:]) == (64 * 1024, "\0\0end")


async def test_a_command_has_the_environment_folder_and_input_that_it_was_given(commands: Commands) -> None:
    (commands.folder / "below").mkdir()
    env = {"PATH": os.environ["PATH"], "MINE": "ключ"}
    command = Command(["sh", "-c", "pwd; cat; env | grep -v ^TURNKEEPER_"], env=env, cwd="below", stdin=b"given\n")
    first, second, *variables = (await succeed(command)).stdout.decode().splitlines()
    assert (first, second) == (str(commands.folder / "below"), "given")
    assert "MINE=ключ" in variables
    assert {variable.partition("=")[0] for variable in variables} <= {"PATH", "MINE", "PWD", "OLDPWD", "_", "SHLVL"}


async def test_each_attempt_reads_the_same_input_from_its_start(commands: Commands) -> None:
    command = Command(["sh", "-c", "cat; [ $TURNKEEPER_ATTEMPT = 2 ]"], stdin=b"x" * 300_000)
    assert (await succeed(command, policy=rules(backoff_s=0.0))).stdout == b"x" * 300_000


async def test_a_command_without_a_limit_is_told_no_deadline_not_even_an_old_one(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEEPER_DEADLINE", "2020-01-01T00:00:00.000Z")
    tell = sh("echo ${TURNKEEPER_DEADLINE-none}")
    assert (await succeed(tell, policy=rules(timeout_s=None, deadline_s=None))).stdout == b"none\n"
    told = (await succeed(tell, policy=rules(timeout_s=20.0))).stdout.decode().strip()
    assert 0 < (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds() <= 20.0


async def test_a_failure_has_exit_code_and_the_end_of_the_output(commands: Commands) -> None:
    attempt = await fail(sh("head -c 9000 /dev/zero | tr '\\0' a; echo; echo last words >&2; exit 3"))
    failed = attempt.failure
    assert failed is not None
    assert (failed.kind, failed.message, failed.exit_code, failed.signal) == (
        Kind.ERROR,
        "sh exited with status 3",
        3,
        None,
    )
    assert len(failed.output_tail) == 4096
    assert failed.output_tail.endswith("a\nlast words\n")


async def test_a_failure_has_the_signal_that_the_command_died_by(commands: Commands) -> None:
    failed = (await fail(sh("kill -USR1 $$"))).failure
    assert failed is not None
    assert (failed.kind, failed.message, failed.exit_code) == (Kind.CRASH, "sh died by SIGUSR1", None)
    assert failed.signal == signal.SIGUSR1


@pytest.mark.parametrize("how", [{"cwd": "missing"}, {"cwd": "plain"}])
async def test_a_bad_folder_is_an_invalid_command(commands: Commands, how: dict[str, Any]) -> None:
    (commands.folder / "plain").touch()
    failed = (await fail(Command(["true"], **how), rules())).failure
    assert failed is not None
    assert (failed.kind, failed.exit_code) == (Kind.INVALID, 126)
    assert failed.message.startswith(f"true cannot be started in {how['cwd']!r}: ")


async def test_an_argument_that_no_system_takes_is_an_invalid_command(commands: Commands) -> None:
    failed = (await fail(Command(["true", "x" * 200_000]), rules())).failure
    assert failed is not None
    assert (failed.kind, failed.exit_code) == (Kind.INVALID, 126)
    assert failed.message == "true: cannot be executed: Argument list too long"


def test_what_is_no_command_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="a list of arguments, not one text"):
        Command("echo hello")
    for argv in ([], [""]):
        with pytest.raises(ValueError, match="needs a program to run"):
            Command(argv)


async def test_output_counts_as_a_sign_of_life(commands: Commands) -> None:
    policy = rules(attempts=1, idle_s=1.0)
    attempt = await fail(
        sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.1; echo $i >&2; done; exec sleep 60"), policy
    )
    failed = attempt.failure
    assert failed is not None
    assert failed.kind is Kind.IDLE
    assert re.match(r"no output for 1 s, after [\d.]+ s", failed.message)
    assert failed.output_tail == "".join(f"{line}\n" for line in range(1, 13))
    assert gone(attempt).processes_killed == 1


async def test_memory_is_that_of_the_whole_tree(commands: Commands) -> None:
    one = f"{sys.executable} -I -S -c 'import time; held = bytearray(40_000_000); time.sleep(60)'"
    limits = replace(ONCE.attempt, max_rss_bytes=64 * 1024 * 1024)
    attempt = await fail(sh(f"{one} & {one} & wait"), replace(ONCE, attempt=limits))
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.MEMORY
    assert re.fullmatch(r"\d+ MiB held at once, 64 MiB allowed \(max_rss\)", attempt.failure.message)
    assert gone(attempt).processes_killed == 3


@pytest.mark.parametrize("status", [0, 1])
async def test_children_may_stay_after_a_success_and_only_then(commands: Commands, status: int) -> None:
    policy = replace(ONCE, attempt=replace(ONCE.attempt, leave_children=True))
    command = sh(f"sleep 60 >/dev/null 2>&1 & echo $!; exit {status}")
    if status:
        assert gone(await fail(command, policy)).processes_killed == 1
        return
    async with Supervisor() as supervisor:
        report = await supervisor.run("s", command, policy=policy, lock=commands.transcript)
        result = cast("CommandResult", report.value)
    [left] = commands.processes()
    assert left.split()[1:] == ["sleep", "60"]
    named = f"process {result.stdout.decode().strip()} (sleep)"
    assert result.left == (named,)
    assert any(f"left alive, as it may be: {named}" in step for step in gone(report.attempts[0]).steps)
    assert not commands.lock_file.exists()
    commands.kill_what_is_left()


async def test_what_a_success_left_is_given_the_grace_and_is_no_timeout(commands: Commands) -> None:
    policy = replace(ONCE, attempt=replace(ONCE.attempt, timeout_s=1.0, grace_s=1.2))
    async with Supervisor() as supervisor:
        report = await supervisor.run(
            "s", sh("(trap '' TERM; exec sleep 60 >/dev/null 2>&1) & sleep 0.1"), policy=policy
        )
    assert gone(report.attempts[0]).processes_killed == 1


@pytest.mark.parametrize(("script", "ends"), [("true", "succeeded"), ("exit 3", "failed"), ("exec sleep 60", "failed")])
async def test_without_any_grace_it_is_proved_gone_all_the_same(commands: Commands, script: str, ends: str) -> None:
    policy = replace(ONCE, attempt=replace(ONCE.attempt, timeout_s=0.5, grace_s=0.0))
    async with Supervisor() as supervisor:
        report = await supervisor.run_report("s", sh(script), policy=policy)
    assert report.status == ends
    assert gone(report.attempts[0]).processes_killed == script.count("sleep")


async def test_a_rule_may_call_status_0_a_failure(commands: Commands) -> None:
    policy = classified(Rule(Kind.OVERLOADED, exit_code=0, output=re.compile("(?i)try later")))
    assert (await succeed(sh("echo fine"), policy=policy)).exit_code == 0
    failed = (await fail(sh("echo Try later"), policy)).failure
    assert failed is not None
    assert (failed.kind, failed.exit_code) == (Kind.OVERLOADED, 0)
    assert failed.message == "sh exited with status 0, and a rule says that it failed"


async def test_a_pattern_is_searched_in_the_output_of_what_failed(commands: Commands) -> None:
    policy = classified(Rule(Kind.RATE_LIMITED, output=re.compile("(?i)rate limit")))
    command = "echo 'Rate limit exceeded' >&2; head -c 60000 /dev/zero"
    assert (await succeed(sh(command), policy=policy)).exit_code == 0  # it may write of rate limits
    failed = (await fail(sh(f"{command}; exit 1"), policy)).failure
    assert failed is not None
    assert failed.kind is Kind.RATE_LIMITED


async def test_one_command_may_be_run_twice_at_once(commands: Commands) -> None:
    command = Command(["sh", "-c", "sleep 0.1; cat; echo $TURNKEEPER_SESSION"], stdin=b"given\n")
    async with Supervisor() as supervisor:
        reports = await asyncio.gather(*(supervisor.run(key, command, policy=ONCE) for key in ("a", "b", "c")))
    assert [report.value.stdout for report in reports] == [b"given\na\n", b"given\nb\n", b"given\nc\n"]


async def test_the_caller_is_cancelled_once_the_tree_is_gone(commands: Commands) -> None:
    async with Supervisor() as supervisor:
        run = asyncio.ensure_future(supervisor.run("s", sh("sleep 60 & echo > runs; wait"), lock=commands.transcript))
        while not (commands.folder / "runs").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert commands.processes() == []
        assert not commands.lock_file.exists()


async def test_leaving_the_supervisor_ends_what_runs(commands: Commands) -> None:
    async with Supervisor() as supervisor:
        run = asyncio.ensure_future(supervisor.run("s", sh("echo > runs; sleep 60"), policy=ONCE))
        while not (commands.folder / "runs").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    with pytest.raises(RunFailed) as failed:
        await run
    assert (failed.value.report.status, failed.value.report.reason) == (Status.CANCELLED, "closed")
    assert failed.value.report.attempts[0].outcome is Outcome.CANCELLED
    until(lambda: commands.processes() == [], "nothing lives")


async def test_its_result_tells_that_stdout_was_cut(commands: Commands) -> None:
    async with Supervisor() as supervisor:
        whole = await supervisor.run("a", Command(["seq", "1000"]), policy=ONCE)
        cut = await supervisor.run("a", Command(["seq", "300000"]), policy=ONCE)
    assert not whole.value.stdout_is_cut
    assert cut.value.stdout_is_cut
    assert cut.value.stdout.endswith(b"300000\n")


def test_an_environment_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a command's environment is text: got 'A': int"):
        Command(["true"], env={"A": 1})  # type: ignore[dict-item]
