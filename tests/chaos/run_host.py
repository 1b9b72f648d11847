"""A program that uses the library, for the chaos tests: python run_host.py FOLDER COMMAND...

It runs a command under a lock, and while that runs it starts a fork pool whose workers live on. Says `ready` then.
"""

import asyncio
import multiprocessing
import os
import sys
import time
from pathlib import Path

from supervisor import Command, Supervisor


async def main(folder: Path, command: list[str]) -> None:
    async with Supervisor() as supervisor:
        run = asyncio.ensure_future(supervisor.run("s", Command(command), lock=folder / "reports.jsonl"))
        while not (folder / "runs").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=time.sleep, args=(60,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        (folder / "workers").write_text(" ".join(str(worker.pid) for worker in workers))
        os.write(1, b"ready\n")
        await run


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
