"""The exit statuses of the command, as in sysexits.h."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the command's end means to whoever started it. `turnkeeper run` also ends with the command's own status."""

    OK = 0
    FAILED = 1
    """A rule says that a command failed which exited with status 0."""
    USAGE = 64
    """The command line is wrong, or names a policy that there is not."""
    UNCONFIRMED = 70
    """Something of a run may still live."""
    NOT_STARTED = 71
    """The machine refused what a run needs: a warden, its life file, the lock file."""
    CANNOT_CREATE = 73
    """A file could not be written."""
    IO = 74
    """What was asked for could not be printed."""
    REFUSED = 75
    """The run was not allowed to start: try later."""
    SETTINGS = 78
    """The settings are wrong."""
    TIMED_OUT = 124
    """The last attempt timed out, or was idle for too long."""
    INTERRUPTED = 130
    """Stopped by SIGINT; 128 and the number of any other signal that it was stopped by."""
    MEMORY = 137
    """The last attempt held too much memory, or the kernel killed it for memory."""
