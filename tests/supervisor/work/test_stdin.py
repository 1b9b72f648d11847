"""Which of our descriptors is passed on, which is opened anew, and which is spooled."""

import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.work import stdin as stdin_module
from supervisor.work.spool import Spool
from supervisor.work.stdin import File, Passed, input_of
from tests.supervisor.tree.trees import descriptors
from tests.supervisor.work.streaming import attempt, closed_after, flags, pattern, piped, python, read

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]


async def test_a_command_reads_a_pipe_in_parts_and_then_whole() -> None:
    content = pattern(400_000)
    with piped(content) as ours:
        stdin = input_of(ours)
        assert isinstance(stdin, Spool)
        assert await read(stdin, 100_001) == content[:100_001]
        assert await read(stdin, 0) == b""
        assert await read(stdin) == content
        stdin.close()


async def test_a_command_reads_a_socket_in_parts_and_then_whole() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(pattern(50_000))
        stdin = input_of(other.fileno())
        assert isinstance(stdin, Spool)
        assert await read(stdin, 40_000) == pattern(40_000)
        one.close()
        assert await read(stdin) == pattern(50_000)
        stdin.close()


async def test_a_terminal_is_passed_on() -> None:
    ours, theirs = os.openpty()
    with closed_after(ours, theirs):
        before = flags(theirs)
        stdin = input_of(theirs)
        assert isinstance(stdin, Passed)
        assert (await attempt(stdin, "test", "-t", "0")).exit_code == 0
        os.write(ours, b"hello\nagain\n")
        assert await read(stdin, 6) == b"hello\n"
        assert await read(stdin, 6) == b"again\n"  # what an attempt has read, the next one does not see
        assert not stdin.is_consumed
        assert flags(theirs) == before
        stdin.close()


@pytest.mark.parametrize("given", [None, b"", "closed", "/dev/null"])
async def test_no_stdin_is_an_empty_one(given: bytes | str | None) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    with closed_after(descriptor):
        if given == "closed":
            os.close(descriptor)
        stdin = input_of(descriptor if isinstance(given, str) else given)
        assert isinstance(stdin, Passed)
        assert await read(stdin) == await read(stdin) == b""
        stdin.close()


async def test_a_file_is_read_by_each_attempt_from_where_it_stood(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pattern(400_000))
    with (tmp_path / "in").open("rb", buffering=0) as ours:
        ours.seek(1000)
        stdin = input_of(ours.fileno())
        assert isinstance(stdin, File)
        (tmp_path / "in").unlink()
        assert await read(stdin, 5000) == pattern(400_000)[1000:6000]
        assert await read(stdin) == pattern(400_000)[1000:]
        assert not stdin.is_consumed
        stdin.close()


async def test_a_file_is_left_where_the_last_command_has_read_to_as_if_it_had_it_alone(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pattern(10_000))
    with (tmp_path / "in").open("rb", buffering=0) as ours:
        ours.seek(1000)
        stdin = input_of(ours.fileno())
        await read(stdin, 4000)
        assert ours.tell() == 5000
        await read(stdin, 7)
        assert ours.tell() == 1007
        stdin.open().close()  # was parked, and never went
        assert ours.tell() == 1007
        stdin.close()


async def test_a_file_that_may_not_be_opened_anew_is_wound_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, flags: int) -> None:
        raise PermissionError

    monkeypatch.setattr(stdin_module, "opened_anew", refuse)
    (tmp_path / "in").write_bytes(pattern(10_000))
    with (tmp_path / "in").open("rb", buffering=0) as ours:
        ours.seek(500)
        stdin = input_of(ours.fileno())
        assert await read(stdin, 20) == pattern(10_000)[500:520]
        assert await read(stdin) == pattern(10_000)[500:]
        stdin.close()


async def test_a_file_that_grew_meanwhile_is_read_to_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"one")
    with path.open("rb", buffering=0) as ours:
        stdin = input_of(ours.fileno())
        assert await read(stdin) == b"one"
        path.write_bytes(b"one and two")
        assert await read(stdin) == b"one and two"
        stdin.close()


async def test_what_was_given_to_be_written_is_not_read_in_its_place(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    file = os.open(tmp_path / "in", os.O_WRONLY | os.O_CREAT)
    with closed_after(ours, theirs, file):
        os.write(theirs, b"for somebody else")
        for given in (theirs, file):
            stdin = input_of(given)
            ran = await attempt(stdin, *python("import os; os.read(0, 10)"))
            assert ran.exit_code == 1
            assert b"Bad file descriptor" in ran.tail
            stdin.close()
        assert os.read(ours, 100) == b"for somebody else"


async def test_a_command_that_does_not_read_holds_up_nothing() -> None:
    ours, theirs = os.pipe()  # never written, never closed
    with closed_after(ours, theirs):
        stdin = input_of(ours)
        assert (await attempt(stdin, "true")).exit_code == 0
        stdin.close()
    with piped(pattern(2_000_000)) as ours:
        stdin = input_of(ours)
        assert (await attempt(stdin, "true")).exit_code == 0
        assert (await attempt(stdin, "sh", "-c", "exec 0<&-; true")).exit_code == 0
        assert await read(stdin, 500_000) == pattern(500_000)
        stdin.close()


async def test_each_kind_leaves_nothing_when_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    ours, theirs = pty.openpty()
    read_end, write_end = os.pipe()
    file = os.open(tmp_path / "in", os.O_RDONLY)
    with closed_after(ours, theirs, read_end, write_end, file):
        for given in (None, b"bytes", theirs, read_end, file):
            before = descriptors()
            stdin = input_of(given)
            for number in range(3):
                opened = stdin.open()
                if number == 1:
                    opened.close_theirs()
                if number:
                    opened.feed()
                opened.close()
                opened.close()
            stdin.close()
            stdin.close()
            assert {each for each in descriptors() - before if "event" not in each[1]} == set()


def test_an_ordinary_user_reads_a_pipe_of_somebody_else() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    code = """
import asyncio, os
from supervisor.work.spool import Spool
async def main():
    spool, got = Spool(0), 0
    for size in (100_000, 200_000):
        feed = spool.open()
        os.set_blocking(feed.descriptor, False)
        feed.feed()
        while size:
            try:
                size -= len(os.read(feed.descriptor, size))
            except BlockingIOError:
                await asyncio.sleep(0)
        feed.close()
    spool.close()
os.setuid(65534)
asyncio.run(main())
"""
    top = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {top!r})\n{code}"],
        input=bytes(200_000),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


BACKGROUND = """
import asyncio, os, stat, sys
if sys.argv[1] == "background":
    os.setpgid(0, 0)
from supervisor.work.stdin import input_of
async def main():
    opened = input_of(0).open()
    return os.isatty(opened.descriptor)
os._exit(10 + asyncio.run(main()))
"""


@pytest.mark.parametrize(("where", "status"), [("foreground", 11), ("background", 10)])
def test_a_terminal_is_passed_on_in_its_foreground_only(where: str, status: int) -> None:
    pid, ours = pty.fork()
    if pid == 0:  # a session with a terminal that controls it
        command = [sys.executable, "-c", BACKGROUND, where]
        below = os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
        os._exit(os.waitstatus_to_exitcode(os.waitpid(below, 0)[1]))
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(ours)
    assert ended == status
