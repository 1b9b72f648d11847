"""Who wants a run to stop: its caller, or the engine. The caller sees a CancelledError only if it was cancelled."""

import asyncio

import pytest

from policies.gate import Overlap
from supervisor import Attempt, RunFailed, Status, Supervisor
from supervisor.store.memory import MemoryStore
from supervisor.testing import ScriptedWork, fails, hangs, succeeds
from supervisor.testing.faults import Slowness
from supervisor.testing.slow_store import SlowStore
from tests.supervisor.rules import assert_at_rest, now, rules

REPLACE = rules(overlap=Overlap.REPLACE, backoff_s=50.0)


async def replaced(supervisor: Supervisor, old_work: ScriptedWork, after: float) -> RunFailed:
    """Start a run, replace it after so many seconds, and return how it ended."""
    old = asyncio.create_task(supervisor.run("a", old_work, policy=REPLACE))
    await asyncio.sleep(after)
    new = await supervisor.run("a", ScriptedWork(succeeds("new")), policy=REPLACE)
    assert new.value == "new"
    assert old.done()
    with pytest.raises(RunFailed) as caught:
        await old
    assert old.cancelling() == 0
    return caught.value


async def test_a_running_run_that_is_replaced_ends_as_failed_not_as_cancelled(supervisor: Supervisor) -> None:
    error = await replaced(supervisor, ScriptedWork(hangs()), after=1.0)
    assert (error.report.status, error.report.reason) == (Status.CANCELLED, "replaced")
    assert error.report.attempts[0].failure is not None
    assert error.report.attempts[0].failure.message == "replaced by a newer run of its session"


async def test_a_run_that_is_replaced_in_its_backoff_ends_with_its_last_failure(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("overloaded"), succeeds())
    error = await replaced(supervisor, work, after=1.0)
    assert (error.report.status, error.report.reason) == (Status.CANCELLED, "replaced")
    assert len(work.attempts) == 1
    assert "scripted: overloaded" in str(error)


async def test_a_run_that_is_replaced_in_line_never_starts(supervisor: Supervisor) -> None:
    first = asyncio.create_task(supervisor.run("a", ScriptedWork(hangs()), policy=rules(timeout_s=5.0, attempts=1)))
    await asyncio.sleep(1.0)
    work = ScriptedWork(succeeds())
    waiting = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    await asyncio.sleep(1.0)
    await supervisor.run("a", ScriptedWork(succeeds()), policy=REPLACE)
    for old in (first, waiting):
        with pytest.raises(RunFailed) as caught:
            await old
        assert (caught.value.report.status, caught.value.report.reason) == (Status.CANCELLED, "replaced")
    assert work.attempts == []


@pytest.mark.parametrize("permits", [1, 2])
async def test_the_new_run_starts_only_when_the_replaced_one_is_gone(supervisor: Supervisor, permits: int) -> None:
    """Though the gate might let it in beside it."""
    policy = rules(overlap=Overlap.REPLACE, permits=permits)
    work = ScriptedWork(hangs(ignoring_cancellation_for=1.5))
    new_work = ScriptedWork(succeeds())
    old = asyncio.create_task(supervisor.run_report("a", work, policy=rules()))
    other = asyncio.create_task(supervisor.run_report("a", work, policy=rules()))
    await asyncio.sleep(1.0)
    await supervisor.run("a", new_work, policy=policy)
    assert (await other).reason == "replaced"
    assert new_work.attempts[0].started_at == work.attempts[0].ended_at
    assert (await old).reason == "replaced"


async def test_a_new_run_on_top_of_one_that_was_not_proved_gone_is_refused(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs(ignoring_cancellation_for=100.0))
    old = asyncio.create_task(supervisor.run_report("a", work, policy=REPLACE))
    await asyncio.sleep(1.0)
    new = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=REPLACE)
    assert (new.status, new.reason) == (Status.REFUSED, "quarantined")
    assert (await old).status is Status.QUARANTINED
    await asyncio.sleep(200.0)


@pytest.mark.parametrize("replacer_first", [True, False])
async def test_a_caller_cancelled_while_it_is_replaced_gets_its_cancellation(
    supervisor: Supervisor, *, replacer_first: bool
) -> None:
    old = asyncio.create_task(supervisor.run("a", ScriptedWork(hangs()), policy=REPLACE))
    await asyncio.sleep(1.0)
    if not replacer_first:
        old.cancel("by its caller")
    new = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds()), policy=REPLACE))
    if replacer_first:
        await asyncio.sleep(0)
        old.cancel("by its caller")
    with pytest.raises(asyncio.CancelledError):
        await old
    assert old.cancelled()
    await new


async def test_a_cancelled_caller_gets_the_message_it_was_cancelled_with(supervisor: Supervisor) -> None:
    seen: list[tuple[object, ...]] = []

    async def caller() -> None:
        try:
            await supervisor.run("a", ScriptedWork(hangs()), policy=rules())
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    task = asyncio.create_task(caller())
    await asyncio.sleep(1.0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("enough",)]


async def test_a_timeout_around_a_run_works(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await supervisor.run("a", work, policy=rules())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert work.attempts[0].ended_at == now()


async def test_a_timeout_around_a_run_that_is_replaced_does_not_fire(supervisor: Supervisor) -> None:
    async def old() -> str:
        try:
            async with asyncio.timeout(100.0):
                await supervisor.run("a", ScriptedWork(hangs()), policy=REPLACE)
        except RunFailed as error:
            return error.report.reason or ""
        return "succeeded"

    running = asyncio.create_task(old())
    await asyncio.sleep(1.0)
    await supervisor.run("a", ScriptedWork(succeeds()), policy=REPLACE)
    assert await running == "replaced"


async def test_nested_timeouts_and_task_groups_around_runs_each_get_what_is_theirs(supervisor: Supervisor) -> None:
    ended: list[str] = []

    async def inner(session: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await supervisor.run(session, ScriptedWork(hangs()), policy=rules())
        except TimeoutError:
            ended.append(f"{session} timed out")
        except asyncio.CancelledError:
            ended.append(f"{session} cancelled")
            raise

    async def outer() -> None:
        async with asyncio.timeout(4.0), asyncio.TaskGroup() as group:
            group.create_task(inner("a", 2.0))
            group.create_task(inner("b", 9.0))
            await asyncio.sleep(100.0)

    with pytest.raises(TimeoutError):
        await outer()
    assert ended == ["a timed out", "b cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_task_group_whose_sibling_failed_gets_its_error_and_not_a_cancellation(supervisor: Supervisor) -> None:
    work = ScriptedWork(hangs())

    async def sibling() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("sibling")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run("a", work, policy=rules()))
            group.create_task(sibling())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert [str(error) for error in caught.value.exceptions] == ["sibling"]
    assert work.alive("a") == 0


async def test_a_run_inside_a_caller_that_is_being_cancelled_can_still_be_replaced(supervisor: Supervisor) -> None:
    """A caller's own cleaning up may run something: the count of cancellations it stands at is its own."""
    ended: list[str] = []

    async def caller() -> None:
        try:
            await asyncio.sleep(1000.0)
        finally:
            report = await supervisor.run_report("a", ScriptedWork(hangs()), policy=REPLACE)
            ended.append(report.reason or "")

    old = asyncio.create_task(caller())
    await asyncio.sleep(1.0)
    old.cancel()
    await asyncio.sleep(1.0)
    await supervisor.run("a", ScriptedWork(succeeds()), policy=REPLACE)
    with pytest.raises(asyncio.CancelledError):
        await old
    assert ended == ["replaced"]


def slow(seed: int) -> SlowStore:
    """Return a store each of whose answers takes its time."""
    return SlowStore(MemoryStore(), Slowness(share=1.0, rounds=2, seconds=1.0), seed)


@pytest.mark.parametrize("seed", range(20))
async def test_a_run_replaced_while_the_store_answers_is_not_taken_for_cancelled(seed: int) -> None:
    store = slow(seed)
    async with Supervisor(store=store) as supervisor:
        for delay in (0.0, 0.1, 0.3, 0.5, 0.9, 1.3, 1.7, 2.5):
            old = asyncio.create_task(supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=REPLACE))
            await asyncio.sleep(delay)
            await supervisor.run_report("a", ScriptedWork(succeeds()), policy=REPLACE)
            report = await old
            assert report.reason in ("replaced", "attempts")
        assert not supervisor._runs


@pytest.mark.parametrize("seed", range(20))
async def test_a_cancellation_while_the_store_answers_waits_for_no_backoff(seed: int) -> None:
    """Noted while the record was written, it comes out right after it: not an hour of backoff later."""
    store = slow(seed)
    policy = rules(backoff_s=3600.0, deadline_s=None)
    async with Supervisor(store=store) as supervisor:
        for delay in (0.0, 0.1, 0.3, 0.5, 0.9, 1.3, 1.7, 2.1, 2.5, 3.0):
            task = asyncio.create_task(supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy))
            await asyncio.sleep(delay)
            began = now()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert now() - began < 60.0
        assert not supervisor._runs


async def test_a_second_cancellation_changes_nothing(supervisor: Supervisor) -> None:
    cleaned: list[float] = []

    async def work(attempt: Attempt) -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(1.5)
            cleaned.append(now())

    task = asyncio.create_task(supervisor.run("a", work, policy=rules(grace_s=2.0)))
    await asyncio.sleep(1.0)
    began = now()
    task.cancel()
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [began + 1.5]
    assert now() == began + 1.5
    assert_at_rest(supervisor)


async def test_a_caller_cancelled_in_the_instant_of_a_success_gets_its_cancellation_and_nothing_is_held(
    supervisor: Supervisor,
) -> None:
    async def work(attempt: Attempt) -> str:
        await asyncio.sleep(1.0)
        asyncio.get_running_loop().call_soon(task.cancel)
        return "too late"

    task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_at_rest(supervisor)


async def test_a_run_cancelled_before_it_began_does_nothing(supervisor: Supervisor) -> None:
    work = ScriptedWork(succeeds())
    task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.attempts == []
