"""Where a command's output goes: one of our own descriptors, written to without ever waiting in the loop.

O_NONBLOCK belongs to the open file, which other processes share: it is never set on a descriptor that was given to us.
A pipe or a terminal is opened anew through /proc; a socket has a flag for each call; a plain file never makes one wait.
Only a terminal that may not be opened anew, because it is another user's, can make it wait, while nobody reads there.
"""

import asyncio
import os
import select
import stat
from collections.abc import Callable
from typing import Final

from supervisor.work.own_descriptor import copied, opened_anew
from supervisor.work.socket_calls import send_now

_TERMINAL_BYTES: Final = 128
"""One that is ready takes 256 at once, but for its last few, and may make two of a newline. A pipe takes PIPE_BUF."""

_NEW_TERMINALS: Final = os.makedev(5, 2)
"""/dev/ptmx: to open it anew makes another terminal."""


class Sink:
    """One destination. `trouble` says for a person why it takes no more; empty for a reader that is gone."""

    def __init__(self, descriptor: int) -> None:
        self.is_gone = False
        self.trouble = ""
        self._loop = asyncio.get_running_loop()
        self._is_watched_for_its_end = False
        found = os.fstat(descriptor)
        self._most = select.PIPE_BUF if stat.S_ISFIFO(found.st_mode) else _TERMINAL_BYTES
        self._take = self._write
        if stat.S_ISFIFO(found.st_mode) or (os.isatty(descriptor) and found.st_rdev != _NEW_TERMINALS):
            try:
                self._own = opened_anew(descriptor, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # somebody else's: small pieces then, when it is ready
                self._own, self._take = copied(descriptor), self._write_little
        else:
            self._own = copied(descriptor)
            if stat.S_ISSOCK(found.st_mode):
                self._take = self._send
            elif os.isatty(descriptor):
                self._take = self._write_little

    def write(self, chunk: memoryview) -> int:
        """Write what it takes now; return how many bytes. Zero and `is_gone`: it will take no more."""
        written = 0
        try:
            while written < len(chunk):
                written += self._take(chunk[written:])
        except BlockingIOError:
            pass
        except OSError as error:
            self.is_gone = True
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                self.trouble = str(error.strerror)
        return written

    def _write(self, chunk: memoryview) -> int:
        return os.write(self._own.number, chunk)

    def _send(self, chunk: memoryview) -> int:
        return send_now(self._own.number, chunk)

    def _write_little(self, chunk: memoryview) -> int:
        ready = select.poll()
        ready.register(self._own.number, select.POLLOUT)
        if not ready.poll(0):
            raise BlockingIOError
        return os.write(self._own.number, chunk[: self._most])

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call once its reader is gone, where that can be seen before something is written: at a nameless pipe.

        One that has a name may find another reader.
        """
        if os.readlink(f"/proc/self/fd/{self._own.number}").startswith("pipe:"):
            self._is_watched_for_its_end = True
            self._loop.add_reader(self._own.number, call)

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call once and again while it may take more, until `rest`. Only for what did not take all."""
        self._loop.add_writer(self._own.number, call)

    def rest(self) -> None:
        """Call no more."""
        self._loop.remove_writer(self._own.number)

    def close(self) -> None:
        """Close what was opened here; the descriptor that was given stays open."""
        if self._own.is_open:
            self.rest()
            if self._is_watched_for_its_end:
                self._loop.remove_reader(self._own.number)
            self._own.close()
