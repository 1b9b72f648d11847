"""What stands where the database should be: a file, nothing yet, or what can be no database.

It is only looked at. Nothing but SQLite opens it, and what is no plain file is not even left to SQLite: to open a FIFO
waits for whoever writes to it.
"""

import os
import stat
from pathlib import Path

from supervisor.errors import StoreUnavailable
from supervisor.os_error import reason_of


def is_there(path: Path) -> bool:
    """Tell whether there is a file; StoreUnavailable where that cannot be seen, or something else is there."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreUnavailable(
            f"the state {path} cannot be opened: {reason_of(error)}; name another one with --state"
        ) from error
    if stat.S_ISDIR(mode):
        raise StoreUnavailable(f"the state {path} is a folder: name a file, such as {path / 'state.db'}")
    if not stat.S_ISREG(mode):
        raise StoreUnavailable(f"the state {path} is no plain file but {_kind(mode)}: name another one with --state")
    if not os.access(path, os.R_OK, effective_ids=True):
        raise StoreUnavailable(f"the state {path} may not be read by this user: name another one with --state")
    return True


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
