"""The exit statuses of the command, as in sysexits.h."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the command's end means to whoever started it."""

    OK = 0
    USAGE = 64
    """The command line is wrong, or names a policy that there is not."""
    CANNOT_CREATE = 73
    """A file could not be written."""
    IO = 74
    """What was asked for could not be printed."""
    SETTINGS = 78
    """The settings are wrong."""
    INTERRUPTED = 130
    """Stopped by SIGINT."""
