"""What process 1 of a container inherits: whose parent has ended, and stays as a zombie until somebody waits for it.

An init such as tini does that; without one `turnkeeper serve` is process 1 itself.
"""

import os
from contextlib import suppress
from typing import Final

from supervisor.clock import Clock
from supervisor.proc import stat_of
from supervisor.tree.warden.processes import children

LOOK_S: Final = 5.0

INIT: Final = 1


async def reap_orphans(clock: Clock) -> None:
    """Go on waiting for them, in process 1; return at once in any other.

    One is waited for that was a zombie at two looks: whoever waits for a child of ours has done so by then.
    """
    if os.getpid() != INIT:
        return
    before: set[int] = set()
    while True:
        dead = {pid for pid in children(INIT) if (stat := stat_of(pid)) is not None and stat.is_dead}
        for pid in dead & before:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended
        before = dead - before
        await clock.sleep(LOOK_S)
