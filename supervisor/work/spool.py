"""A stdin that is kept while the command reads it, so that a later attempt reads the same from its start.

It reads ahead of the command by one pipe at most. What it has read it has taken: a program that reads the same pipe
after us does not see it, as it does not after a command that reads in blocks.
"""

import asyncio
import io
import os
import select
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Final

from supervisor.lock.forking import FORKING, let_no_child_keep, may_be_kept
from supervisor.os_error import reason_of
from supervisor.work.own_descriptor import PIPE_BYTES, copied, opened_anew, own_pipe
from supervisor.work.socket_calls import receive_now

MOST_SPOOLED: Final = 16 * 1024 * 1024
"""Bytes. What was read beyond that cannot be read again: the run may not retry then, reason `stdin_consumed`."""

_IN_MEMORY: Final = 256 * 1024
_NOTHING: Final = memoryview(b"")


class Spool:
    """A pipe, a socket or bytes, for the attempts of one run. `trouble`: why it could not be kept, for a person."""

    def __init__(self, source: int | bytes) -> None:
        self.is_consumed = False
        self.trouble = ""
        self._kept: IO[bytes] | None
        if isinstance(source, bytes):
            self._kept, self._size, self._source = io.BytesIO(source), len(source), None
        else:
            self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it lives as long as the spool
            self._size, self._source = 0, _Source(source)
        let_no_child_keep(self)

    def open(self) -> "Feed":
        """Return the next attempt's stdin. The one before is closed: only one at a time reads, and adds."""
        return Feed(self)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        with FORKING:
            may_be_kept(self)
            self.let_go_in_child()

    def let_go_in_child(self) -> None:
        if self._kept is not None:
            with suppress(OSError):  # what a full disk did not take is wanted by nobody
                self._kept.close()
            self._kept = None

    def after(self, given: int) -> memoryview | None:
        """Return what follows the first bytes, until the next call; nothing at the end; None if it is not there yet."""
        if self._kept is not None and given < self._size:
            self._kept.seek(given)
            return memoryview(self._kept.read(PIPE_BYTES))
        if self._source is None:
            return _NOTHING
        chunk = self._source.read()
        if chunk:
            self._keep(chunk)
        return chunk

    def when_more(self, call: Callable[[], None]) -> None:
        """Call once and again while there may be more, until `rest`."""
        assert self._source is not None, "bytes are all there"
        self._source.when_ready(call)

    def rest(self) -> None:
        """Call no more."""
        if self._source is not None:
            self._source.rest()

    def _keep(self, chunk: memoryview) -> None:
        self._size += len(chunk)
        if self._kept is None:
            return
        if self._size > MOST_SPOOLED:
            self.is_consumed = True
            self.let_go_in_child()
            return
        try:
            self._kept.write(chunk)
            self._kept.flush()  # a full disk is heard of here, and not when it is read
        except OSError as error:  # the command reads on, and there is no second time
            self.is_consumed, self.trouble = True, f"stdin cannot be kept for a retry: {reason_of(error)}"
            self.let_go_in_child()


class _Source:
    """Our own stdin, read a chunk at a time, and without ever waiting."""

    def __init__(self, given: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._is_at_end = False
        self._receive: Callable[[int, bytearray], int] = receive_now
        if stat.S_ISSOCK(os.fstat(given).st_mode):
            self._own = copied(given)
            return
        self._receive = _read
        try:
            self._own = opened_anew(given, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:  # somebody else's pipe: read when there is something
            self._own, self._receive = copied(given), _read_if_ready

    def read(self) -> memoryview | None:
        """Return what is there, until the next call; nothing at the end; None if it is not there yet."""
        if self._is_at_end:
            return _NOTHING
        if not self._buffer:
            self._buffer = bytearray(PIPE_BYTES)
        try:
            size = self._receive(self._own.number, self._buffer)
        except BlockingIOError:
            return None
        except OSError:
            size = 0
        if size == 0:
            self._is_at_end, self._buffer = True, bytearray()
            return _NOTHING
        return memoryview(self._buffer)[:size]

    def when_ready(self, call: Callable[[], None]) -> None:
        self._loop.add_reader(self._own.number, call)

    def rest(self) -> None:
        if self._own.is_open:
            self._loop.remove_reader(self._own.number)

    def close(self) -> None:
        self.rest()
        self._own.close()
        self._is_at_end, self._buffer = True, bytearray()


def _read(descriptor: int, into: bytearray) -> int:
    return os.readv(descriptor, [into])


def _read_if_ready(descriptor: int, into: bytearray) -> int:
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    if not ready.poll(0):  # another reader was faster, and we would wait
        raise BlockingIOError
    return _read(descriptor, into)


class Feed:
    """One attempt's pipe: what the spool has next, it writes as the command takes it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._theirs, self._pipe = own_pipe()
        os.set_blocking(self._pipe.number, False)
        self._rest = _NOTHING
        self._given = 0
        self._waits_for_more = False

    @property
    def descriptor(self) -> int:
        return self._theirs.number

    def close_theirs(self) -> None:
        self._theirs.close()

    def feed(self) -> None:
        self._loop.add_writer(self._pipe.number, self._go_on)

    def _go_on(self) -> None:
        """Write on. One chunk each time: the loop has other things to do."""
        if not self._rest:
            chunk = self._spool.after(self._given)
            if chunk is None:
                self._wait_for_more()
                return
            self._rest = chunk
            self._given += len(chunk)
        if not self._rest or not self._write():
            self.close()
        elif self._rest:
            self._wait_for_command()

    def _write(self) -> bool:
        """Write what the pipe takes. False: the command reads no more."""
        try:
            self._rest = self._rest[os.write(self._pipe.number, self._rest) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _wait_for_more(self) -> None:
        if not self._waits_for_more:
            self._waits_for_more = True
            self._loop.remove_writer(self._pipe.number)
            self._spool.when_more(self._go_on)

    def _wait_for_command(self) -> None:
        if self._waits_for_more:
            self._waits_for_more = False
            self._spool.rest()
            self._loop.add_writer(self._pipe.number, self._go_on)

    def close(self) -> None:
        self._theirs.close()
        if self._pipe.is_open:
            self._loop.remove_writer(self._pipe.number)
            self._spool.rest()
            self._pipe.close()
            self._rest = _NOTHING
