"""SIGSTOP of a supervisor at each step of a run, for longer than its lease: the next one runs, nothing is done twice.

When it goes on, it changes nothing of what was decided meanwhile. FREEZE_ROUNDS=20 is for each step so many times.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import Supervisor
from supervisor.store.sqlite.store import SqliteStore
from tests.chaos.hosts import Hosts, hosts_of
from tests.chaos.step_host import LEASE_S, PLACES, TRANSACTIONS
from tests.chaos.test_kill_each_step import Killed, assert_nothing_missing, check, run_next
from tests.supervisor.tree.trees import until

ROUNDS = int(os.environ.get("FREEZE_ROUNDS", "1"))

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(60 + 20 * ROUNDS)]

AFTER = [name for name in TRANSACTIONS if name != "unregister"]
"""Within a transaction it would keep everybody out of the state; when it is unregistered it has nothing any more."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts_of("step_host", folder) as hosts:
        yield hosts
    assert "Traceback" not in (folder / "stderr").read_text()


@pytest.mark.parametrize("step", [*AFTER, *PLACES])
async def test_a_supervisor_that_stands_still_there(step: str, hosts: Hosts, tmp_path: Path) -> None:
    frozen = Killed(tmp_path, hosts)
    dice = random.Random(step)
    async with Supervisor(store=SqliteStore(frozen.state, LEASE_S)) as supervisor:
        for _ in range(ROUNDS):
            pid = await asyncio.to_thread(freeze_one, frozen, step, dice)
            try:
                await run_next(supervisor, frozen, "reports.jsonl")
                before = frozen.ended()
            finally:
                os.kill(pid, signal.SIGCONT)
            assert await asyncio.to_thread(hosts.wait, pid) == 0
            check(frozen, before, [])
        assert_nothing_missing(frozen)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def freeze_one(frozen: Killed, step: str, dice: random.Random) -> int:
    work = "hangs" if step == "at stop" else "command"
    order = {"folder": frozen.folder, "step": step, "moment": "after", "work": work, "number": int(signal.SIGSTOP)}
    pid = frozen.hosts.start(**order, nth=dice.randint(1, TRANSACTIONS.get(step, 2)))
    until(lambda: state_of(pid) in "TZ", "it stands still")
    assert state_of(pid) == "T", f"it never came there: {order}"
    return pid
