"""What a dispatcher asks of the store is done, and it never hears of that; or something comes between two questions."""

import asyncio
from typing import Any

import pytest

from policies.failure import Kind
from supervisor import Supervisor
from supervisor.dispatch.timetable import Timetable
from supervisor.events import RunEnded
from supervisor.testing import ScriptedWork, SharedFile, World, fails, succeeds
from supervisor.testing.clock import WALL
from supervisor.testing.faults import Blow, Strike
from tests.supervisor.dispatch.dispatching import Serving, job, lasting, ledger, on_a_clock
from tests.supervisor.rules import rules

SELDOM_S = 3000.0


def lost(process: str, transaction: str, nth: int = 1) -> tuple[Strike, ...]:
    return (Strike(process, transaction, nth, Blow.FAILS, committed=True),)


def test_a_tick_is_started_though_the_answer_to_its_claim_was_lost() -> None:
    async def main(world: World, file: SharedFile) -> None:
        one = Serving(world, file, "one", lost("one", "claim", 2))
        work = one.works["job"] = ScriptedWork(succeeds())
        async with one.serve(job(every_s=SELDOM_S)):
            await asyncio.sleep(SELDOM_S + 10.0)
        assert ledger(file)[-1][1:] == ("started", None)
        assert len(work.attempts) == 1

    on_a_clock(main)


def test_a_tick_of_the_dead_is_started_though_the_answer_to_its_taking_was_lost() -> None:
    async def main(world: World, file: SharedFile) -> None:
        seldom = job(every_s=SELDOM_S)
        one = Serving(world, file, "one", (Strike("one", "claim", 2, Blow.KILLED, committed=True),))
        two = Serving(world, file, "two", lost("two", "take_over"))
        work = one.works["job"] = two.works["job"] = ScriptedWork(succeeds())
        one.start(seldom)
        await asyncio.sleep(SELDOM_S + 1.0)
        async with two.serve(seldom):
            await asyncio.sleep(20.0)
        assert ledger(file)[-1][1:] == ("started", None)
        assert len(work.attempts) == 1

    on_a_clock(main)


def test_a_run_is_gone_on_with_though_the_answer_to_its_adoption_was_lost() -> None:
    async def main(world: World, file: SharedFile) -> None:
        seldom = job(every_s=SELDOM_S, policy=lasting(rules(backoff_s=50.0)))
        one, two = Serving(world, file, "one"), Serving(world, file, "two", lost("two", "adopt"))
        work = one.works["job"] = two.works["job"] = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        one.start(seldom)
        await asyncio.sleep(SELDOM_S + 10.0)
        one.process.kill()
        async with two.serve(seldom):
            await asyncio.sleep(100.0)
        assert len(work.attempts) == 2
        assert file.connection.execute("SELECT status, number FROM runs").fetchall() == [("succeeded", 2)]

    on_a_clock(main)


def test_a_drain_leaves_what_could_be_adopted_to_whoever_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World, file: SharedFile) -> None:
        seldom = job(every_s=SELDOM_S, policy=lasting(rules(backoff_s=50.0)))
        one, two = Serving(world, file, "one"), Serving(world, file, "two")
        one.works["job"] = two.works["job"] = ScriptedWork(fails(Kind.SERVER_ERROR), succeeds())
        one.start(seldom)
        await asyncio.sleep(SELDOM_S + 10.0)
        one.process.kill()
        looks = Supervisor.look_for_the_lost

        async def slow(self: Supervisor) -> None:
            await looks(self)
            await asyncio.sleep(1.0)

        monkeypatch.setattr(Supervisor, "look_for_the_lost", slow)
        async with two.serve(seldom):
            await asyncio.sleep(0.5)
        assert file.connection.execute("SELECT state, owner FROM runs").fetchall() == [("backoff", "")]

    on_a_clock(main)


def test_one_that_was_idle_for_long_finds_a_tick_and_keeps_it() -> None:
    """Others look just then, and had not heard of it for a lease."""

    async def main(world: World, file: SharedFile) -> None:
        one, other = Serving(world, file, "one"), Serving(world, file, "other")
        async with other.supervised() as looks, one.serve(job(every_s=SELDOM_S)) as dispatcher:
            claims = dispatcher._ledger.claim

            async def claim(jobs: Any) -> Any:
                claimed = await claims(jobs)
                await looks.look_for_the_lost()
                return claimed

            dispatcher._ledger.claim = claim  # type: ignore[method-assign]
            for _ in range(int(SELDOM_S / 20) + 1):
                await asyncio.sleep(20.0)
                await looks.look_for_the_lost()
        assert ledger(file)[-1][1:] == ("started", None)
        assert [event for event in one.recorded.events if isinstance(event, RunEnded) and event.reason] == []

    on_a_clock(main)


def test_a_job_that_a_reload_takes_away_in_mid_look_does_not_start() -> None:
    async def main(world: World, file: SharedFile) -> None:
        many = [job(f"job {number}", every_s=SELDOM_S) for number in range(60)]
        one = Serving(world, file, "one")
        gone = one.works["job 59"] = ScriptedWork(succeeds())
        async with one.serve(*many) as dispatcher:
            claims, times = dispatcher._ledger.claim, 0

            async def claim(jobs: Any) -> Any:
                nonlocal times
                claimed = await claims(jobs)
                times += 1
                if times == 1:
                    await dispatcher.set_jobs(many[:-1])
                return claimed

            await asyncio.sleep(SELDOM_S / 2)
            dispatcher._ledger.claim = claim  # type: ignore[method-assign]
            await asyncio.sleep(SELDOM_S)
        assert times > 1
        assert not gone.attempts

    on_a_clock(main)


def test_jobs_that_cannot_be_asked_for_take_no_more_room_the_longer_that_lasts() -> None:
    timetable = Timetable()
    jobs = [job(f"job {number}", every_s=86400.0) for number in range(10)]
    timetable.set(jobs, WALL)
    for second in range(100):
        due = timetable.take_due(WALL + second)
        assert len(due) == 10
        timetable.look_again(due)
    assert len(timetable._heap) == 10
    assert len(timetable.take_due(WALL + 100.0)) == 10
    assert timetable.take_due(WALL + 101.0) == []
