"""Which sessions are not at rest, and why."""

import asyncio

from policies.breaker import HalfOpen, Open
from supervisor.clock import clock_of
from supervisor.store.sqlite import operate
from supervisor.store.sqlite.overview import Overview, overview
from supervisor.testing import ScriptedWork, SharedFile, fails, hangs, succeeds
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import overview_of, supervised


def now(file: SharedFile) -> Overview:
    clock = clock_of(asyncio.get_running_loop())
    return overview_of(file, clock.boottime(), clock.wall())


async def test_a_state_in_which_nothing_goes_on_has_no_session_to_show() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await supervisor.run_report("a", ScriptedWork(fails("network"), succeeds()), policy=rules())
        assert now(file).sessions == []


async def test_what_runs_and_what_waits_is_shown_with_whose_it_is() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        runs = [
            asyncio.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=rules(attempts=4)))
            for _ in range(2)
        ]
        await asyncio.sleep(1.0)
        [session] = now(file).sessions
        supervisor.cancel("a")
        await asyncio.gather(*runs)
    running, waiting = session.runs
    assert (running.state, running.number, running.attempts, running.warden) == ("running", 1, 4, None)
    assert (waiting.state, waiting.number) == ("waiting", 0)
    assert running.holder is not None
    assert running.holder == waiting.holder
    assert session.tokens == (10.0, 10.0)


async def test_an_open_breaker_says_until_when_and_the_tokens_what_is_left_of_them() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        policy = rules(attempts=2, failures=2, cooldown_s=60.0)
        await supervisor.run_report("a", ScriptedWork(fails("network"), fails("network")), policy=policy)
        [session] = now(file).sessions
        wall = clock_of(asyncio.get_running_loop()).wall()
    assert isinstance(session.breaker, Open)
    assert session.until_wall is not None
    assert 60.0 <= session.until_wall - wall <= 72.0
    assert session.tokens == (9.0, 10.0)


async def test_a_breaker_on_trial_is_half_open() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        policy = rules(attempts=1, failures=1, cooldown_s=10.0)
        await supervisor.run_report("a", ScriptedWork(fails("network")), policy=policy)
        await asyncio.sleep(30.0)
        trial = asyncio.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=policy))
        await asyncio.sleep(1.0)
        [session] = now(file).sessions
        supervisor.cancel("a")
        await trial
    assert isinstance(session.breaker, HalfOpen)


async def test_a_pause_of_one_session_is_its_own_and_one_of_all_is_nobodys() -> None:
    file = SharedFile()
    async with supervised(file):
        operate.pause(file.connection, "a", 7.0, "me")
        operate.pause(file.connection, "", 8.0, "me")
        seen = now(file)
    assert [(session.session, session.paused_wall) for session in seen.sessions] == [("a", 7.0)]
    assert seen.all_paused_wall == 8.0


async def test_after_a_reboot_a_breaker_is_open_for_as_long_as_it_would_have_been() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        policy = rules(attempts=1, failures=1, cooldown_s=60.0)
        await supervisor.run_report("a", ScriptedWork(fails("network")), policy=policy)
        before = now(file).sessions[0].until_wall
        clock = clock_of(asyncio.get_running_loop())
        seen = overview(file.connection, "another boot", 3.0, clock.wall())
    assert before is not None
    until = seen.sessions[0].until_wall
    assert until is not None
    assert abs(until - before) < 0.001
