"""A command's stdout and stderr, passed on byte for byte in the order of arrival, and their last bytes kept.

The pipes between are ours, so they never make the loop wait. What our own reader does not take stays in them, and the
command waits as it would without us: nothing is read before the last of what was read is written.
"""

import asyncio
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Final

from supervisor.work.own_descriptor import PIPE_BYTES, OwnDescriptor, own_pipe
from supervisor.work.sink import Sink
from supervisor.work.tail import Tail

MOST_KEPT: Final = 64 * 1024
"""Bytes of the tail: what a rule's pattern is searched in."""


class Output:
    """The output of one attempt's command.

    `stdout` and `stderr` are the descriptors for the command, until `close_theirs`. Where both go to one place they are
    one pipe: nothing else keeps their order.
    """

    def __init__(
        self,
        stdout: Sink | None,
        stderr: Sink | None,
        on_output: Callable[[], None],
        *,
        one: bool,
        captured: Tail | None = None,
    ) -> None:
        self.tail = Tail(MOST_KEPT)
        self._on_output = on_output
        self._theirs: list[OwnDescriptor] = []
        self._streams: list[_Stream] = []
        self._all_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self.stdout = self._add(stdout, captured)
            self.stderr = self.stdout if one else self._add(stderr, None)
        except BaseException:
            self.close()
            raise

    def _add(self, sink: Sink | None, captured: Tail | None) -> int:
        ours, theirs = own_pipe()
        self._theirs.append(theirs)
        self._streams.append(_Stream(ours, sink, captured, self._note, self._on_output, self._ended))
        return theirs.number

    def is_caught_up(self) -> bool:
        """Tell whether nothing waits, here or in the pipes."""
        return all(stream.is_caught_up() for stream in self._streams)

    def _note(self, chunk: memoryview) -> None:
        self.tail.add(chunk)
        self._on_output()

    def _ended(self) -> None:
        if not self._all_ended.done() and all(stream.is_over for stream in self._streams):
            self._all_ended.set_result(None)

    def close_theirs(self) -> None:
        """Close the command's ends: it has its own by now, and ours would hide its end."""
        for end in self._theirs:
            end.close()

    @property
    def drained(self) -> "asyncio.Future[None]":
        """Done once all was passed on, to the end of file of each stream, or nobody takes it any more."""
        return self._all_ended

    def close(self) -> None:
        """Close all that was opened here; what was not passed on yet is dropped."""
        self.close_theirs()
        for stream in self._streams:
            stream.close()


class _Stream:
    """From one pipe to its sink."""

    def __init__(
        self,
        source: OwnDescriptor,
        sink: Sink | None,
        captured: Tail | None,
        note: Callable[[memoryview], None],
        taken: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._captured = captured
        self._note = note
        self._when_taken = taken
        self._when_ended = ended
        self._buffer = bytearray()
        self._rest = memoryview(b"")
        self._loop_reads = True
        os.set_blocking(source.number, False)
        self._loop.add_reader(source.number, self._read)
        if sink is not None:
            sink.when_gone(lambda: self._reader_is_gone(sink))

    @property
    def is_over(self) -> bool:
        return not self._source.is_open

    def is_caught_up(self) -> bool:
        if self.is_over:
            return True
        waiting = fcntl.ioctl(self._source.number, termios.FIONREAD, bytes(4))
        return not self._rest and not any(waiting)

    def _read(self) -> None:
        if not self._buffer:
            self._buffer = bytearray(PIPE_BYTES)
        try:
            size = os.readv(self._source.number, [self._buffer])
        except BlockingIOError:
            return
        if size == 0:
            self.close()
            return
        chunk = memoryview(self._buffer)[:size]
        self._note(chunk)
        if self._captured is not None:
            self._captured.add(chunk)
        if self._sink is not None:
            self._rest = chunk
            self._pass_on(self._sink)

    def _reader_is_gone(self, sink: Sink) -> None:
        sink.is_gone = True
        self.close()

    def _pass_on(self, sink: Sink) -> None:
        was_waiting = not self._loop_reads
        taken = sink.write(self._rest)
        self._rest = self._rest[taken:]
        if was_waiting and taken:
            self._when_taken()  # slow is not idle
        if sink.is_gone:
            self.close()  # the command sees a closed pipe
        elif self._rest and not was_waiting:
            self._loop_reads = False
            self._loop.remove_reader(self._source.number)
            sink.when_ready(lambda: self._pass_on(sink))
        elif not self._rest and was_waiting:
            sink.rest()
            self._loop_reads = True
            self._loop.add_reader(self._source.number, self._read)

    def close(self) -> None:
        if self.is_over:
            return
        if self._loop_reads:
            self._loop.remove_reader(self._source.number)
        if self._sink is not None:
            self._sink.close()
        self._source.close()
        self._rest, self._buffer = memoryview(b""), bytearray()
        self._when_ended()
