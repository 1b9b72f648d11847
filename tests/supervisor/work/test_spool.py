"""What one attempt has read, the next one reads again; and no more is read than the commands want."""

import asyncio
import os
import resource
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.work import spool as spool_module
from supervisor.work.own_descriptor import PIPE_BYTES
from supervisor.work.spool import MOST_SPOOLED, Feed, Spool
from tests.supervisor.tree.trees import descriptors
from tests.supervisor.work.streaming import closed_after, flags, largest_file, pattern, piped, watched
from tests.supervisor.work.test_own_descriptor import in_a_child

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]


class Reader:
    """One attempt that reads, without a command."""

    def __init__(self, spool: Spool) -> None:
        self.feed: Feed = spool.open()
        self.descriptor = os.dup(self.feed.descriptor)
        self.feed.close_theirs()
        os.set_blocking(self.descriptor, False)
        self.feed.feed()

    async def read(self, most: int) -> bytes:
        """Return what comes until there is so much, or the end."""
        got = bytearray()
        async with asyncio.timeout(30):
            while len(got) < most:
                try:
                    chunk = os.read(self.descriptor, min(most - len(got), 100_000))
                except BlockingIOError:
                    await asyncio.sleep(0)
                    continue
                if not chunk:
                    break
                got += chunk
        return bytes(got)

    def close(self) -> None:
        os.close(self.descriptor)
        self.feed.close()


async def read(spool: Spool, most: int = 1 << 40) -> bytes:
    reader = Reader(spool)
    try:
        return await reader.read(most)
    finally:
        reader.close()


def write_now(descriptor: int, rest: memoryview) -> memoryview:
    with suppress(BlockingIOError):
        return rest[os.write(descriptor, rest) :]
    return rest


sizes = st.one_of(st.integers(0, 3000), st.integers(0, 1_500_000))


@given(sizes, st.lists(sizes, max_size=4), st.sampled_from(["bytes", "pipe", "socket"]))
@settings(max_examples=40, deadline=None)
def test_each_attempt_reads_from_the_start_and_the_last_one_reads_all(size: int, takes: list[int], kind: str) -> None:
    async def run() -> None:
        content = pattern(size)
        ours, theirs = os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
        with closed_after(ours, theirs):
            os.set_blocking(theirs, False)
            writing = asyncio.ensure_future(write(theirs, content))
            spool = Spool(content if kind == "bytes" else ours)
            for take in takes:
                assert await read(spool, take) == content[:take]
            assert await read(spool) == content
            assert await read(spool) == content
            assert (spool.is_consumed, spool.trouble) == (False, "")
            spool.close()
            writing.cancel()

    asyncio.run(run())


async def write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = write_now(descriptor, rest)
        await asyncio.sleep(0)
    os.close(descriptor)


async def test_a_second_attempt_reads_the_same_and_goes_on_live() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        spool = Spool(ours)
        os.write(theirs, b"one, ")
        assert await read(spool, 5) == b"one, "
        second = Reader(spool)
        assert await second.read(5) == b"one, "
        os.write(theirs, b"two, ")
        assert await second.read(5) == b"two, "
        second.close()
        third = Reader(spool)
        os.write(theirs, b"three")
        os.close(theirs)
        assert await third.read(100) == b"one, two, three"
        third.close()
        spool.close()


async def test_what_an_attempt_did_not_take_is_not_lost() -> None:
    with piped(pattern(900_000)) as ours:
        spool = Spool(ours)
        first = Reader(spool)
        assert await first.read(10) == pattern(10)
        for _ in range(50):
            await asyncio.sleep(0)
        first.close()
        assert await read(spool) == pattern(900_000)
        spool.close()


async def test_no_more_than_a_pipe_and_what_goes_into_it_next_is_read_ahead() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        os.set_blocking(theirs, False)
        spool = Spool(ours)
        reader, written, idle = Reader(spool), 0, 0
        while idle < 50:
            try:
                written += os.write(theirs, bytes(10_000))
                idle = 0
            except BlockingIOError:
                idle += 1
            await asyncio.sleep(0)
        assert PIPE_BYTES <= written <= 2 * PIPE_BYTES + 65536
        reader.close()
        spool.close()


async def test_nothing_is_read_before_the_command_may_read_nor_after_it_has_ended() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        os.set_blocking(ours, False)
        spool = Spool(ours)
        os.write(theirs, b"abc")
        parked = spool.open()
        await asyncio.sleep(0.01)
        parked.close()
        assert await read(spool, 3) == b"abc"
        os.write(theirs, b"def")
        await asyncio.sleep(0.01)
        assert os.read(ours, 10) == b"def"
        spool.close()


async def test_the_loop_waits_for_the_one_thing_that_is_missing() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        spool = Spool(ours)
        reader = Reader(spool)
        assert spool._source is not None
        source, pipe = spool._source._own.number, reader.feed._pipe.number
        await asyncio.sleep(0.01)
        assert (watched(source), watched(pipe)) == (True, False)
        os.set_blocking(theirs, False)
        written = 0
        with suppress(BlockingIOError):
            while True:
                written += os.write(theirs, bytes(10_000))
                await asyncio.sleep(0.001)
        assert (watched(source), watched(pipe)) == (False, True)
        await reader.read(written)
        await asyncio.sleep(0.01)
        assert (watched(source), watched(pipe)) == (True, False)
        reader.close()
        assert not watched(source)
        spool.close()


async def test_a_command_that_closes_its_stdin_is_fed_no_more() -> None:
    with piped(pattern(2_000_000)) as ours:
        spool = Spool(ours)
        first = Reader(spool)
        assert await first.read(300_000) == pattern(300_000)
        os.close(first.descriptor)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not first.feed._pipe.is_open
        assert await read(spool) == pattern(2_000_000)
        spool.close()


async def test_sixteen_mebibytes_can_be_read_again_and_one_byte_more_cannot() -> None:
    content = pattern(MOST_SPOOLED)
    with piped(content) as ours:
        spool = Spool(ours)
        assert await read(spool) == content
        assert not spool.is_consumed
        assert await read(spool) == content
        spool.close()
    with piped(content + b"x") as ours:
        spool = Spool(ours)
        assert await read(spool) == content + b"x"
        assert (spool.is_consumed, spool.trouble) == (True, "")
        assert spool._kept is None
        spool.close()


async def test_bytes_are_never_consumed() -> None:
    content = pattern(MOST_SPOOLED + 5)
    spool = Spool(content)
    assert await read(spool) == content
    assert not spool.is_consumed
    assert await read(spool) == content
    spool.close()


@pytest.mark.parametrize("chunk", [100, 100_000])
async def test_a_full_disk_lets_the_attempt_read_on_and_there_is_no_second_one(chunk: int) -> None:
    ours, theirs = os.pipe()
    content = pattern(900_000)
    with closed_after(ours, theirs):
        spool = Spool(ours)
        reader, got = Reader(spool), b""
        with largest_file(300_050):
            for start in range(0, len(content), chunk):
                os.set_blocking(theirs, False)
                rest = memoryview(content)[start : start + chunk]
                while rest:
                    rest = write_now(theirs, rest)
                    await asyncio.sleep(0)
                got += await reader.read(min(chunk, len(content) - start))
        assert got == content
        assert (spool.is_consumed, spool.trouble) == (True, "stdin cannot be kept for a retry: File too large")
        reader.close()
        spool.close()


async def test_a_disk_that_becomes_full_with_the_last_byte_is_heard_of_before_a_second_attempt() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        spool = Spool(ours)
        reader = Reader(spool)
        os.set_blocking(theirs, False)
        with largest_file(300_000):
            rest = memoryview(pattern(300_000))
            while rest:
                rest = write_now(theirs, rest)
                await asyncio.sleep(0)
            assert await reader.read(300_000) == pattern(300_000)
            assert not spool.is_consumed
            os.write(theirs, b"x")
            assert await reader.read(1) == b"x"
        assert spool.is_consumed
        reader.close()
        spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_disk_that_is_full_in_truth_is_the_same(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with piped(pattern(3_000_000)) as ours:
        spool = Spool(ours)
        assert await read(spool) == pattern(3_000_000)
        assert spool.trouble == "stdin cannot be kept for a retry: No space left on device"
        spool.close()


async def test_where_no_file_can_be_made_what_fits_into_memory_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with piped(pattern(200_000)) as ours:
        spool = Spool(ours)
        assert await read(spool) == await read(spool) == pattern(200_000)
        spool.close()
    with piped(pattern(800_000)) as ours:
        spool = Spool(ours)
        assert await read(spool) == pattern(800_000)
        assert spool.trouble == "stdin cannot be kept for a retry: No such file or directory"
        spool.close()


async def test_what_is_kept_has_no_name_and_nobody_else_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with piped(pattern(800_000)) as ours:
        spool = Spool(ours)
        await read(spool)
        kept = spool._kept
        assert kept is not None
        assert os.fstat(kept.fileno()).st_mode & 0o777 == 0o600
        assert not os.get_inheritable(kept.fileno())
        assert os.listdir(tmp_path) == []
        spool.close()


async def test_a_forked_child_keeps_neither_pipe_nor_file() -> None:
    with piped(pattern(800_000)) as ours:
        before = descriptors()
        spool = Spool(ours)
        reader = Reader(spool)
        assert await reader.read(600_000) == pattern(600_000)
        made = {number for number, _ in descriptors() - before} - {str(reader.descriptor)}
        assert len(made) == 3
        assert in_a_child(lambda: not any(os.path.lexists(f"/proc/self/fd/{number}") for number in made))
        assert await reader.read(1 << 30) == pattern(800_000)[600_000:]
        reader.close()
        assert await read(spool) == pattern(800_000)
        spool.close()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_what_is_given_keeps_its_flags(kind: str) -> None:
    ours, theirs = os.pipe() if kind == "pipe" else (end.detach() for end in socket.socketpair())
    with closed_after(ours, theirs):
        before = flags(ours)
        socket.setdefaulttimeout(5.0)
        try:
            spool = Spool(ours)
            os.write(theirs, b"abc")
            assert await read(spool, 3) == b"abc"
        finally:
            socket.setdefaulttimeout(None)
        assert flags(ours) == before
        spool.close()
        assert flags(ours) == before


def refuse(descriptor: int, flags: int) -> None:
    raise PermissionError


async def test_somebody_elses_pipe_is_read_when_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "opened_anew", refuse)
    with piped(pattern(500_000)) as ours:
        spool = Spool(ours)
        assert spool._source is not None
        assert await read(spool, 100_000) == pattern(100_000)
        assert await read(spool) == pattern(500_000)
        spool.close()


@pytest.mark.parametrize("kind", ["pipe", "somebody else's pipe", "socket"])
async def test_to_read_what_is_not_there_does_not_wait(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "somebody else's pipe":
        monkeypatch.setattr(spool_module, "opened_anew", refuse)
    ours, theirs = (end.detach() for end in socket.socketpair()) if kind == "socket" else os.pipe()
    with closed_after(ours, theirs):
        spool = Spool(ours)
        assert spool.after(0) is None
        spool.close()


async def test_two_runs_read_the_same_bytes_at_the_same_time() -> None:
    content = pattern(700_000)
    spools = [Spool(content), Spool(content)]
    assert await asyncio.gather(*map(read, spools)) == [content, content]
    for spool in spools:
        spool.close()


async def test_a_spool_that_was_closed_ends_who_still_reads() -> None:
    ours, theirs = os.pipe()
    with closed_after(ours, theirs):
        os.write(theirs, b"abc")
        spool = Spool(ours)
        reader = Reader(spool)
        assert await reader.read(3) == b"abc"
        spool.close()
        spool.close()
        reader.close()
        reader.feed.close()


async def test_memory_stays_flat_while_much_flows() -> None:
    with piped(bytes(1 << 20), 128) as ours:
        spool = Spool(ours)
        reader = Reader(spool)
        await reader.read(24 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(await reader.read(1 << 20)) == 1 << 20
        for _ in range(102):
            await reader.read(1 << 20)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024
        assert spool.is_consumed
        reader.close()
        spool.close()
