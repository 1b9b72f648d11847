"""A command's streams through a whole run, and through `turnkeeper run`."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from policies.backoff import Backoff
from policies.budget import Budget
from policies.classification import Rule
from policies.failure import Kind
from policies.policy import AttemptLimits, Policy
from supervisor import Command, CommandResult, RunFailed, Supervisor
from supervisor.work.spool import MOST_SPOOLED
from supervisor.work.streams import MOST_CAPTURED
from tests.supervisor.tree.trees import descriptors
from tests.supervisor.work.streaming import (
    closed_after,
    flags,
    pattern,
    piped,
)

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]

TOP = Path(__file__).parents[3]
TWICE = Policy(
    "twice",
    attempt=AttemptLimits(timeout_s=30.0, grace_s=1.0),
    budget=Budget(attempts=2),
    backoff=Backoff(base_s=0.0),
)


async def run(command: Command, policy: Policy = TWICE) -> CommandResult:
    async with Supervisor() as supervisor:
        report = await supervisor.run("streams", command, policy=policy)
        value: CommandResult = report.value
        return value


def fails_once(folder: Path, first: str, then: str) -> list[str]:
    """Return a command that does one thing and fails, and the next time another."""
    return ["sh", "-c", f"if mkdir {folder}/tried 2>/dev/null; then {first}; exit 1; fi; {then}"]


@pytest.mark.parametrize("kind", ["bytes", "pipe", "file", "socket"])
async def test_a_retry_reads_all_of_a_stdin_of_which_the_first_attempt_read_half(kind: str, tmp_path: Path) -> None:
    content = pattern(60_000 if kind == "socket" else 500_000)
    command = fails_once(tmp_path, f"head -c {len(content) // 2} | wc -c >&2", "cat")
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with given_as(kind, content, tmp_path) as given, closed_after(out):
        await run(Command(command, stdin=given, stdout=out))
    assert (tmp_path / "out").read_bytes() == content


@contextmanager
def given_as(kind: str, content: bytes, folder: Path) -> Iterator[int | bytes]:
    match kind:
        case "bytes":
            yield content
        case "pipe":
            with piped(content) as ours:
                yield ours
        case "file":
            (folder / "in").write_bytes(b"skipped" + content)
            with (folder / "in").open("rb", buffering=0) as file:
                file.seek(7)
                yield file.fileno()
        case _:
            one, other = socket.socketpair()
            with one, other:
                one.sendall(content)
                one.shutdown(socket.SHUT_WR)
                yield other.fileno()


async def test_a_stdin_that_was_too_long_to_be_kept_is_not_tried_again(tmp_path: Path) -> None:
    with piped(bytes(1 << 20), (MOST_SPOOLED >> 20) + 1) as ours:
        with pytest.raises(RunFailed) as raised:
            await run(Command(["sh", "-c", "cat >/dev/null; exit 3"], stdin=ours))
    report = raised.value.report
    assert (report.reason, len(report.attempts)) == ("stdin_consumed", 1)


async def test_two_runs_of_one_command_read_the_same_bytes_at_the_same_time(tmp_path: Path) -> None:
    content = pattern(400_000)
    (tmp_path / "met").touch()
    meet = f"echo >>{tmp_path}/met; while [ $(wc -l <{tmp_path}/met) -lt 2 ]; do sleep 0.01; done; exec cat"
    command = Command(["sh", "-c", meet], stdin=content)
    async with Supervisor() as supervisor:
        reports = await asyncio.gather(*(supervisor.run(key, command, policy=TWICE) for key in ("a", "b")))
    for report in reports:
        result: CommandResult = report.value
        assert result.stdout == content


async def test_a_run_that_is_over_has_nothing_of_its_stdin_left(tmp_path: Path) -> None:
    before = len(descriptors())
    async with Supervisor() as supervisor:
        with piped(pattern(900_000)) as ours:
            command = Command(fails_once(tmp_path, "cat >/dev/null", "wc -c"), stdin=ours)
            for number in range(3):
                result: CommandResult = (await supervisor.run(f"s{number}", command, policy=TWICE)).value
                assert result.stdout.strip() == (b"900000" if number == 0 else b"0")
        assert command._inputs == {}
        assert len(descriptors()) - before <= 3  # the loop's own


async def test_a_full_disk_is_named_in_the_failure(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with closed_after(full):
        with pytest.raises(RunFailed) as raised:
            await run(Command(["yes"], stdout=full), TWICE)
    failure = raised.value.report.attempts[0].failure
    assert failure is not None
    assert failure.message == "yes died by SIGPIPE; stdout cannot be written: No space left on device"
    assert failure.signal == signal.SIGPIPE


async def test_a_slow_reader_gets_all_that_a_command_has_written_before_it_failed() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        command = Command(["sh", "-c", "head -c 200000 /dev/zero; exit 3"], stdout=theirs)
        running = asyncio.ensure_future(run(command, TWICE))
        got = 0
        while got < 400_000:
            await asyncio.sleep(0.2)  # in all, longer than what was stopped is waited for
            got += len(await asyncio.to_thread(os.read, ours, 30_000))
        with pytest.raises(RunFailed):
            await running


async def test_a_failure_is_judged_by_all_of_the_output_however_slowly_it_is_read() -> None:
    ours, theirs = os.pipe()
    rule = Rule(Kind.AUTH, output=re.compile("quota exceeded"))
    with closed_after(ours, theirs):
        command = Command(["sh", "-c", "head -c 400000 /dev/zero; echo quota exceeded; exit 3"], stdout=theirs)
        running = asyncio.ensure_future(run(command, replace(TWICE, failures=(rule,))))
        await asyncio.sleep(0.5)
        while not running.done():
            os.set_blocking(ours, False)
            with contextlib.suppress(BlockingIOError):
                os.read(ours, 30_000)
            await asyncio.sleep(0.01)
        with pytest.raises(RunFailed) as raised:
            await running
    failure = raised.value.report.attempts[0].failure
    assert failure is not None
    assert failure.kind == "auth"


async def test_the_result_has_the_end_of_stdout() -> None:
    result = await run(Command(["sh", "-c", f"head -c {MOST_CAPTURED} /dev/zero; echo end; echo no >&2"]))
    assert result.stdout == bytes(MOST_CAPTURED - 4) + b"end\n"


# --- the command line


def turnkeeper(*command: str, through: str = '"$@"', stdin: bytes | None = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "supervisor.cli.main", "run", "-q", "-s", "streams", "--", *command]
    return subprocess.run(
        ["sh", "-c", through, "sh", *argv],
        input=stdin,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(TOP), "XDG_CONFIG_HOME": "/nonexistent"},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_turnkeeper_passes_bytes_on_both_ways() -> None:
    content = pattern(3_000_000)
    ended = turnkeeper("cat", stdin=content)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout == content


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_turnkeeper_runs_with_closed_descriptors(closed: str) -> None:
    ended = turnkeeper("sh", "-c", "cat; echo x; echo y >&2", through=f'"$@" {closed}')
    assert ended.returncode == 0
    assert ended.stdout == (b"" if ">&-" in closed.replace("2>&-", "") else b"x\n")
    assert ended.stderr == (b"" if "2>&-" in closed else b"y\n")


def test_turnkeepers_command_dies_with_its_reader() -> None:
    ended = turnkeeper("sh", "-c", "yes; echo $? >&2", through='"$@" | head -1')
    assert (ended.stdout, ended.stderr) == (b"y\n", b"141\n")


def test_turnkeeper_leaves_a_script_the_lines_that_its_command_did_not_read(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\ntwo\nthree\n")
    ended = turnkeeper("sh", "-c", "read line; echo got $line", through=f'{{ "$@"; cat; }} <{tmp_path}/lines')
    assert ended.stdout == b"got one\ntwo\nthree\n"


def test_turnkeeper_changes_no_flag_of_its_own_stdio() -> None:
    ours, theirs = os.openpty()
    with closed_after(ours, theirs):
        argv = [sys.executable, "-m", "supervisor.cli.main", "run", "-q", "-s", "streams", "--", "sleep", "0.5"]
        before = flags(theirs)
        process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONPATH": str(TOP)}
        )
        while process.poll() is None:
            assert flags(theirs) == before
        assert process.returncode == 0
        assert flags(theirs) == before
