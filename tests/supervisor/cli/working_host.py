"""A program that uses the library, for the tests of commands: python working_host.py STATE SESSION [deaf].

Its work is its own: it sleeps in this process, and ignores its cancellation where it is deaf. Says `working` once it
does, and how its run ended.
"""

import asyncio
import os
import sys

from policies.policy import AttemptLimits, Policy
from supervisor import Attempt, Supervisor
from supervisor.settings.values import Settings, State


async def work(_: Attempt) -> None:
    os.write(1, b"working\n")
    until = asyncio.get_running_loop().time() + 60.0
    while (left_s := until - asyncio.get_running_loop().time()) > 0.0:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            if "deaf" not in sys.argv:
                raise


async def main(state: str, session: str) -> None:
    policy = Policy("default", attempt=AttemptLimits(grace_s=0.2))
    async with Supervisor(Settings(policies={"default": policy}, state=State(f"sqlite://{state}"))) as supervisor:
        report = await supervisor.run_report(session, work)
        os.write(1, f"{report.status} {report.reason}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
