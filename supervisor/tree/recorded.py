"""Trees that somebody else has started, and of which only a record is left: is it gone, and how to stop it."""

import os
import signal

from supervisor.lock.life_file import NOT_SEEN, Death, Exited, read_life
from supervisor.owner import RecordedTree, starttime_of


def stop_tree(recorded: RecordedTree) -> bool:
    """Ask the warden of a recorded tree to stop it without grace; False: there is none, or it may not be asked.

    Its pid is trusted only together with its start time, through a descriptor that no other process comes by.
    """
    try:
        process = os.pidfd_open(recorded.pid)
    except OSError:
        return False
    try:
        if starttime_of(recorded.pid) != recorded.starttime:
            return False
        signal.pidfd_send_signal(process, signal.SIGUSR1)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def tree_gone(recorded: RecordedTree, renewed_at: float | None = None) -> tuple[Death, Exited]:
    """Tell by its life file whether a recorded tree is gone, and how its command ended; see `read_life`."""
    return (Death.UNKNOWN, NOT_SEEN) if recorded.life is None else read_life(recorded.life, renewed_at)
