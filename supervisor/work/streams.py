"""One attempt's stdin, stdout and stderr, as its command has them."""

import fcntl
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.tree.contract import Streams
from supervisor.work.output import Output
from supervisor.work.sink import Sink
from supervisor.work.stdin import Input
from supervisor.work.tail import Tail

if TYPE_CHECKING:
    import asyncio

MOST_CAPTURED: Final = 1024 * 1024


class CommandStreams:
    """Pipes to and from a command. `close` lets go of all that was opened for it, whatever has become of it."""

    def __init__(self, stdin: Input, stdout: int | None, stderr: int | None, on_output: Callable[[], None]) -> None:
        self._sinks: dict[str, Sink] = {}
        self._captured = Tail(MOST_CAPTURED) if stdout is None else None
        self._stdin = stdin.open()
        try:
            one = stdout is not None and stderr is not None and _are_one(stdout, stderr)
            out, err = self._sink("stdout", stdout), None if one else self._sink("stderr", stderr)
            self._output = Output(out, err, on_output, one=one, captured=self._captured)
        except BaseException:
            self._close_sinks()
            self._stdin.close()
            raise

    def _sink(self, name: str, descriptor: int | None) -> Sink | None:
        if descriptor is None:
            return None
        self._sinks[name] = Sink(descriptor)
        return self._sinks[name]

    def descriptors(self) -> Streams:
        """Return what the command is started with."""
        return Streams(self._stdin.descriptor, self._output.stdout, self._output.stderr)

    def close_theirs(self) -> None:
        """Close what the command has by now."""
        self._stdin.close_theirs()
        self._output.close_theirs()

    def feed(self) -> None:
        """The command runs: it may read."""
        self._stdin.feed()

    @property
    def drained(self) -> "asyncio.Future[None]":
        """Done once all that it wrote was passed on, or nobody takes it any more."""
        return self._output.drained

    def is_caught_up(self) -> bool:
        """Tell whether all that is written so far was passed on, though more may come."""
        return self._output.is_caught_up()

    def captured(self) -> tuple[bytes, bool]:
        """Return the end of its stdout, where that goes nowhere else, and whether there was more before."""
        return (b"", False) if self._captured is None else (self._captured.bytes(), self._captured.is_cut)

    def tail(self) -> bytes:
        """Return the last 64 KiB of stdout and stderr, in order of arrival."""
        return self._output.tail.bytes()

    def trouble(self) -> str:
        """Return why its output could not be passed on; empty where it was, or where its reader went away."""
        troubles = ((name, sink.trouble) for name, sink in self._sinks.items())
        return ", ".join(f"{name} cannot be written: {trouble}" for name, trouble in troubles if trouble)

    def reader_is_gone(self) -> bool:
        """Tell whether somebody who read its output has gone away."""
        return any(sink.is_gone and not sink.trouble for sink in self._sinks.values())

    def close(self) -> None:
        """Close all of it; what was not passed on yet is dropped."""
        self._stdin.close()
        self._output.close()
        self._close_sinks()

    def _close_sinks(self) -> None:
        for sink in self._sinks.values():
            sink.close()


def _are_one(stdout: int, stderr: int) -> bool:
    """Tell whether both lead to one pipe or terminal, or to one place in one file."""
    try:
        same = os.path.sameopenfile(stdout, stderr)
        return same and (not stat.S_ISREG(os.fstat(stdout).st_mode) or _place(stdout) == _place(stderr))
    except OSError:
        return False


def _place(descriptor: int) -> tuple[int, int]:
    """Return a file's offset, and its flags: to append is another way to write."""
    return os.lseek(descriptor, 0, os.SEEK_CUR), fcntl.fcntl(descriptor, fcntl.F_GETFL)
