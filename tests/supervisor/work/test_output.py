"""What is written to a command's stdout and stderr arrives whole and in order, and no faster than it is read."""

import asyncio
import os
import resource
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.work.output import MOST_KEPT, Output
from supervisor.work.own_descriptor import PIPE_BYTES
from supervisor.work.sink import Sink
from supervisor.work.tail import Tail
from tests.supervisor.tree.trees import descriptors
from tests.supervisor.work.streaming import closed_after, flags, nothing, pattern

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("nothing_is_left")]


@contextmanager
def output(to: int, *, beats: list[int] | None = None) -> Iterator[tuple[Output, int]]:
    """Give an output of which stdout and stderr go to one place, and the command's end of it, which never waits."""
    made = Output(Sink(to), None, nothing if beats is None else lambda: beats.append(1), one=True)
    theirs = os.dup(made.stdout)
    made.close_theirs()
    os.set_blocking(theirs, False)
    try:
        with closed_after(theirs):
            yield made, theirs
    finally:
        made.close()


async def fill(theirs: int, most: int = 1 << 30) -> int:
    """Write until nothing more goes through; return how much did."""
    written = idle = 0
    while idle < 5 and written < most:
        try:
            written += os.write(theirs, pattern(min(50_000, most - written)))
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0.002 if idle else 0)
    return written


async def drained(made: Output) -> None:
    await asyncio.wait_for(asyncio.shield(made.drained), 20)


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 200_000)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_every_byte_arrives_in_order_however_it_is_written_and_read(pieces: list[tuple[int, int]]) -> None:
    async def run() -> None:
        content, got = pattern(sum(size for size, _ in pieces)), bytearray()
        ours, given = os.pipe()
        os.set_blocking(ours, False)
        rest = memoryview(content)
        with closed_after(ours, given), output(given) as (made, theirs):
            for size, most in pieces:
                piece, rest = rest[:size], rest[size:]
                while piece:
                    try:
                        piece = piece[os.write(theirs, piece) :]
                    except BlockingIOError:
                        got += read_now(ours, 5000)
                        await asyncio.sleep(0)
                got += read_now(ours, most)
                await asyncio.sleep(0)
            os.close(theirs)
            while not made.drained.done():
                got += read_now(ours, 100_000)
                await asyncio.sleep(0)
            while more := read_now(ours, 100_000):
                got += more
            assert bytes(got) == content
            assert made.tail.bytes() == content[-MOST_KEPT:]

    asyncio.run(run())


def read_now(descriptor: int, most: int) -> bytes:
    try:
        return os.read(descriptor, most)
    except BlockingIOError:
        return b""


async def test_a_reader_that_does_not_read_makes_the_command_wait() -> None:
    ours, given = os.pipe()
    with closed_after(ours, given), output(given) as (made, theirs):
        written = await fill(theirs)
        assert written <= 2 * PIPE_BYTES + 65536
        await asyncio.sleep(0.02)
        with pytest.raises(BlockingIOError):
            os.write(theirs, b"x" * 65536)
        assert not made.drained.done()
        got = bytearray()
        os.close(theirs)
        while len(got) < written:
            got += await asyncio.to_thread(os.read, ours, 10_000)
        await drained(made)


async def test_much_output_takes_little_memory() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    with closed_after(null), output(null) as (_, theirs):
        tracemalloc.start()
        assert await fill(theirs, 20_000_000) == 20_000_000
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 2 * 1024 * 1024


async def test_a_reader_that_went_away_closes_the_pipe_of_a_command_that_writes() -> None:
    one, other = socket.socketpair()
    with other, output(other.fileno()) as (made, theirs):
        os.write(theirs, b"x")
        assert await asyncio.to_thread(one.recv, 10) == b"x"
        one.close()
        os.write(theirs, b"y")
        await drained(made)
        with pytest.raises(BrokenPipeError):
            os.write(theirs, b"z")


async def test_a_reader_that_went_away_closes_the_pipe_of_a_command_that_is_silent() -> None:
    ours, given = os.pipe()
    with closed_after(given), output(given) as (made, theirs):
        os.close(ours)
        await drained(made)
        with pytest.raises(BrokenPipeError):
            os.write(theirs, b"x")


async def test_a_reader_that_went_away_closes_the_pipe_of_a_command_that_waits_for_it() -> None:
    ours, given = os.pipe()
    with closed_after(ours, given), output(given) as (made, theirs):
        await fill(theirs)
        os.close(ours)
        await drained(made)
        with pytest.raises(BrokenPipeError):
            os.write(theirs, b"x")


async def test_what_is_given_keeps_its_flags() -> None:
    ours, given = os.pipe()
    before = flags(given)
    with closed_after(ours, given):
        with output(given) as (_, theirs):
            assert flags(given) == before
            await fill(theirs)
            assert flags(given) == before
        assert flags(given) == before


async def test_each_output_is_a_sign_of_life_and_waiting_is_none() -> None:
    ours, given = os.pipe()
    beats: list[int] = []
    with closed_after(ours, given), output(given, beats=beats) as (_, theirs):
        await fill(theirs)
        before = len(beats)
        await asyncio.sleep(0.02)
        assert 0 < before == len(beats)
        await asyncio.to_thread(os.read, ours, 65536)
        await asyncio.to_thread(os.read, ours, 65536)
        await fill(theirs)
        assert len(beats) > before


async def test_a_slow_reader_that_takes_a_little_is_a_sign_of_life() -> None:
    ours, given = os.pipe()
    beats: list[int] = []
    with closed_after(ours, given), output(given, beats=beats) as (_, theirs):
        await fill(theirs)
        await asyncio.sleep(0.02)
        before = len(beats)
        os.read(ours, 65536)  # less than what waits before more is read of the command
        await asyncio.sleep(0.02)
        assert len(beats) > before


async def test_two_streams_without_a_sink_are_both_in_the_tail_and_one_is_captured() -> None:
    captured = Tail(1000)
    made = Output(None, None, nothing, one=False, captured=captured)
    os.write(made.stdout, b"to stdout")
    os.write(made.stderr, b" and to stderr")
    made.close_theirs()
    await drained(made)
    assert captured.bytes() == b"to stdout"
    assert sorted(made.tail.bytes()) == sorted(b"to stdout and to stderr")
    made.close()


async def test_it_is_drained_when_the_last_of_its_streams_is() -> None:
    made = Output(None, None, nothing, one=False)
    late = os.dup(made.stderr)
    with closed_after(late):
        made.close_theirs()
        await asyncio.sleep(0.02)
        assert not made.drained.done()
        os.close(late)
        await drained(made)
        made.close()


async def test_to_close_it_drops_what_waits_and_ends_the_waiting() -> None:
    ours, given = os.pipe()
    with closed_after(ours, given), output(given) as (made, theirs):
        await fill(theirs)
        made.close()
        made.close()
        assert made.drained.done()
        with pytest.raises(BrokenPipeError):
            os.write(theirs, b"x")


async def test_what_cannot_be_made_whole_leaves_nothing() -> None:
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(number) for number, _ in before) + 1
    fillers = []
    while (filler := os.dup(1)) < highest:
        fillers.append(filler)
    os.close(filler)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Output(None, None, nothing, one=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
    await asyncio.sleep(0)
