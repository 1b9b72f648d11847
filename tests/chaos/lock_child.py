"""What the chaos tests of the session lock run in processes of their own.

python lock_child.py COMMAND TRANSCRIPT [ARGUMENT...]; each prints one line of JSON at a time.
"""

import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policies.policy import LockRule, Pids
from supervisor import owner
from supervisor.clock import SystemClock
from supervisor.errors import Failure
from supervisor.lock import session_lock
from supervisor.lock.held_lock import HeldFile
from supervisor.lock.session_lock import LockWait, SystemLockFiles

CLOCK = SystemClock()
LOCKS = SystemLockFiles(CLOCK)
NEVER_STARTED = 2**60


def say(**facts: Any) -> None:
    print(json.dumps(facts, default=str), flush=True)


async def take(transcript: Path, wait_s: float = 60.0) -> HeldFile:
    wait = LockWait(CLOCK, None, lambda busy: None, lambda path, proof: None)
    held = await session_lock.take(LOCKS, transcript, LockRule(wait_s=wait_s, pids=Pids.OURS), 60, wait)
    assert isinstance(held, HeldFile)
    return held


def foreign(pid: int | None = None, starttime: int | None = None) -> str:
    """Return a lock as OpenClaw writes it; without a pid, of this process."""
    me = owner.this_process()
    shape = {
        "pid": pid or me.pid,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "maxHoldMs": 1,
        "starttime": starttime or me.starttime,
    }
    return json.dumps(shape, indent=2) + "\n"


def hold(transcript: Path) -> None:
    """Hold the lock until a line comes in."""
    held = asyncio.run(take(transcript))
    say(pid=os.getpid(), took_at=time.monotonic())
    sys.stdin.readline()
    say(said=held.release(), at=time.monotonic())


def hold_foreign(transcript: Path) -> None:
    """Hold a lock in OpenClaw's way until a line comes in."""
    Path(f"{transcript}.lock").write_text(foreign())
    say(pid=os.getpid())
    sys.stdin.readline()


def wait(transcript: Path) -> None:
    """Say that it waits, then when it has it."""
    say(waits=True)
    held = asyncio.run(take(transcript))
    say(took_at=time.monotonic())
    held.release()


def contend(transcript: Path, log: str, rounds: str, leave: str) -> None:
    """Take the lock again and again, note each stay in a log; `leave` it released, or as a killed holder would."""
    log_file = os.open(log, os.O_APPEND | os.O_WRONLY)
    dice = random.Random(os.getpid())
    leaves: dict[str, Callable[[HeldFile], None]] = {
        "released": lambda held: None if held.release().endswith("released") else say(lost=str(held)),
        "killed": lambda held: held._let_go("killed"),
        "killed foreign": _leave_foreign,
    }

    async def go() -> None:
        for _ in range(int(rounds)):
            held = await take(transcript)
            os.write(log_file, f"+ {os.getpid()}\n".encode())
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.002)
            os.write(log_file, f"- {os.getpid()}\n".encode())
            leaves[leave](held)
            await asyncio.sleep(dice.random() * 0.001)

    asyncio.run(go())


def _leave_foreign(held: HeldFile) -> None:
    # In one step, so that the place is never free: a rename over our own file, by which it becomes another's.
    stale = held.path.with_name(f"stale-{os.getpid()}")
    stale.write_text(foreign(os.getpid(), NEVER_STARTED))
    stale.rename(held.path)
    held._let_go("now a foreign one's")


def fork(transcript: Path) -> None:
    """Hold the lock, and have a forked child that outlives us; the child tries to release it."""
    held = asyncio.run(take(transcript))
    if os.fork() == 0:
        say(child=os.getpid(), said=held.release(), left=Path(held.path).exists())
        time.sleep(20)
        os._exit(0)
    time.sleep(20)


def judge(transcript: Path, *pids: str) -> None:
    """Judge the lock, without removing it on proof for any other asker, under each rule."""
    verdicts: dict[str, Any] = {}
    for rule in pids:
        content = Path(f"{transcript}.lock").read_bytes()
        busy = asyncio.run(LOCKS.judge(transcript, Pids(rule)))
        verdicts[rule] = None if busy is None else asdict(busy)
        if busy is None:
            Path(f"{transcript}.lock").write_bytes(content)
    say(**verdicts, initial=owner.in_initial_pid_namespace(), gateway=owner.gateway_visible())


def take_small(transcript: Path, largest: str) -> None:
    """Take the lock where a file may have only so many bytes, or no limit; say how that failed."""
    if largest != "any":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
    try:
        held = LOCKS.take_now(transcript, 60)
    except Failure as failure:
        say(kind=failure.kind, message=str(failure), left=os.listdir(transcript.parent))
    else:
        say(took=str(held))


def _become_nobody(transcript: Path) -> None:
    asyncio.run(LOCKS.judge(transcript, Pids.UNKNOWN))  # imports what nobody may not read where Python is root's
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    owner._forget()


def take_as_nobody(transcript: Path) -> None:
    """Take the lock as a user who owns nothing."""
    _become_nobody(transcript)
    take_small(transcript, "any")


def judge_as_nobody(transcript: Path, pids: str) -> None:
    """Judge the lock as a user who owns nothing."""
    _become_nobody(transcript)
    busy = asyncio.run(LOCKS.judge(transcript, Pids(pids)))
    say(busy=None if busy is None else asdict(busy))


if __name__ == "__main__":
    commands = (
        hold, hold_foreign, wait, contend, fork, judge, take_small, take_as_nobody, judge_as_nobody,
    )  # fmt: skip
    {command.__name__: command for command in commands}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
