"""A supervisor's process for the chaos tests: it parks a tree, and comes to grief at some step.

python tree_host.py FOLDER KEEP_LIFE STEP COMMAND...: says one line of JSON about the tree, then stays until it is gone.
STEP: where it kills itself with SIGKILL (starting, parked, going, running, exited, stopping), or `stay`, or `fork`,
where a child of it lives on, as a fork pool's worker does.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from supervisor.clock import SystemClock
from supervisor.tree.contract import LockWanted, Program, Streams
from supervisor.tree.launcher import SystemLauncher


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def say(**facts: object) -> None:
    print(json.dumps(facts, default=str), flush=True)


def fork_now_and_then(workers: list[int]) -> None:
    """Fork while a tree is being parked, from another thread: 20 workers, which live for a minute at most."""
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        workers.append(pid)
        time.sleep(0.002)


async def run(folder: Path, keep_life: bool, step: str, command: list[str]) -> None:  # noqa: FBT001 - the command line's
    launcher = SystemLauncher(SystemClock(), folder / "alive", keep_life=keep_life)
    out = os.open(folder / "out", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    workers: list[int] = []
    # First used between the two halves of a fork, its module would have only the second of its handlers called.
    await asyncio.to_thread(int)
    forking = threading.Thread(target=fork_now_and_then, args=(workers,))
    if step == "fork":
        forking.start()
    parking = asyncio.ensure_future(launcher.park(Streams(0, out, out), LockWanted(folder / "reports.jsonl", 60.0)))
    if step == "starting":
        await asyncio.sleep(0.001)
        die()
    tree = await parking
    assert tree is not None
    say(warden=tree.recorded.pid, starttime=tree.recorded.starttime, life=tree.recorded.life)
    if step == "parked":
        die()
    going = asyncio.ensure_future(tree.go(Program(command, dict(os.environ))))
    if step == "going":
        await asyncio.sleep(0)
        die()
    await going
    if step == "fork":
        await asyncio.to_thread(forking.join)
        say(workers=workers)
    while "ready" not in (folder / "out").read_text():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.005)
    say(ready=True)
    if step == "running":
        die()
    if step == "exited":
        await tree.exited()
        die()
    if step == "stopping":
        tree.stop(30.0)
        await asyncio.sleep(0.05)
        die()
    say(gone=await tree.gone())
    tree.forget()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2] == "keep", sys.argv[3], sys.argv[4:]))
