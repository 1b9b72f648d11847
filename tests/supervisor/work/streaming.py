"""Real commands on a command's streams, without a warden, and what goes through them."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from supervisor.work.stdin import Input
from supervisor.work.streams import CommandStreams

WITHIN_S = 30.0
ALL = 1 << 40

READS = """
import os, sys
left = int(sys.argv[1])
while left and (chunk := os.read(0, min(left, 65536))):
    left -= len(chunk)
    while chunk:
        chunk = chunk[os.write(1, chunk):]
"""
"""Copies so many bytes of its stdin to its stdout, and reads no more."""


class Ran(NamedTuple):
    exit_code: int  # minus a signal's number
    captured: bytes
    tail: bytes
    trouble: str


def pattern(size: int) -> bytes:
    """Return bytes of which each four say where they stand."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def python(code: str, *arguments: object) -> Sequence[str]:
    return (sys.executable, "-I", "-S", "-c", code, *map(str, arguments))


def spawn(streams: CommandStreams, *argv: str) -> int:
    """Start a command as a warden does, and let it read."""
    places = [(os.POSIX_SPAWN_DUP2, end, place) for place, end in enumerate(streams.descriptors())]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=places, setsigdef=[signal.SIGPIPE])
    streams.close_theirs()
    streams.feed()
    return pid


async def ended(pid: int) -> int:
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    return os.waitstatus_to_exitcode(status)


def nothing() -> None:
    """What is done for each output that nobody asks for."""


async def attempt(stdin: Input, *argv: str, out: int | None = None, err: int | None = None) -> Ran:
    """Carry one attempt out, until all that it wrote was passed on."""
    streams = CommandStreams(stdin, out, err, nothing)
    try:
        exit_code = await ended(spawn(streams, *argv))
        await asyncio.wait_for(asyncio.shield(streams.drained), WITHIN_S)
        return Ran(exit_code, streams.captured()[0], streams.tail(), streams.trouble())
    finally:
        streams.close()


async def read(stdin: Input, most_bytes: int = ALL) -> bytes:
    """Return what an attempt's command reads that wants so much; less than a mebibyte of it."""
    ran = await attempt(stdin, *python(READS, most_bytes))
    assert ran.exit_code == 0
    return ran.captured


@contextlib.contextmanager
def piped(content: bytes, times: int = 1) -> Iterator[int]:
    """Give a pipe into which somebody writes this, as far as it is read."""
    ours, theirs = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            for _ in range(times):
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(theirs, rest) :]
        os.close(theirs)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield ours
    finally:
        os.close(ours)
        writer.join(WITHIN_S)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond that, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def closed_after(*descriptors: int) -> Iterator[None]:
    """Close what a test has opened, unless it did so itself."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def flags(descriptor: int) -> tuple[bool, int]:
    """Return what an open file shares with everybody who has it."""
    return os.get_blocking(descriptor), fcntl.fcntl(descriptor, fcntl.F_GETFL)


def watched(descriptor: int) -> bool:
    """Tell whether a loop of this process waits for something at a descriptor."""
    lines = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "eventpoll" in os.readlink(f"/proc/self/fd/{number}"):
                lines += Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii").splitlines()
    return any(line.startswith("tfd:") and int(line.split()[1]) == descriptor for line in lines)
