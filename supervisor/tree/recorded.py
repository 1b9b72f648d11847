"""Trees that somebody else has started, and of which only a record is left: is it gone, and how to stop it."""

import os
import signal
from pathlib import Path

from supervisor.lock import contents, lock_file
from supervisor.owner import starttime_of, this_process
from supervisor.tree.contract import Death, Exited, RecordedTree

NOT_SEEN = Exited(None, None)


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


def tree_gone(recorded: RecordedTree) -> tuple[Death, Exited]:
    """Tell by its life file whether a recorded tree is gone, and how its command ended.

    Held: alive, however silent. Free: gone if it says so, or if it is of another boot; else unknown, and so is a file
    that is missing, or not to be read.
    """
    return (Death.UNKNOWN, NOT_SEEN) if recorded.life is None else read_life(recorded.life)


def read_life(life: Path) -> tuple[Death, Exited]:
    """Do as `tree_gone`, of one life file."""
    try:
        descriptor = os.open(life, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Death.UNKNOWN, NOT_SEEN
    try:
        if lock_file.is_flocked(descriptor):
            return Death.ALIVE, NOT_SEEN
        parsed = contents.parse(os.pread(descriptor, contents.MOST_BYTES + 1, 0))  # after its flock was seen free
    except OSError:
        return Death.UNKNOWN, NOT_SEEN
    finally:
        os.close(descriptor)
    if isinstance(parsed, str) or parsed.ours is None:
        return Death.UNKNOWN, NOT_SEEN
    ours = parsed.ours
    if ours.gone:
        return Death.GONE, Exited(ours.exit_code, ours.signal)
    is_of_another_boot = "" != ours.boot_id != this_process().boot_id != ""
    return (Death.GONE if is_of_another_boot else Death.UNKNOWN), NOT_SEEN
