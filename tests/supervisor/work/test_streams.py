"""A command's three streams together, and through a whole run."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.work.stdin import input_of
from supervisor.work.streams import CommandStreams
from tests.supervisor.tree.trees import descriptors
from tests.supervisor.work.streaming import (
    WITHIN_S,
    attempt,
    closed_after,
    ended,
    flags,
    largest_file,
    nothing,
    python,
    spawn,
)
from tests.supervisor.work.test_own_descriptor import in_a_child

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]

PRINTS = """
import os, sys
for number, size in enumerate(map(int, sys.argv[1].split(","))):
    rest = bytes([number % 251]) * size
    while rest:
        rest = rest[os.write(1 + number % 2, rest):]
"""


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_every_byte_of_both_streams_comes_in_order(sizes: list[int]) -> None:
    with piped_out() as (out, got_out), piped_out() as (err, got_err):
        command = python(PRINTS, ",".join(map(str, sizes)))
        ran = asyncio.run(attempt(input_of(None), *command, out=out, err=err))
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
        assert ran.exit_code == 0
        assert (got_out(), got_err()) == (b"".join(pieces[::2]), b"".join(pieces[1::2]))
        assert len(ran.tail) == min(65536, sum(sizes))


@contextmanager
def piped_out() -> Iterator[tuple[int, "Got"]]:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        yield theirs, Got(ours, theirs)


class Got:
    """Reads in a process of its own what is written to a pipe, from the start on."""

    def __init__(self, ours: int, theirs: int) -> None:
        self._theirs = theirs
        self._cat = subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.PIPE)
        self._buffer: list[bytes] = []
        import threading

        self._thread = threading.Thread(target=lambda: self._buffer.append(self._cat.communicate()[0]), daemon=True)
        self._thread.start()

    def __call__(self) -> bytes:
        os.close(self._theirs)
        self._thread.join(WITHIN_S)
        return self._buffer[0]


@pytest.mark.parametrize("kind", ["pipe", "file", "appended file", "socket", "terminal"])
async def test_stdout_and_stderr_that_are_one_keep_their_order(kind: str, tmp_path: Path) -> None:
    wanted = b"".join(bytes([number]) * 7 for number in range(200) if number != 10 and number > 31)
    command = python(
        "import os, sys\nfor n in range(200):\n if n != 10 and n > 31: os.write(1 + n % 2, bytes([n]) * 7)"
    )
    ours, theirs = one_place(kind, tmp_path)
    other = os.dup(theirs)
    with closed_after(ours, theirs, other):
        ran = await attempt(input_of(None), *command, out=theirs, err=other)
        got = b""
        while len(got) < len(wanted):
            got += await asyncio.to_thread(os.read, ours, 5000)
        assert got == ran.tail == wanted


def one_place(kind: str, folder: Path) -> tuple[int, int]:
    match kind:
        case "pipe":
            return os.pipe()
        case "socket":
            one, other = socket.socketpair()
            return one.detach(), other.detach()
        case "terminal":
            ours, theirs = os.openpty()
            import tty

            tty.setraw(theirs)
            return ours, theirs
        case _:
            more = os.O_APPEND if kind == "appended file" else 0
            theirs = os.open(folder / "out", os.O_WRONLY | os.O_CREAT | more)
            return os.open(folder / "out", os.O_RDONLY), theirs


async def test_a_file_that_was_opened_twice_at_two_places_is_written_at_both(tmp_path: Path) -> None:
    path = tmp_path / "both"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as out, path.open("ab") as err:
        await attempt(input_of(None), "sh", "-c", "printf abc; printf xyz >&2", out=out.fileno(), err=err.fileno())
    assert path.read_bytes() == b"abc3456789xyz"


async def test_each_stream_goes_where_it_was_given_to(tmp_path: Path) -> None:
    stdin = input_of(b"in")
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        ran = await attempt(stdin, "sh", "-c", "cat; echo b >&2; echo c", out=out.fileno(), err=err.fileno())
    stdin.close()
    assert (tmp_path / "out").read_bytes() == b"inc\n"
    assert (tmp_path / "err").read_bytes() == b"b\n"
    assert sorted(ran.tail) == sorted(b"inb\nc\n")
    assert ran.captured == b""


@pytest.mark.parametrize("command", ["yes", "cat /dev/zero >&2", "sleep 0.2; echo x; sleep 0.1; echo y; exit 7"])
async def test_a_command_whose_reader_went_away_sees_a_closed_pipe(command: str) -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        streams = CommandStreams(input_of(None), theirs, theirs, nothing)
        pid = spawn(streams, "sh", "-c", f"{command}")
        if "sleep" not in command:
            await asyncio.to_thread(os.read, ours, 1)
        os.close(ours)
        assert await ended(pid) in (-signal.SIGPIPE, 128 + signal.SIGPIPE)
        await asyncio.wait_for(streams.drained, WITHIN_S)
        assert streams.trouble() == ""
        streams.close()


async def test_a_full_disk_is_named_and_the_command_sees_a_closed_pipe(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, largest_file(200_000):
        streams = CommandStreams(input_of(None), out.fileno(), None, nothing)
        pid = spawn(streams, "sh", "-c", "ulimit -f unlimited; exec yes")
        assert await ended(pid) == -signal.SIGPIPE
        await asyncio.wait_for(streams.drained, WITHIN_S)
    assert streams.trouble() == "stdout cannot be written: File too large"
    assert (tmp_path / "out").stat().st_size == 200_000
    streams.close()


async def test_nobodys_flags_are_changed() -> None:
    one, other = socket.socketpair()
    ours, theirs = os.openpty()
    read_end, write_end = os.pipe()
    with closed_after(one.detach(), ours, theirs, read_end, write_end), other:
        given = (theirs, write_end, other.fileno(), read_end)
        before = list(map(flags, given))
        os.write(write_end, b"abc")
        stdin = input_of(read_end)
        ran = await attempt(stdin, "head", "-c", "3", out=theirs, err=other.fileno())
        stdin.close()
        assert ran.tail == b"abc"
        assert list(map(flags, given)) == before


def has_none_in_a_child(made: set[str]) -> bool:
    return in_a_child(lambda: not any(os.path.lexists(f"/proc/self/fd/{each}") for each in made))


async def test_a_forked_child_of_ours_keeps_no_end_of_a_pipe_at_any_time() -> None:
    for went in (False, True):
        before = descriptors()
        stdin = input_of(b"x" * 1000)
        streams = CommandStreams(stdin, None, None, nothing)
        if went:
            streams.close_theirs()
            streams.feed()
        made = {number for number, target in descriptors() - before if target.startswith("pipe:")}
        assert len(made) == (3 if went else 6)
        assert has_none_in_a_child(made)
        streams.close()
        stdin.close()


async def test_what_cannot_be_made_whole_leaves_nothing() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        stdin, before = input_of(b"x"), descriptors()
        with pytest.raises(OSError, match="Bad file descriptor"):
            CommandStreams(stdin, theirs, 9999, nothing)
        assert descriptors() == before
        stdin.close()


async def test_streams_are_closed_before_a_command_had_them_and_twice() -> None:
    stdin = input_of(b"x")
    streams = CommandStreams(stdin, None, None, nothing)
    streams.close()
    streams.close()
    stdin.close()
