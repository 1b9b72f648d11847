"""What the operating system refuses, in words: of a limit also which it is, and what to do about it."""

import errno
import os


def reason_of(error: OSError) -> str:
    """Return why it refused, for a person, without the path."""
    reason = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        most = os.sysconf("SC_OPEN_MAX")  # and not the module `resource`: it is a file that would have to be opened
        reason += f": this process may have {most} at once; raise that limit (ulimit -n)"
    return reason
