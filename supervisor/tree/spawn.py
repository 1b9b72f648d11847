"""Starting a warden: without a fork of this process, and with signals blocked from its first moment."""

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.tree.contract import Streams

WARDEN = str(Path(__file__).absolute().with_name("warden") / "__main__.py")


def spawn(streams: Streams, given: Sequence[int], *, holds_lock: bool) -> int:
    """Start a warden whose descriptors are the command's three, then the given ones; return its pid.

    One that `holds_lock` has the argument `openclaw`: a gateway takes away the lock of a process that has not.
    Call it under FORKING. Raises OSError, and Failure where it is not known which Python this is.
    """
    if not sys.executable:
        raise Failure(Kind.ERROR, "no command can be run: sys.executable does not say which Python this is")
    descriptors, copies = (*streams, *given), list[int]()
    try:
        for descriptor in descriptors:
            # Above all that a warden is given: no copy is overwritten before it is made.
            copies.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, len(descriptors)))
        named = ["openclaw"] if holds_lock else []
        arguments = [sys.executable, "-I", "-S", WARDEN, *named, str(os.getpid()), str(len(copies))]
        return os.posix_spawn(
            sys.executable,
            arguments,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, copy, place) for place, copy in enumerate(copies)],
            setsid=True,
            setsigmask=signal.valid_signals(),
        )
    finally:
        for copy in copies:
            os.close(copy)
