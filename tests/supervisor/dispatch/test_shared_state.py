"""Dispatchers that share a state with others: with other settings, with operators, and with what the dead have left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from policies.catch_up import CatchUp
from policies.failure import Kind
from policies.gate import Overlap
from policies.policy import Policy
from policies.verdict import Reason
from supervisor import Status, Supervisor
from supervisor.recovery.stopping import stop
from supervisor.store.sqlite import jobs as job_rows
from supervisor.testing import ScriptedWork, SharedFile, World, fails, succeeds
from tests.supervisor.dispatch.dispatching import Serving, job, lasting, on_a_clock, outcomes
from tests.supervisor.rules import rules

LONG = rules(timeout_s=None, deadline_s=None, wait_s=3600.0)
RESTS = lasting(rules(backoff_s=50.0, deadline_s=None, wait_s=3600.0))


def runs(file: SharedFile) -> list[Any]:
    return file.connection.execute("SELECT state, number, status, reason FROM runs ORDER BY seq").fetchall()


# --- other settings


def test_a_run_is_adopted_by_a_process_that_knows_its_job_and_left_alone_by_others() -> None:
    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        one, others, again = (Serving(world, file, name) for name in ("one", "others", "again"))
        one.works["job"] = again.works["job"] = work
        others.start(job("another", every_s=100.0))
        one.start(job(every_s=3000.0, policy=RESTS))
        await asyncio.sleep(3010.0)
        one.process.kill()
        await asyncio.sleep(5.0)
        assert ("backoff", 1, None, None) in runs(file)
        again.start(job(every_s=3000.0, policy=RESTS))
        await asyncio.sleep(100.0)
        assert file.connection.execute("SELECT status FROM runs WHERE session = 'job'").fetchall() == [("succeeded",)]

    on_a_clock(main)


def test_a_job_stays_known_while_a_process_that_has_it_serves_and_only_then_is_it_nobody_s() -> None:
    async def main(world: World, file: SharedFile) -> None:
        one, others = Serving(world, file, "one"), Serving(world, file, "others")
        others.start(job("another", every_s=7000.0))
        one.start(job(every_s=100_000.0))
        await asyncio.sleep(3000.0)
        assert job_rows.is_named(file.connection, "job", world.clock.wall())
        one.process.kill()
        await asyncio.sleep(job_rows.NAMED_S)
        assert not job_rows.is_named(file.connection, "job", world.clock.wall())
        assert job_rows.is_named(file.connection, "another", world.clock.wall())

    on_a_clock(main)


def test_a_job_that_is_taken_out_of_the_settings_is_nobody_s_at_once_and_stays_paused() -> None:
    async def main(world: World, file: SharedFile) -> None:
        async with Serving(world, file, "one").serve(job(), job("another")) as dispatcher:
            job_rows.pause(file.connection, "job", world.clock.wall())
            await dispatcher.set_jobs([job("another")])
            names = [job_rows.is_named(file.connection, name, world.clock.wall()) for name in ("job", "another")]
            assert names == [False, True]
            await dispatcher.set_jobs([job(), job("another")])
            await asyncio.sleep(130.0)
        assert outcomes(file) == ["paused", "paused"]

    on_a_clock(main)


# --- a job that is paused


def test_ticks_that_were_found_before_their_job_was_paused_are_skipped() -> None:
    """They are caught up one after the other: one is under way when the operator comes."""

    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(*[succeeds(after=10.0)] * 40)
        before, serving = Serving(world, file, "before"), Serving(world, file, "serving")
        serving.works["job"] = work
        kept = job(every_s=60.0, policy=LONG, catch_up=CatchUp.ALL)
        async with before.serve(kept):
            await asyncio.sleep(30.0)
        await asyncio.sleep(600.0)
        async with serving.serve(kept):
            await asyncio.sleep(15.0)
            job_rows.pause(file.connection, "job", world.clock.wall())
            await asyncio.sleep(600.0)
        assert len(work.attempts) == 2
        ended = outcomes(file)
        assert (ended.count("started"), ended.count("paused"), len(ended)) == (2, 18, 20)

    on_a_clock(main)


# --- a run in nobody's hands


@asynccontextmanager
async def left_over(
    world: World, file: SharedFile, policy: Policy = RESTS
) -> AsyncIterator[tuple[Serving, Supervisor]]:
    """Have a run in its backoff whose process is gone, and a process that has no jobs."""
    one, looks = Serving(world, file, "one"), Serving(world, file, "looks")
    one.works["job"] = ScriptedWork(fails(Kind.SERVER_ERROR))
    one.start(job(every_s=3000.0, policy=policy))
    await asyncio.sleep(3010.0)
    one.process.kill()
    async with looks.supervised() as supervisor:
        await supervisor.look_for_the_lost()
        assert file.connection.execute("SELECT state, owner FROM runs").fetchall() == [("backoff", "")]
        yield looks, supervisor


@pytest.mark.parametrize("session", ["job", ""])
def test_a_run_in_nobody_s_hands_is_stopped_at_once(session: str) -> None:
    async def main(world: World, file: SharedFile) -> None:
        async with left_over(world, file) as (looks, supervisor):
            began = world.clock.now()
            assert supervisor._lost is not None
            stopped = await stop(world.clock, looks.store, supervisor._lost, session, Reason.STOPPED)
            assert (len(stopped.run_ids), stopped.left) == (1, [])
            assert runs(file) == [("ended", 1, "cancelled", "stopped")]
            assert world.clock.now() - began < 1.0

    on_a_clock(main)


@pytest.mark.parametrize("overlap", Overlap)
def test_a_run_in_nobody_s_hands_stands_in_nobody_s_way(overlap: Overlap) -> None:
    async def main(world: World, file: SharedFile) -> None:
        async with left_over(world, file) as (_, supervisor):
            policy = rules(overlap=overlap, wait_s=600.0)
            report = await supervisor.run_report("job", ScriptedWork(succeeds()), policy=policy)
            assert (report.status, report.reason) == (Status.SUCCEEDED, None)
            left = ("ended", 1, "cancelled", "replaced") if overlap is Overlap.REPLACE else ("backoff", 1, None, None)
            assert runs(file) == [left, ("ended", 1, "succeeded", None)]

    on_a_clock(main)


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.COALESCE, Overlap.QUEUE])
def test_a_run_that_is_adopted_while_another_one_runs_waits_for_that(overlap: Overlap) -> None:
    async def main(world: World, file: SharedFile) -> None:
        async with left_over(world, file) as (_, supervisor):
            again = Serving(world, file, "again")
            work = again.works["job"] = ScriptedWork(succeeds(after=300.0), succeeds())
            policy = rules(overlap=overlap, wait_s=600.0, timeout_s=None, deadline_s=None)
            async with asyncio.TaskGroup() as group:
                group.create_task(supervisor.run_report("job", work, policy=policy))
                await asyncio.sleep(1.0)
                again.start(job(every_s=30_000.0, policy=RESTS))
            await asyncio.sleep(100.0)
            assert work.overlap("job") == 1
            assert [run[:3] for run in runs(file)] == [("ended", 2, "succeeded"), ("ended", 1, "succeeded")]

    on_a_clock(main)
