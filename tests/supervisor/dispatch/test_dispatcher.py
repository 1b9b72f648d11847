"""The loop of jobs on a virtual clock: each tick once, and no job holds up another."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from policies.catch_up import CatchUp
from policies.failure import Kind
from policies.gate import Overlap
from policies.schedule import At, Cron, Every
from supervisor.settings.values import Job
from supervisor.store.sqlite import operate
from supervisor.testing import ScriptedWork, SharedFile, World, fails, hangs, succeeds
from supervisor.testing.clock import WALL
from supervisor.testing.faults import Blow, Strike
from tests.supervisor.dispatch.dispatching import Serving, job, lasting, ledger, on_a_clock, outcomes
from tests.supervisor.rules import rules

DAY_S = 86400.0


def test_each_tick_is_started_once_and_on_time() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        work = serving.works["job"] = ScriptedWork(succeeds())
        async with serving.serve(job(), job("utc", schedule=Cron("*/5 * * * *", _utc()))):
            await asyncio.sleep(601.0)
        assert [fact.started_at - 1000.0 for fact in work.attempts] == pytest.approx([60.0 * n for n in range(1, 11)])
        assert ledger(file) == [(60.0 * n, "started", None) for n in range(1, 11)]
        assert ledger(file, "utc") == [(300.0, "started", None), (600.0, "started", None)]
        assert len({fact.run_id for fact in work.attempts}) == 10

    on_a_clock(main)


def _utc() -> Any:
    from datetime import UTC

    return UTC


def test_a_job_that_hangs_holds_up_no_other() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.works["hangs"] = ScriptedWork(hangs())
        other = serving.works["other"] = ScriptedWork(succeeds())
        policy = rules(overlap=Overlap.SKIP, timeout_s=None, deadline_s=None)
        async with serving.serve(job("hangs", policy=policy), job("other")):
            await asyncio.sleep(601.0)
        assert len(other.attempts) == 10
        assert outcomes(file, "hangs") == ["started"] + ["overlap"] * 9

    on_a_clock(main)


def test_a_tick_that_is_refused_says_why() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.works["fails"] = ScriptedWork(fails(Kind.ERROR))
        serving.works["full"] = ScriptedWork(hangs())
        policies = {
            "fails": rules(attempts=1, failures=2, cooldown_s=250.0),
            "full": rules(queue=1, wait_s=500.0, timeout_s=None, deadline_s=None),
        }
        async with serving.serve(*(job(name, policy=policy) for name, policy in policies.items()), job("paused")):
            await serving.store.database.run(operate.pause, "paused", WALL, serving.store.owner)
            await asyncio.sleep(330.0)
        assert outcomes(file, "fails") == ["started", "started", "breaker_open", "breaker_open", "breaker_open"]
        assert outcomes(file, "full") == ["started", None, "queue_full", "queue_full", "queue_full"]
        assert outcomes(file, "paused") == ["paused"] * 5

    on_a_clock(main)


@pytest.mark.parametrize(
    ("catch_up", "ended"),
    [
        (CatchUp.NONE, ["started"] + ["expired"] * 5 + ["started"]),
        (CatchUp.LAST, ["started"] + ["expired"] * 4 + ["started"] * 2),
        (CatchUp.ALL, ["started"] * 7),
    ],
)
def test_ticks_that_were_missed_by_a_process_that_stood_still_are_caught_up(
    catch_up: CatchUp, ended: list[str]
) -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        work = serving.works["job"] = ScriptedWork(succeeds(after=3.0))
        serving.start(job(every_s=100.0, catch_up=catch_up))
        await asyncio.sleep(150.0)
        serving.process.freeze(520.0)
        await asyncio.sleep(590.0)
        assert outcomes(file) == ended
        assert work.overlap("job") == 1

    on_a_clock(main)


def test_missed_ticks_go_one_after_the_other_whatever_the_policy_lets_in() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        work = serving.works["job"] = ScriptedWork(succeeds(after=3.0))
        policy = rules(permits=10)
        serving.start(job(every_s=100.0, catch_up=CatchUp.ALL, policy=policy))
        await asyncio.sleep(10.0)
        serving.process.freeze(955.0)
        await asyncio.sleep(1080.0)
        assert outcomes(file) == ["started"] * 10
        assert work.overlap("job") == 1

    on_a_clock(main)


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S], ids=["ahead", "back"])
def test_a_clock_that_is_set_by_a_day_while_it_runs_stops_no_job_and_doubles_no_tick(by_s: float) -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        work = serving.works["job"] = ScriptedWork(succeeds())
        async with serving.serve(job(schedule=Every(300.0, WALL - 10 * DAY_S))):
            await asyncio.sleep(1000.0)
            assert len(work.attempts) == 3
            world.clock.step_wall(by_s)
            await asyncio.sleep(1000.0)
            assert len(work.attempts) == (7 if by_s > 0 else 6)
            world.clock.step_wall(-by_s)
            await asyncio.sleep(1000.0)
            assert len(work.attempts) == 10
        ids = [fact.run_id for fact in work.attempts]
        assert len(set(ids)) == len(ids)
        assert None not in outcomes(file)

    on_a_clock(main)


# --- a store that fails


def test_while_the_store_takes_no_claim_nothing_is_lost_and_that_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one", (Strike("one", "claim", 2, Blow.FAILS, committed=False, times=20),))
        work = serving.works["job"] = ScriptedWork(succeeds())
        async with serving.serve(job()):
            await asyncio.sleep(301.0)
            assert len(serving.dispatcher._timetable._heap) == 1
        assert [fact.started_at - 1000.0 for fact in work.attempts] == pytest.approx(
            [81.0, 120.0, 180.0, 240.0, 300.0], abs=1.1
        )
        assert outcomes(file) == ["started"] * 5

    with caplog.at_level(logging.WARNING, "turnkeeper"):
        on_a_clock(main)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "no tick can be started, and none is lost",
        "the state answers again",
    ]


@pytest.mark.parametrize("committed", [False, True], ids=["not done", "its answer lost"])
@pytest.mark.parametrize("ends_too", [False, True], ids=["told of the end", "not even told of the end"])
def test_a_tick_whose_run_the_store_did_not_let_begin_is_started_later_once(
    caplog: pytest.LogCaptureFixture, *, committed: bool, ends_too: bool
) -> None:
    async def main(world: World, file: SharedFile) -> None:
        strikes = [Strike("one", "arrive_and_begin", 1, Blow.FAILS, committed=committed, times=3)]
        if ends_too:
            strikes.append(Strike("one", "end_run", 1, Blow.FAILS, committed=False, times=10))
        serving = Serving(world, file, "one", tuple(strikes))
        work = serving.works["job"] = ScriptedWork(succeeds(after=20.0))
        async with serving.serve(job(policy=rules(timeout_s=None))):
            await asyncio.sleep(115.0)
        assert ledger(file) == [(60.0, "started", None)]
        assert len(work.attempts) == 1
        [attempt] = file.connection.execute("SELECT outcome FROM attempts").fetchall()
        assert attempt == ("succeeded",)
        assert file.connection.execute("SELECT status, number FROM runs").fetchall() == [("succeeded", 1)]

    on_a_clock(main)


# --- other settings while it runs


async def _reloaded(serving: Serving, world: World, *jobs: Job) -> None:
    await asyncio.sleep(90.0)
    await serving.dispatcher.set_jobs(jobs)
    await asyncio.sleep(120.0)


def test_a_job_that_is_renamed_while_it_runs_goes_on_under_its_new_name() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        work = serving.works["job"] = ScriptedWork(succeeds("done", after=100.0))
        policy = rules(timeout_s=None)
        async with serving.serve(job(policy=policy), drain_s=100.0):
            await _reloaded(serving, world, job("renamed"))
        assert [fact.ended for fact in work.attempts] == ["returned"]
        assert (outcomes(file), outcomes(file, "renamed")) == (["started"], ["started", "started"])

    on_a_clock(main)


def test_a_job_that_is_rescheduled_has_missed_nothing() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        async with serving.serve(job()):
            await _reloaded(serving, world, job(every_s=50.0))
        assert ledger(file) == [(at, "started", None) for at in (60.0, 100.0, 150.0, 200.0)]

    on_a_clock(main)


def test_a_job_that_goes_while_its_missed_ticks_are_caught_up_has_the_rest_skipped() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.works["job"] = ScriptedWork(succeeds(after=50.0))
        serving.start(job(catch_up=CatchUp.ALL, policy=rules(timeout_s=None)))
        await asyncio.sleep(10.0)
        serving.process.freeze(430.0)
        await asyncio.sleep(440.0)
        await serving.process.start(serving.dispatcher.set_jobs([]))
        await asyncio.sleep(100.0)
        assert outcomes(file) == ["started"] + ["removed"] * 5 + ["started"]  # the last one was not missed
        assert not serving.dispatcher._carried

    on_a_clock(main)


def test_a_job_that_goes_in_the_middle_of_a_look_ends_nothing() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        async with serving.serve(job(), job("other")):
            world.clock.loop.call_at(1060.0, lambda: asyncio.ensure_future(serving.dispatcher.set_jobs([job("other")])))
            await asyncio.sleep(150.0)
        assert outcomes(file) in (["started"], [])
        assert outcomes(file, "other") == ["started", "started"]

    on_a_clock(main)


@pytest.mark.parametrize("strike", [Blow.FAILS, None])
def test_a_job_that_goes_while_its_claim_is_under_way_ends_nothing(strike: Blow | None) -> None:
    async def main(world: World, file: SharedFile) -> None:
        strikes = () if strike is None else (Strike("one", "claim", 2, strike, committed=False),)
        serving = Serving(world, file, "one", strikes)
        async with serving.serve(job(), job("other")) as dispatcher:
            claim = dispatcher._ledger.claim

            async def claim_and_reload(jobs: Any) -> Any:
                try:
                    return await claim(jobs)
                finally:
                    if len(jobs) == 2 and world.clock.now() > 1050.0:
                        await dispatcher.set_jobs([job("other")])

            dispatcher._ledger.claim = claim_and_reload  # type: ignore[method-assign]
            await asyncio.sleep(150.0)
        assert outcomes(file) == (["started"] if strike is None else [])
        assert outcomes(file, "other") == ["started", "started"]

    on_a_clock(main)


def test_work_that_cannot_be_made_is_a_tick_that_is_skipped_for_that(caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        make = serving.work_of

        def work_of(job: Job) -> Any:
            if job.name == "job":
                raise ValueError("no such work")
            return make(job)

        serving.work_of = work_of  # type: ignore[method-assign]
        async with serving.serve(job(), job("other")):
            await asyncio.sleep(130.0)
        assert outcomes(file) == ["broken", "broken"]
        assert outcomes(file, "other") == ["started", "started"]

    on_a_clock(main)


# --- the end


def test_a_drain_finishes_what_runs_and_leaves_what_has_begun_no_attempt_to_the_next_one() -> None:
    async def main(world: World, file: SharedFile) -> None:
        first, second = Serving(world, file, "one"), Serving(world, file, "two")
        policy = rules(timeout_s=None, wait_s=500.0)
        work = first.works["job"] = second.works["job"] = ScriptedWork(succeeds(after=90.0))
        async with first.serve(job(policy=policy), drain_s=60.0):
            await asyncio.sleep(121.0)
            assert outcomes(file) == ["started", None]
            [waits] = file.connection.execute("SELECT run_id FROM ticks WHERE outcome IS NULL").fetchone()
        assert world.clock.now() - 1000.0 == pytest.approx(150.0, abs=0.1)
        async with second.serve(job(policy=policy)):
            await asyncio.sleep(1.0)
            assert outcomes(file) == ["started", "started"]
            assert [fact.run_id for fact in work.attempts][1:] == [waits]

    on_a_clock(main)


def test_a_drain_does_not_wait_for_a_retry_beyond_its_end() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        for name in ("long", "short"):
            serving.works[name] = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        jobs = [job(name, policy=rules(backoff_s=wait_s)) for name, wait_s in (("long", 500.0), ("short", 10.0))]
        async with serving.serve(*jobs, drain_s=60.0) as dispatcher:
            await asyncio.sleep(61.0)
            assert dispatcher.running() == 2
        assert world.clock.now() - 1000.0 == pytest.approx(70.0, abs=1.1)
        ends = dict(file.connection.execute("SELECT session, reason FROM runs").fetchall())
        assert ends == {"long": "closed", "short": None}

    on_a_clock(main)


def test_a_retry_beyond_the_end_of_a_drain_is_made_by_the_next_one_where_the_policy_says_so() -> None:
    async def main(world: World, file: SharedFile) -> None:
        first, second = Serving(world, file, "one"), Serving(world, file, "two")
        policy = lasting(rules(backoff_s=120.0))
        work = first.works["job"] = second.works["job"] = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        async with first.serve(job(every_s=3000.0, policy=policy), drain_s=60.0):
            await asyncio.sleep(3001.0)
        left = "SELECT state, owner, number, status, slot FROM runs"
        assert file.connection.execute(left).fetchall() == [("backoff", "", 1, None, 0)]
        async with second.serve(job(every_s=3000.0, policy=policy)):
            await asyncio.sleep(100.0)
            assert len(work.attempts) == 1, "its backoff goes on"
            await asyncio.sleep(30.0)
        assert [fact.number for fact in work.attempts] == [1, 2]
        assert file.connection.execute("SELECT status, number FROM runs").fetchall() == [("succeeded", 2)]
        assert file.connection.execute("SELECT spent FROM sessions").fetchall() == [(1.0,)]

    on_a_clock(main)


def test_a_drain_leaves_no_retry_of_a_run_that_an_operator_has_told_to_stop() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.works["job"] = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        async with serving.serve(job(every_s=3000.0, policy=lasting(rules(backoff_s=120.0)))):
            await asyncio.sleep(3001.0)
            file.connection.execute("UPDATE runs SET stop = 'stopped'")  # and nobody has heard of it yet
        assert file.connection.execute("SELECT state FROM runs").fetchall() == [("ended",)]

    on_a_clock(main)


def test_a_drain_that_is_hastened_waits_for_nothing() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.works["job"] = ScriptedWork(hangs())
        async with serving.serve(job(policy=rules(timeout_s=None)), drain_s=500.0) as dispatcher:
            await asyncio.sleep(61.0)
            world.clock.loop.call_later(5.0, dispatcher.hasten)
        assert world.clock.now() - 1000.0 == pytest.approx(66.0, abs=0.1)

    on_a_clock(main)


# --- overdue


def test_a_job_that_has_not_succeeded_is_told_once_and_once_more_after_a_success() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        bad, good = fails(Kind.ERROR), succeeds()
        serving.works["job"] = ScriptedWork(*[bad] * 10, good, *[bad] * 10)
        policy = rules(attempts=1)
        async with serving.serve(job(policy=policy, overdue=3), job("never", policy=policy, overdue=None)):
            await asyncio.sleep(1500.0)
        told = [event for event in serving.recorded.events if type(event).__name__ == "JobOverdue"]
        assert [(event.job, event.unix - WALL, event.ever_succeeded) for event in told] == [
            ("job", pytest.approx(180.0, abs=1.1), False),
            ("job", pytest.approx(840.0, abs=61.1), True),
        ]

    on_a_clock(main)


def test_of_two_dispatchers_one_tells_of_a_job_that_is_overdue_and_one_that_starts_later_does_not() -> None:
    async def main(world: World, file: SharedFile) -> None:
        three = [Serving(world, file, name) for name in ("one", "two", "three")]
        policy = rules(attempts=1)
        for serving in three:
            serving.works["job"] = ScriptedWork(fails(Kind.ERROR))
        async with three[0].serve(job(policy=policy)), three[1].serve(job(policy=policy)):
            await asyncio.sleep(300.0)
            async with three[2].serve(job(policy=policy)):
                await asyncio.sleep(600.0)
        told = [e for each in three for e in each.recorded.events if type(e).__name__ == "JobOverdue"]
        assert len(told) == 1

    on_a_clock(main)


def test_a_job_that_is_due_once_is_never_overdue_and_ends_its_place_in_the_timetable() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        once = replace(job(), schedule=At(WALL + 30.0))
        async with serving.serve(once) as dispatcher:
            await asyncio.sleep(1000.0)
            assert dispatcher._timetable.next_wall() is None
        assert ledger(file) == [(30.0, "started", None)]

    on_a_clock(main)


def test_many_jobs_are_claimed_some_at_a_time() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        async with serving.serve(*(job(f"job {n}", schedule=Every(60.0, WALL)) for n in range(450))):
            await asyncio.sleep(61.0)
        assert file.connection.execute("SELECT count(*), count(DISTINCT job) FROM ticks").fetchone() == (450, 450)

    on_a_clock(main)


def test_old_ticks_are_forgotten_where_no_run_ever_ends() -> None:
    async def main(world: World, file: SharedFile) -> None:
        serving = Serving(world, file, "one")
        serving.store._retention._keep = (None, 100)
        async with serving.serve(job(every_s=1.0)):
            await serving.store.database.run(operate.pause, "job", WALL, serving.store.owner)
            await asyncio.sleep(1250.0)
        [number] = file.connection.execute("SELECT count(*) FROM ticks").fetchone()
        assert number <= 100 + 601

    on_a_clock(main)
