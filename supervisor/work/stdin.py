"""A command's stdin. Each attempt of a run reads the same from its start, as far as that can be had again.

a plain file                 opened anew at the offset where it stood: each attempt reads the file itself
a pipe, a socket, bytes      spooled, while the command reads
a terminal, a device, none   passed on as it is: what an attempt has read, the next one does not see
"""

import fcntl
import os
import stat
from typing import Final, Protocol

from supervisor.work.own_descriptor import OwnDescriptor, copied, opened, opened_anew
from supervisor.work.spool import Spool


class Opened(Protocol):
    """One attempt's stdin."""

    @property
    def descriptor(self) -> int:
        """What the command is started with, until `close_theirs`."""
        ...

    def close_theirs(self) -> None:
        """The command has it by now."""
        ...

    def feed(self) -> None:
        """The command reads from now on."""
        ...

    def close(self) -> None:
        """Feed the command no more: it has ended."""
        ...


class Input(Protocol):
    """What the attempts of one run read.

    `is_consumed`: an attempt has read what no later one could; `trouble` says for a person what went wrong with it.
    """

    @property
    def is_consumed(self) -> bool: ...

    @property
    def trouble(self) -> str: ...

    def open(self) -> Opened: ...

    def close(self) -> None:
        """Let go of all that was kept for later attempts."""
        ...


def input_of(given: int | bytes | None) -> Input:
    """Return the input that bytes or one of our own descriptors is; one that is closed reads as an empty one."""
    if not isinstance(given, int):
        return Spool(given) if given else Passed(None)
    try:
        mode, flags = os.fstat(given).st_mode, fcntl.fcntl(given, fcntl.F_GETFL)
    except OSError:
        return Passed(None)
    if flags & os.O_ACCMODE == os.O_WRONLY:  # what opens it anew could read what is meant for somebody else
        return Passed(given)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return Spool(given)
    if _is_of_others(given):
        return Passed(None)
    return File(given) if stat.S_ISREG(mode) else Passed(given)


def _is_of_others(given: int) -> bool:
    """Tell whether it is a terminal in whose foreground somebody else is: in a session of its own, a command would not
    be stopped for reading there, and would take what is typed for a shell.
    """
    try:
        return os.isatty(given) and os.tcgetpgrp(given) != os.getpgrp()
    except OSError:  # a terminal, and not the one that controls us
        return False


class _AsItIs:
    """A descriptor that needs no feeding."""

    def __init__(self, theirs: OwnDescriptor) -> None:
        self._theirs = theirs

    @property
    def descriptor(self) -> int:
        return self._theirs.number

    def close_theirs(self) -> None:
        self._theirs.close()

    def feed(self) -> None:
        """The command reads by itself."""

    def close(self) -> None:
        self._theirs.close()


class Passed:
    """A descriptor as it is; None: nothing to read."""

    is_consumed: Final = False
    trouble: Final = ""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def open(self) -> Opened:
        return _AsItIs(opened(os.devnull, os.O_RDONLY) if self._descriptor is None else copied(self._descriptor))

    def close(self) -> None:
        """Nothing was kept."""


class File:
    """A plain file, from the offset where it stood. It is left where the last attempt's command has read to."""

    is_consumed: Final = False
    trouble: Final = ""

    def __init__(self, descriptor: int) -> None:
        self._given = copied(descriptor)
        self._offset = os.lseek(descriptor, 0, os.SEEK_CUR)

    def open(self) -> Opened:
        try:
            anew = opened_anew(self._given.number, os.O_RDONLY)
        except OSError:  # readable for whoever opened it, and not for us: then by the offset that all share
            anew = copied(self._given.number)
        os.lseek(anew.number, self._offset, os.SEEK_SET)
        return _OpenedFile(anew, self._given)

    def close(self) -> None:
        self._given.close()


class _OpenedFile(_AsItIs):
    """The file as one attempt reads it."""

    def __init__(self, theirs: OwnDescriptor, given: OwnDescriptor) -> None:
        super().__init__(theirs)
        self._given = given
        self._has_run = False

    def close_theirs(self) -> None:
        """Nothing: it shares the command's offset, which is asked for in the end."""

    def feed(self) -> None:
        self._has_run = True

    def close(self) -> None:
        if self._has_run and self._theirs.is_open and self._given.is_open:
            os.lseek(self._given.number, os.lseek(self._theirs.number, 0, os.SEEK_CUR), os.SEEK_SET)
        super().close()
