"""To arrive and to begin as one transaction: where nothing is made ready in between, and what is undone if it ends."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Policy
from supervisor import Attempt, Supervisor
from supervisor.clock import clock_of
from supervisor.events import Events
from supervisor.settings.values import Limits, Settings
from supervisor.store.sqlite import history
from supervisor.testing import SharedFile
from tests.conformance.test_store import GONE, Run
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import number_of, runs_in, store_on

ONE_SLOT = Settings(limits=Limits(1, None, None, None))


class Heard:
    """The names of the transactions that were committed; at one of them, `task` is cancelled in that very step."""

    def __init__(self, cancels_at: str = "") -> None:
        self.names: list[str] = []
        self.task: asyncio.Future[Any] | None = None
        self._cancels_at = cancels_at

    def __call__(self, _: object, name: str, __: object) -> None:
        self.names.append(name)
        if self.task is not None and name == self._cancels_at:
            self.task.cancel()


async def works(_: Attempt) -> str:
    return "done"


async def fails(_: Attempt) -> None:
    raise ValueError


async def test_work_of_this_process_begins_as_it_arrives() -> None:
    heard = Heard()
    async with Supervisor(store=store_on(SharedFile(heard))) as supervisor:
        await supervisor.run("s", works)
    assert heard.names[1:3] == ["arrive_and_begin", "record_attempt"]


async def test_work_that_waits_for_the_host_begins_when_it_has_its_slot() -> None:
    heard = Heard()
    async with Supervisor(ONE_SLOT, store=store_on(SharedFile(heard))) as supervisor:
        await supervisor.run("s", works)
    assert heard.names[1:5] == ["arrive", "take_slot", "begin", "record_attempt"]


async def test_work_under_a_lock_begins_when_it_has_it(tmp_path: Path) -> None:
    heard = Heard()
    async with Supervisor(store=store_on(SharedFile(heard))) as supervisor:
        await supervisor.run("s", works, lock=tmp_path / "file")
    assert heard.names[1:4] == ["arrive", "begin", "record_attempt"]


async def cancelled_as_it_arrives(supervisor: Supervisor, heard: Heard, policy: Policy) -> None:
    heard.task = task = asyncio.ensure_future(supervisor.run("s", works, policy=policy))
    with pytest.raises(asyncio.CancelledError):
        await task
    heard.task = None


async def test_one_that_is_cancelled_as_it_arrives_has_made_no_attempt_and_leaves_its_session_free() -> None:
    heard = Heard("arrive_and_begin")
    file = SharedFile(heard)
    async with Supervisor(store=store_on(file)) as supervisor:
        await cancelled_as_it_arrives(supervisor, heard, rules())
        assert number_of(file, "attempts") == 0
        [shape] = runs_in(file)
        assert (shape["status"], shape["attempts"]) == ("cancelled", [])
        assert history.run(file.connection, shape["run_id"]) is not None
        assert (await supervisor.run("s", works)).value == "done"


async def test_a_trial_that_is_cancelled_as_it_arrives_leaves_its_place_to_the_next() -> None:
    heard = Heard("arrive_and_begin")
    policy = rules(attempts=1, failures=1, cooldown_s=5.0)
    async with Supervisor(store=store_on(SharedFile(heard))) as supervisor:
        await supervisor.run_report("s", fails, policy=policy)
        await asyncio.sleep(10.0)
        await cancelled_as_it_arrives(supervisor, heard, policy)
        assert (await supervisor.run("s", works, policy=policy)).value == "done"


class AtOnce(Run):
    begins_at_once = True


async def test_asked_again_it_gives_the_attempt_that_it_gave() -> None:
    file = SharedFile()
    store = store_on(file)
    await store.open(clock_of(asyncio.get_running_loop()), Events(), None)
    run = AtOnce("run", rules())
    assert await store.arrive(run) is None
    assert await store.arrive(run) is None
    assert await store.begin(run) is None
    assert file.connection.execute("SELECT fence FROM attempts").fetchall() == [(run.fence,)]
    await store.record(run, None, GONE, None)
    await store.close()
