"""The streams of a simulated command: what it writes is kept and counts as output; nothing is passed on."""

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.testing.tree_script import TreeScript
from supervisor.tree.contract import Streams

if TYPE_CHECKING:
    OutputOf = weakref.ref["SimulatedStreams"]

_MOST_KEPT: Final = 64 * 1024
_UNSCRIPTED: Final = TreeScript()


class SimulatedStreams:
    """Stands in for `work.streams.CommandStreams`. The command's end is `say` and `end`."""

    def __init__(self, script: TreeScript, on_output: Callable[[], None]) -> None:
        self._script = script
        self._on_output = on_output
        self._kept = b""
        self._drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- the command's end

    def say(self, text: str) -> None:
        """Write something; once they are closed it goes nowhere, as to a closed pipe."""
        if not self._drained.done():
            self._kept = (self._kept + text.encode())[-_MOST_KEPT:]
            self._on_output()

    def end(self) -> None:
        """Nobody has them open any more."""
        if not (self._script.reader_stalls and self._kept):
            self._end()

    def _end(self) -> None:
        if not self._drained.done():
            self._drained.set_result(None)

    # --- our end

    def descriptors(self) -> Streams:
        """Return three that are none; they lead a SimulatedLauncher to the script, and to here."""
        return _Scripted.of(self._script, self)

    def close_theirs(self) -> None:
        """Close what the command has by now: nothing."""

    def feed(self) -> None:
        """Let the command read: it does not."""

    @property
    def drained(self) -> "asyncio.Future[None]":
        return self._drained

    def is_caught_up(self) -> bool:
        return not (self._script.reader_stalls and self._kept)

    def captured(self) -> tuple[bytes, bool]:
        return self._kept, False

    def tail(self) -> bytes:
        return self._kept

    def trouble(self) -> str:
        return ""

    def reader_is_gone(self) -> bool:
        return False

    def close(self) -> None:
        self._end()


class _Scripted(Streams):
    script: TreeScript
    output: "OutputOf"

    @classmethod
    def of(cls, script: TreeScript, output: SimulatedStreams) -> "_Scripted":
        streams = cls(-1, -1, -1)
        streams.script = script
        streams.output = weakref.ref(output)  # the supervisor's to keep: a tree may live longer than they
        return streams


def scripted(streams: Streams) -> "tuple[TreeScript, OutputOf | None]":
    """Return what a tree with these streams is to do, and where what it writes goes."""
    return (streams.script, streams.output) if isinstance(streams, _Scripted) else (_UNSCRIPTED, None)
