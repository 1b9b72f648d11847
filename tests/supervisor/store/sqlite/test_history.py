"""What is read of the runs that were, and of those that are under way."""

import asyncio

from policies.breaker import Closed, HalfOpen, Open
from supervisor import Status
from supervisor.clock import clock_of
from supervisor.store.sqlite import history
from supervisor.testing import ScriptedWork, SharedFile, fails, hangs, succeeds
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import runs_in, supervised


async def test_a_run_in_the_history_is_the_report_that_its_caller_got() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        work = ScriptedWork(fails("overloaded", after=2.0), succeeds("done", after=1.0))
        report = await supervisor.run_report("a", work, policy=rules())
        [seen] = runs_in(file)
    assert seen == report.as_json() | {"job": None}


async def test_every_end_of_a_run_is_in_the_history_as_it_was_reported() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        failed = await supervisor.run_report("a", ScriptedWork(fails("auth")), policy=rules())
        timed_out = await supervisor.run_report("b", ScriptedWork(hangs()), policy=rules(attempts=1))
        holder = asyncio.create_task(supervisor.run_report("c", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1.0)
        refused = await supervisor.run_report("c", ScriptedWork(succeeds()), policy=rules(queue=0))
        supervisor.cancel("c")
        cancelled = await holder
        seen = {run["run_id"]: run for run in runs_in(file)}
    statuses = [report.status for report in (failed, timed_out, refused, cancelled)]
    assert statuses == [Status.FAILED, Status.FAILED, Status.REFUSED, Status.CANCELLED]
    for report in (failed, timed_out, refused, cancelled):
        assert seen[report.run_id] == report.as_json() | {"job": None}


async def test_a_run_under_way_has_its_state_for_a_status_and_no_end() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        first = asyncio.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=rules()))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules()))
        third = asyncio.create_task(supervisor.run_report("b", ScriptedWork(fails("network")), policy=rules()))
        await asyncio.sleep(0.5)
        backoff, waiting, running = runs_in(file)
        supervisor.cancel("a")
        supervisor.cancel("b")
        await asyncio.gather(first, second, third)
    assert [run["status"] for run in (backoff, waiting, running)] == ["backoff", "waiting", "running"]
    assert {run["ended_at"] for run in (backoff, waiting, running)} == {None}
    [attempt] = running["attempts"]
    assert (attempt["outcome"], attempt["released"], attempt["verdict"]) == (None, None, None)
    assert backoff["attempts"][0]["verdict"]["action"] == "retry"


async def test_runs_are_chosen_by_session_by_moment_by_failure_and_the_newest_first() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        for session in ("a", "b"):
            await supervisor.run_report(session, ScriptedWork(succeeds(after=1.0)), policy=rules())
        noon = clock_of(asyncio.get_running_loop()).wall()
        await asyncio.sleep(1.0)
        for session in ("a", "b"):
            await supervisor.run_report(session, ScriptedWork(fails("auth")), policy=rules())
    assert [run["session"] for run in runs_in(file)] == ["b", "a", "b", "a"]
    assert [run["status"] for run in runs_in(file, session="a")] == ["failed", "succeeded"]
    assert [run["status"] for run in runs_in(file, since_wall=noon)] == ["failed", "failed"]
    assert [run["session"] for run in runs_in(file, failed=True)] == ["b", "a"]
    assert [run["session"] for run in runs_in(file, limit=1)] == ["b"]
    assert runs_in(file, session="a", since_wall=noon + 100.0) == []


async def test_one_run_says_more_than_its_report_what_its_verdicts_were_decided_on() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        report = await supervisor.run_report("a", ScriptedWork(fails("network")), policy=rules(attempts=2))
        seen = history.run(file.connection, report.run_id)
    assert seen is not None
    assert (seen["attempts_allowed"], seen["parents"], seen["lock"]) == (2, [], None)
    first, last = seen["attempts"]
    assert (first["why"]["attempts"], last["why"]["attempts"]) == ([1, 2], [2, 2])
    assert first["why"]["session_spent"] == [0.0, 1.0]
    assert first["why"]["breaker"] == [{"state": "closed", "in_a_row": 0}, {"state": "closed", "in_a_row": 1}]
    assert first["fence"] < last["fence"]
    assert history.run(file.connection, "none of ours") is None


def test_a_breaker_is_an_object_in_each_of_its_states() -> None:
    shapes = [history.breaker_shape(state) for state in (Closed(3, 2), Open(4, 99.0, 1, 60.0), HalfOpen(5, 2, 1))]
    assert shapes == [
        {"state": "closed", "in_a_row": 2},
        {"state": "open", "opened_in_a_row": 2},
        {"state": "half_open", "opened_in_a_row": 3, "trials": 1},
    ]


async def test_a_run_is_meant_by_the_beginning_of_its_id_with_run_or_without() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        ids = [(await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules())).run_id for _ in range(11)]
    [identity] = {run_id.removeprefix("run-").rpartition("-")[0] for run_id in ids}
    assert history.ids_like(file.connection, f"run-{identity}-2") == [ids[1]]
    assert history.ids_like(file.connection, f"{identity}-2") == [ids[1]]
    assert history.ids_like(file.connection, f"{identity}-11") == [ids[10]]
    assert history.ids_like(file.connection, ids[0]) == [ids[0]], "it is also the beginning of two others"
    assert len(history.ids_like(file.connection, identity[:4])) == 11
    assert history.ids_like(file.connection, "%") == []


async def test_a_run_whose_process_died_before_it_could_say_how_it_ended_is_over_and_lost() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules())
    file.connection.execute("UPDATE runs SET status = NULL, duration_s = NULL")
    [seen] = runs_in(file)
    assert (seen["status"], seen["reason"]) == ("cancelled", "lost")
    assert seen["ended_at"] is not None
