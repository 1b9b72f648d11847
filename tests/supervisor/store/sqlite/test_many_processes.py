"""Several simulated processes on one store: how soon each hears of the others."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from policies.policy import AttemptLimits, Policy
from supervisor import RunFailed, Supervisor
from supervisor.lock.life_file import Death, RecordedOwner
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import (
    Blow,
    InlineDatabase,
    Process,
    ScriptedWork,
    SharedFile,
    SimulatedLauncher,
    Strike,
    World,
    hangs,
    succeeds,
    virtual_clock,
)

POLICIES = {
    "default": Policy("default"),
    "short": Policy("short", AttemptLimits(timeout_s=1.0, grace_s=0.25)),
}


class _Life:
    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Nothing: the world says who lives."""


class Host:
    """A world with one file for all of its processes."""

    def __init__(self, world: World) -> None:
        self.world, self.file = world, SharedFile()

    def supervisor(self, process: Process, strikes: Sequence[Strike]) -> Supervisor:
        """Make one for that process."""
        database = InlineDatabase(self.file, process, strikes=strikes)
        store = SqliteStore(Path("/state/state.db"), 1.0, database, lambda *_: _Life(process.life))
        return Supervisor(
            policies=POLICIES,
            clock=self.world.clock,
            store=store,
            launcher=SimulatedLauncher(keep_life=True),
            owner_death=self._death,
        )

    def _death(self, recorded: RecordedOwner) -> Death:
        return Death.ALIVE if self.world.holds_life(recorded.life) else Death.GONE

    def start(
        self, name: str, work: Callable[[Supervisor], Coroutine[Any, Any, object]], strikes: Sequence[Strike] = ()
    ) -> Process:
        """Start a process that does something with a supervisor of its own."""
        process = self.world.process(name)

        async def serve() -> None:
            async with self.supervisor(process, strikes) as supervisor:
                await work(supervisor)

        process.start(serve())
        return process


def on_host(main: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    with virtual_clock() as clock:
        host = Host(World(clock))
        host.world.run(main(host))
        host.file.connection.close()


def test_a_session_is_handed_over_within_a_poll_though_the_other_process_had_begun_a_long_sleep() -> None:
    holds, waits = ScriptedWork(succeeds(0.02)), ScriptedWork(succeeds())

    async def main(host: Host) -> None:
        async def first(supervisor: Supervisor) -> None:
            await supervisor.run("s", holds)

        async def second(supervisor: Supervisor) -> None:
            await supervisor.run("s", waits)

        host.start("first", first)
        host.start("second", second)
        await host.world.clock.sleep(1.0)
        ended_at = holds.attempts[0].ended_at
        assert ended_at is not None
        assert waits.attempts[0].started_at - ended_at <= 0.006

    on_host(main)


def test_a_killed_process_is_found_by_another_that_waits_for_its_session() -> None:
    holds, waits = ScriptedWork(hangs()), ScriptedWork(succeeds())

    async def main(host: Host) -> None:
        async def first(supervisor: Supervisor) -> None:
            await supervisor.run("s", holds)

        async def second(supervisor: Supervisor) -> None:
            await supervisor.run("s", waits)

        killed = host.start("first", first)
        await host.world.clock.sleep(0.01)
        host.start("second", second)
        await host.world.clock.sleep(1.0)
        assert not waits.attempts
        killed.kill()
        await host.world.clock.sleep(0.25)
        assert len(waits.attempts) == 1
        rows = host.file.connection.execute("SELECT outcome, kind FROM attempts ORDER BY fence").fetchall()
        assert rows == [("failed", "lost"), ("succeeded", None)]

    on_host(main)


def test_a_quarantine_is_lifted_though_the_store_could_not_take_that_at_first() -> None:
    async def main(host: Host) -> None:
        async def serve(supervisor: Supervisor) -> None:
            with pytest.raises(RunFailed):
                await supervisor.run("s", ScriptedWork(hangs(ignoring_cancellation_for=3.0)), policy="short")
            await host.world.clock.sleep(60.0)
            await supervisor.run("s", ScriptedWork(succeeds()))
            ran.append("s")

        ran: list[str] = []
        host.start("one", serve, [Strike("one", "lift", 1, Blow.FAILS, committed=False, times=2)])
        await host.world.clock.sleep(100.0)
        assert ran == ["s"]

    on_host(main)
