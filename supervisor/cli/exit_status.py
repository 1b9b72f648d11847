"""The exit statuses of the command, as in sysexits.h."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the command's end means to whoever started it. `turnkeeper run` also ends with the command's own status."""

    OK = 0
    FAILED = 1
    """A rule says that a command failed which exited with status 0."""
    USAGE = 64
    """The command line is wrong, or names a policy that there is not."""
    NO_INPUT = 66
    """What was named is not there, or cannot be read, or not all of it."""
    UNAVAILABLE = 69
    """The state cannot be used: nothing was started that it does not know of."""
    UNCONFIRMED = 70
    """Something of a run may still live; or it stood still for longer than its lease, and lost its session."""
    NOT_STARTED = 71
    """The machine refused what a run needs: a warden, its life file, the lock file."""
    CANNOT_CREATE = 73
    """A file could not be written."""
    IO = 74
    """What was asked for could not be printed."""
    REFUSED = 75
    """The run was not allowed to start: try later."""
    NOT_PERMITTED = 77
    """What was to be removed may not be removed from here."""
    SETTINGS = 78
    """The settings are wrong."""
    TIMED_OUT = 124
    """The last attempt timed out, or was idle for too long."""
    INTERRUPTED = 130
    """Stopped by SIGINT; 128 and the number of any other signal that it was stopped by."""
    MEMORY = 137
    """The last attempt held too much memory, or the kernel killed it for memory."""
