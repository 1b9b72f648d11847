"""Where output goes is written to at once or not at all, and stays as it was given."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.work import sink as sink_module
from supervisor.work.sink import Sink
from tests.supervisor.work.streaming import closed_after, flags, largest_file, pattern

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]


async def write_all(sink: Sink, content: bytes, read_some: Callable[[], int]) -> None:
    """Write, and read a little whenever it takes no more; a sink that waits would wait here for ever."""
    rest = memoryview(content)
    while rest:
        written = sink.write(rest)
        rest = rest[written:]
        if not written:
            assert not sink.is_gone, sink.trouble
            read_some()


def reader(descriptor: int, got: bytearray) -> Callable[[], int]:
    def read_some() -> int:
        chunk = os.read(descriptor, 30_000)
        got.extend(chunk)
        return len(chunk)

    return read_some


@pytest.mark.parametrize("kind", ["pipe", "fifo", "unix socket", "tcp socket", "terminal"])
async def test_every_byte_comes_in_order_and_nothing_ever_waits(kind: str, tmp_path: Path) -> None:
    ours, theirs = pair(kind, tmp_path)
    with closed_after(ours, theirs):
        before = flags(theirs)
        sink, content, got = Sink(theirs), pattern(700_000).replace(b"\n", b"."), bytearray()
        read_some = reader(ours, got)
        await write_all(sink, content, read_some)
        while len(got) < len(content):
            read_some()
        assert bytes(got) == content
        assert flags(theirs) == before
        sink.close()
        assert flags(theirs) == before


def pair(kind: str, folder: Path) -> tuple[int, int]:
    match kind:
        case "pipe":
            return os.pipe()
        case "fifo":
            os.mkfifo(folder / "fifo")
            ours = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(ours, True)
            return ours, os.open(folder / "fifo", os.O_WRONLY)
        case "unix socket":
            one, other = socket.socketpair()
            return one.detach(), other.detach()
        case "tcp socket":
            with socket.create_server(("127.0.0.1", 0)) as server:
                other = socket.create_connection(server.getsockname())
                one, _ = server.accept()
                return one.detach(), other.detach()
        case _:
            ours, theirs = os.openpty()
            tty.setraw(theirs)
            return ours, theirs


async def test_a_socket_keeps_its_flags_whatever_the_hosts_default_timeout_is() -> None:
    one, other = socket.socketpair()
    with one, other:
        socket.setdefaulttimeout(5.0)
        try:
            sink = Sink(other.fileno())
            assert sink.write(memoryview(b"abc")) == 3
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(other.fileno())
        sink.close()
        assert one.recv(10) == b"abc"


def refuse(descriptor: int, flags: int) -> None:
    raise PermissionError


async def test_a_pipe_that_may_not_be_opened_anew_is_written_to_only_as_far_as_it_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sink_module, "opened_anew", refuse)
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        sink, got, content = Sink(theirs), bytearray(), pattern(300_000)
        await write_all(sink, content, reader(ours, got))
        os.close(theirs)
        sink.close()
        while chunk := os.read(ours, 65536):
            got += chunk
        assert bytes(got) == content


async def test_a_terminal_that_may_not_be_opened_anew_gets_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "opened_anew", refuse)
    ours, theirs = os.openpty()
    with closed_after(ours, theirs):
        before = flags(theirs)
        sink, got = Sink(theirs), bytearray()

        def terminal() -> None:
            while len(got) < 200_000:
                got.extend(os.read(ours, 5000))

        person = threading.Thread(target=terminal)
        person.start()
        await write_all(sink, b"\n" * 100_000, lambda: 0)
        person.join(20)
        assert bytes(got) == b"\r\n" * 100_000
        assert flags(theirs) == before
        sink.close()


async def test_the_other_side_of_a_terminal_is_no_new_terminal() -> None:
    ours, theirs = os.openpty()
    with closed_after(ours, theirs):
        tty.setraw(theirs)
        sink = Sink(ours)
        assert sink.write(memoryview(b"x" * 1000)) == 1000
        got = b""
        while len(got) < 1000:  # a terminal hands it over in pieces
            got += os.read(theirs, 2000)
        assert got == b"x" * 1000
        sink.close()


async def test_a_file_is_written_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out:
        out.write(b"before\n")
        sink = Sink(out.fileno())
        assert sink.write(memoryview(b"between\n")) == 8
        sink.close()
        out.write(b"after\n")
    assert (tmp_path / "out").read_bytes() == b"before\nbetween\nafter\n"


async def test_a_full_disk_takes_what_it_can_and_is_said() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with closed_after(full):
        sink = Sink(full)
        assert sink.write(memoryview(b"x")) == 0
        assert (sink.is_gone, sink.trouble) == (True, "No space left on device")
        sink.close()


async def test_a_file_that_may_not_grow_takes_what_it_may(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out, largest_file(1000):
        sink = Sink(out.fileno())
        assert sink.write(memoryview(bytes(3000))) == 1000
        assert (sink.is_gone, sink.trouble) == (True, "File too large")
        sink.close()


async def test_a_reader_that_is_gone_is_no_trouble() -> None:
    ours, theirs = os.pipe()
    with closed_after(theirs):
        os.close(ours)
        sink = Sink(theirs)
        assert sink.write(memoryview(b"x")) == 0
        assert (sink.is_gone, sink.trouble) == (True, "")
        sink.close()
    one, other = socket.socketpair()
    with other:
        one.close()
        sink = Sink(other.fileno())
        assert sink.write(memoryview(b"x")) == 0
        assert (sink.is_gone, sink.trouble) == (True, "")
        sink.close()


async def test_a_readers_end_is_seen_before_anything_is_written() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        gone = asyncio.Event()
        sink = Sink(theirs)
        sink.when_gone(gone.set)
        await asyncio.sleep(0.02)
        assert not gone.is_set()
        os.close(ours)
        await asyncio.wait_for(gone.wait(), 20)
        sink.close()


async def test_a_fifo_with_a_name_may_find_another_reader(tmp_path: Path) -> None:
    ours, theirs = pair("fifo", tmp_path)
    with closed_after(ours, theirs):
        gone = asyncio.Event()
        sink = Sink(theirs)
        sink.when_gone(gone.set)
        os.close(ours)
        await asyncio.sleep(0.02)
        assert not gone.is_set()
        again = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        with closed_after(again):
            assert sink.write(memoryview(b"x")) == 1
        sink.close()


async def test_two_sinks_of_one_socket_are_told_apart_when_they_wait() -> None:
    one, other = socket.socketpair()
    with one, other:
        first, second = Sink(other.fileno()), Sink(other.fileno())
        while first.write(memoryview(bytes(65536))):
            pass
        told: set[str] = set()
        first.when_ready(lambda: told.add("first"))
        second.when_ready(lambda: told.add("second"))
        second.rest()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while one.recv(1 << 20):
                pass
        await asyncio.sleep(0.01)
        assert told == {"first"}
        first.close()
        second.close()


async def test_a_sink_is_closed_twice_and_what_was_given_stays_open() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        sink = Sink(theirs)
        sink.close()
        sink.close()
        assert os.write(theirs, b"x") == 1


def test_an_ordinary_user_writes_to_a_pipe_of_somebody_else() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    code = """
import asyncio, os, sys
from supervisor.work.sink import Sink
async def main():
    sink = Sink(1)
    rest = memoryview(bytes(200_000))
    while rest:
        rest = rest[sink.write(rest):]
        assert not sink.is_gone
        await asyncio.sleep(0)
    sink.close()
os.setuid(65534)
asyncio.run(main())
"""
    top = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {top!r})\n{code}"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr, len(ran.stdout)) == (0, b"", 200_000)
