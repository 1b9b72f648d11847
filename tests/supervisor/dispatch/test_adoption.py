"""Dispatchers that die or stand still: what becomes of their runs, and of the ticks that they had found."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from policies.catch_up import CatchUp
from policies.failure import Kind
from policies.policy import OnLost
from policies.schedule import Every
from supervisor.store.sqlite.jobs import NAMED_S
from supervisor.testing import ScriptedWork, SharedFile, World, fails, hangs, succeeds
from supervisor.testing.clock import WALL
from supervisor.testing.faults import Blow, Strike
from tests.supervisor.dispatch.dispatching import Serving, job, lasting, ledger, on_a_clock, outcomes
from tests.supervisor.rules import rules

LONG = rules(timeout_s=None, deadline_s=None, wait_s=3600.0)


def attempts(file: SharedFile) -> list[tuple[int, str, str | None]]:
    return file.connection.execute("SELECT number, outcome, kind FROM attempts ORDER BY fence").fetchall()


def runs(file: SharedFile) -> list[Any]:
    return file.connection.execute("SELECT state, number, status, reason FROM runs ORDER BY seq").fetchall()


def two(world: World, file: SharedFile, work: Any, *strikes: Strike) -> tuple[Serving, Serving]:
    pair = Serving(world, file, "one", strikes), Serving(world, file, "two")
    for serving in pair:
        serving.works["job"] = work
    return pair


@pytest.mark.parametrize(
    ("on_lost", "ended"),
    [
        (OnLost.RETRY, [("ended", 2, "succeeded", None)]),
        (OnLost.GIVE_UP, [("ended", 1, "failed", "lost")]),
    ],
)
def test_a_run_whose_process_died_in_an_attempt_goes_on_elsewhere_where_its_policy_says_so(
    on_lost: OnLost, ended: list[Any]
) -> None:
    async def main(world: World, file: SharedFile) -> None:
        one, other = two(world, file, ScriptedWork(hangs(), succeeds()))
        policy = lasting(LONG, on_lost)
        one.start(job(every_s=3000.0, policy=policy))
        other.start(job(every_s=3000.0, policy=policy))
        await asyncio.sleep(3010.0)
        dead = one if file.connection.execute("SELECT owner FROM ticks").fetchone() == (one.store.owner,) else other
        dead.process.kill()
        await asyncio.sleep(60.0)
        assert runs(file) == ended
        assert [kind for _, _, kind in attempts(file)].count("lost") == 1
        assert outcomes(file) == ["started"]

    on_a_clock(main)


def test_however_often_its_processes_die_a_run_makes_no_more_attempts_than_its_budget() -> None:
    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(hangs())
        policy = lasting(replace(LONG, budget=replace(LONG.budget, attempts=3)))
        for number in range(6):
            serving = Serving(world, file, f"process {number}")
            serving.works["job"] = work
            serving.start(job(every_s=3000.0, policy=policy))
            await asyncio.sleep(3010.0 if not number else 100.0)
            serving.process.kill()
        assert attempts(file) == [(n, "failed", "lost") for n in (1, 2, 3)]
        assert len(work.attempts) == 3
        assert runs(file) == [("ended", 3, "failed", "lost")]

    on_a_clock(main)


def test_a_run_that_is_adopted_in_a_long_backoff_is_not_taken_for_one_that_nobody_carries_out() -> None:
    """Other runs begin here meanwhile, and each look at what is under way must know of it."""

    async def main(world: World, file: SharedFile) -> None:
        one, other = two(world, file, ScriptedWork(fails(Kind.SERVER_ERROR), succeeds()))
        policy = lasting(rules(backoff_s=50.0, deadline_s=None))
        jobs = (job(every_s=3000.0, policy=policy), job("other", every_s=20.0))
        one.start(*jobs)
        await asyncio.sleep(3010.0)
        one.process.kill()
        other.start(*jobs)
        await asyncio.sleep(30.0)
        assert other.dispatcher.policies_in_use() == {"test"}
        await asyncio.sleep(30.0)
        [row] = file.connection.execute("SELECT state, number, status, reason FROM runs WHERE session = 'job'")
        assert row == ("ended", 2, "succeeded", None)

    on_a_clock(main)


@pytest.mark.parametrize("change", ["other rules", "gone", "past its deadline"])
def test_a_run_that_nobody_can_go_on_with_is_ended(change: str) -> None:
    async def main(world: World, file: SharedFile) -> None:
        one, other = two(world, file, ScriptedWork(fails(Kind.SERVER_ERROR), succeeds()))
        policy = lasting(rules(backoff_s=100.0, deadline_s=None if change == "gone" else 200.0))
        one.start(job(every_s=3000.0, policy=policy))
        await asyncio.sleep(3010.0)
        one.process.kill()
        looks = Serving(world, file, "looks")
        looks.start()
        await asyncio.sleep(5.0 if change != "past its deadline" else 0.0)
        looks.process.kill()
        await asyncio.sleep(250.0 if change == "past its deadline" else 0.0)
        now = {"other rules": [job(every_s=3000.0, policy=rules())], "gone": []}
        other.start(*now.get(change, [job(every_s=3000.0, policy=policy)]))
        await asyncio.sleep(20.0 if change != "gone" else NAMED_S)
        assert runs(file) == [("ended", 1, "failed", "lost")]

    on_a_clock(main)


def test_a_run_goes_on_in_its_own_session_when_its_job_has_another_one_by_now() -> None:
    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        one, other = two(world, file, work)
        policy = lasting(rules(backoff_s=100.0, deadline_s=None))
        one.start(job(every_s=3000.0, policy=policy, session="before"))
        await asyncio.sleep(3010.0)
        one.process.kill()
        other.start(job(every_s=3000.0, policy=policy, session="after"))
        await asyncio.sleep(150.0)
        assert [fact.session for fact in work.attempts] == ["before", "before"]
        assert runs(file) == [("ended", 2, "succeeded", None)]

    on_a_clock(main)


# --- ticks that began no attempt


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("transaction", ["claim", "arrive_and_begin"])
def test_a_tick_is_started_once_wherever_its_finder_dies(transaction: str, *, committed: bool) -> None:
    async def main(world: World, file: SharedFile) -> None:
        nth = 2 if transaction == "claim" else 1
        work = ScriptedWork(succeeds(after=5.0))
        strike = Strike("one", transaction, nth, Blow.KILLED, committed=committed)
        one, other = two(world, file, work, strike)
        one.start(job(every_s=3000.0, policy=lasting(LONG)))
        await asyncio.sleep(3001.0)
        assert not one.process.lives
        other.start(job(every_s=3000.0, policy=lasting(LONG)))
        await asyncio.sleep(100.0)
        assert ledger(file) == [(3000.0, "started", None)]
        assert len(work.attempts) == 1
        assert runs(file)[-1][2] == "succeeded"

    on_a_clock(main)


def test_a_finder_that_stands_still_loses_its_tick_and_does_not_start_it_when_it_wakes() -> None:
    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(succeeds(after=1.0))
        strike = Strike("one", "claim", 2, Blow.FROZEN, committed=True, for_s=300.0)
        one, other = two(world, file, work, strike)
        one.start(job(every_s=3000.0, policy=LONG))
        await asyncio.sleep(100.0)
        other.start(job(every_s=3000.0, policy=LONG))
        await asyncio.sleep(4000.0)
        assert ledger(file) == [(3000.0, "started", None)]
        assert len(work.attempts) == 1

    on_a_clock(main)


def test_one_that_wakes_after_its_tick_has_expired_does_not_start_it() -> None:
    """What the ledger says of a tick is what happened."""

    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(succeeds(after=1.0))
        strike = Strike("one", "claim", 2, Blow.FROZEN, committed=True, for_s=300.0)
        one, other = two(world, file, work, strike)
        kept = job(every_s=3000.0, policy=LONG, catch_up=CatchUp.NONE)
        one.start(kept)
        await asyncio.sleep(3000.0 + 100.0)
        other.start(kept)
        await asyncio.sleep(500.0)
        assert ledger(file) == [(3000.0, "expired", None)]
        assert not work.attempts

    on_a_clock(main)


def test_one_that_wakes_in_line_before_anybody_took_its_tick_starts_it_once() -> None:
    async def main(world: World, file: SharedFile) -> None:
        work = ScriptedWork(succeeds(after=400.0))
        one = Serving(world, file, "one")
        one.works["job"] = work
        looks = Serving(world, file, "looks")
        one.start(job(every_s=300.0, policy=LONG, schedule=Every(300.0, WALL)))
        await asyncio.sleep(610.0)
        assert outcomes(file) == ["started", None]
        one.process.freeze(50.0)
        async with looks.supervised() as supervisor:
            for _ in range(45):
                await asyncio.sleep(1.0)
                await supervisor.look_for_the_lost()
            assert file.connection.execute("SELECT owner FROM ticks WHERE outcome IS NULL").fetchone() == (None,)
        await asyncio.sleep(300.0)
        assert outcomes(file)[:2] == ["started", "started"]
        assert work.overlap("job") == 1
        ids = [fact.run_id for fact in work.attempts]
        assert len(set(ids)) == len(ids)

    on_a_clock(main)


def test_the_late_end_of_a_run_does_not_take_the_one_that_goes_on_under_its_id_for_over() -> None:
    """Its process stood still, its run was taken and left, and it has adopted that itself."""

    async def main(world: World, file: SharedFile) -> None:
        one = Serving(world, file, "one")
        async with one.supervised() as supervisor:
            taken, adopted = (supervisor.new_run("s", ScriptedWork(succeeds()), LONG, None) for _ in range(2))
            taken.given_id = adopted.given_id = "the same"
            one.store.go_on(adopted)
            one.store._over(taken)
            assert one.store.standing == {"the same": adopted}
            one.store._over(adopted)
            assert one.store.standing == {}
            supervisor._runs.clear()

    on_a_clock(main)
