"""What the tests of life files run in processes of their own.

python life_child.py COMMAND LIFE [ARGUMENT...]; each prints one line of JSON at a time.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.clock import SystemClock
from supervisor.lock.contents import warden_payload
from supervisor.lock.life_file import Death, LifeFile, RecordedOwner, owner_death, read_life, sweep
from supervisor.owner import RecordedTree, this_process
from supervisor.tree.launcher import SystemLauncher

WORKERS = 3


def say(**facts: Any) -> None:
    os.write(1, (json.dumps(facts) + "\n").encode())  # in one piece: workers share it


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def live(life: Path) -> None:
    """Have a life file until a line comes in."""
    mine = LifeFile.make(life.parent, life.name, time.time())
    say(pid=os.getpid(), at=boottime())
    sys.stdin.readline()
    mine.close()
    say(left=life.exists())


def live_with_pool(life: Path) -> None:
    """Have a life file, and workers of a fork pool that outlive us."""
    mine = LifeFile.make(life.parent, life.name, time.time())
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(_work, range(WORKERS), chunksize=1)
    mine.close()


def _work(_: int) -> None:
    say(worker=os.getpid())
    time.sleep(60)


def live_with_child(life: Path) -> None:
    """Have a life file, and a child by exec that outlives us."""
    mine = LifeFile.make(life.parent, life.name, time.time())
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    say(worker=child.pid)
    child.wait()
    mine.close()


def fork_and_close(life: Path) -> None:
    """Have a life file, and a forked child that closes what it has got of it."""
    mine = LifeFile.make(life.parent, life.name, time.time())
    child = os.fork()
    if child == 0:
        mine.close()
        os._exit(0)
    os.waitpid(child, 0)
    say(after_child=read_life(life)[0].name, left=life.exists())
    sys.stdin.readline()
    mine.close()
    say(left=life.exists())


def leave_as_killed_warden(life: Path) -> None:
    """Leave the life file of a warden that was killed: free, and it does not say that its tree is gone."""
    me = this_process()
    content, _ = warden_payload(
        me.pid, me.starttime, created_unix=time.time(), max_hold_s=0.0, nonce=life.name, room_bytes=64
    )
    life.write_bytes(content)
    say(at=boottime())


def tell(life: Path, renewed_at: str) -> None:
    """Tell what is known of an owner that was last renewed then; and without that."""
    owner = RecordedOwner("o", life, float(renewed_at))
    tree, _ = SystemLauncher(SystemClock()).tree_gone(RecordedTree(7, 8, life), owner.renewed_at)
    known = {"known": owner_death(owner).name, "tree": tree.name, "without": read_life(life)[0].name}
    say(**known, init_start=this_process().init_start)


def look(life: Path, rounds: str) -> None:
    """Look again and again whether somebody has a file that nobody has."""
    say(ready=True)
    sys.stdin.readline()
    say(held=sum(read_life(life)[0] is Death.ALIVE for _ in range(int(rounds))))


def sweep_at_once(alive: Path) -> None:
    """Sweep when a line comes in."""
    clock = SystemClock()
    say(ready=True)
    sys.stdin.readline()
    say(removed=sweep(alive, lambda life: life.name.startswith("kept"), clock.wall()))


if __name__ == "__main__":
    commands: tuple[Callable[..., None], ...] = (
        live, live_with_pool, live_with_child, fork_and_close, leave_as_killed_warden, tell, look, sweep_at_once,
    )  # fmt: skip
    {command.__name__: command for command in commands}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
