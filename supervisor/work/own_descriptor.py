"""A descriptor that belongs to this process alone: a forked child closes its copy.

It is known here from the moment it is made. A pipe's end that such a child kept would hide the end of the command.
"""

import fcntl
import os
from contextlib import suppress
from typing import Final

from supervisor.lock.forking import FORKING, let_no_child_keep, may_be_kept

PIPE_BYTES: Final = 256 * 1024
"""What a pipe to or from a command holds: it flows faster than through 64 KiB, which a pipe has by itself.

A user may have 64 MiB of pipes in all, and beyond that gets tiny ones in every program: enough for 85 commands at once.
"""


class OwnDescriptor:
    """An open descriptor, until `close`; its number is -1 from then on. Make it under FORKING, as below."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number
        let_no_child_keep(self)

    @property
    def is_open(self) -> bool:
        return self.number >= 0

    def close(self) -> None:
        """Close it; a second call changes nothing."""
        with FORKING:
            may_be_kept(self)
            self.let_go_in_child()

    def let_go_in_child(self) -> None:
        if self.is_open:
            number, self.number = self.number, -1
            os.close(number)


def own_pipe() -> tuple[OwnDescriptor, OwnDescriptor]:
    """Return a pipe's end to read from, and that to write to. One of PIPE_BYTES, unless the user has too many."""
    with FORKING:
        read, write = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return OwnDescriptor(read), OwnDescriptor(write)


def copied(descriptor: int) -> OwnDescriptor:
    """Return another descriptor of the same open file, which shares its offset and flags."""
    with FORKING:
        return OwnDescriptor(os.dup(descriptor))


def opened(path: str, flags: int) -> OwnDescriptor:
    """Open a file."""
    with FORKING:
        return OwnDescriptor(os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY))


def opened_anew(descriptor: int, flags: int) -> OwnDescriptor:
    """Open what a descriptor leads to once more, with an offset and flags of its own. OSError if it may not be."""
    return opened(f"/proc/self/fd/{descriptor}", flags)
