"""Park, begin, go: the lock file first, then the attempt, and no cancellation between that loses anything."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Kind
from supervisor import Attempt, Status, Supervisor
from supervisor.clock import clock_of
from supervisor.events import AttemptStarted, LockTaken, LockWaiting
from supervisor.settings.values import Limits, Settings
from supervisor.store.memory import MemoryStore
from supervisor.tasks import start_eager, start_plain
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, never_awaits, succeeds
from supervisor.testing.faults import Slowness
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.slow_store import SlowStore
from tests.supervisor.rules import assert_at_rest, failures_counted, now, rules, tokens_spent


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    return tmp_path / "reports.jsonl"


def lock_of(transcript: Path) -> Path:
    return transcript.with_name(transcript.name + ".lock")


async def test_the_lock_file_is_held_during_each_attempt_and_not_between(
    supervisor: Supervisor, transcript: Path
) -> None:
    seen: list[bool] = []

    async def work(attempt: Attempt) -> None:
        seen.append(lock_of(transcript).exists())
        await asyncio.sleep(1.0)
        if attempt.number == 1:
            raise ConnectionError

    run = asyncio.create_task(supervisor.run("a", work, policy=rules(backoff_s=4.0), lock=transcript))
    await asyncio.sleep(3.0)
    assert not lock_of(transcript).exists()
    report = await run
    assert seen == [True, True]
    assert not lock_of(transcript).exists()
    assert f"lock {lock_of(transcript)} released" in report.attempts[0].released.steps


async def test_two_supervisors_on_one_lock_file_take_turns(transcript: Path) -> None:
    work = ScriptedWork(succeeds(after=2.0))
    async with Supervisor() as one, Supervisor() as other:
        recorded = Recorded()
        other.on(recorded)
        first = asyncio.create_task(one.run("a", work, policy=rules(), lock=transcript))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(other.run("a", work, policy=rules(), lock=transcript))
        await asyncio.gather(first, second)
    assert work.overlap("a") == 1
    assert [len(recorded.of(kind)) for kind in (LockWaiting, LockTaken)] == [1, 1]


async def test_a_lock_that_stays_busy_refuses_a_first_attempt(transcript: Path) -> None:
    work = ScriptedWork(succeeds())
    async with Supervisor() as one, Supervisor() as other:
        holding = asyncio.create_task(one.run("a", ScriptedWork(hangs()), policy=rules(attempts=1), lock=transcript))
        await asyncio.sleep(1.0)
        report = await other.run_report("a", work, policy=rules(lock_wait_s=3.0), lock=transcript)
        assert (report.status, report.reason) == (Status.REFUSED, "busy")
        assert str(lock_of(transcript)) in report.detail
        assert (work.attempts, tokens_spent(other, "a"), failures_counted(other, "a")) == ([], 0.0, 0)
        assert_at_rest(other)
        holding.cancel()
        await asyncio.wait([holding])


async def test_a_lock_that_stays_busy_at_a_retry_fails_the_run_as_busy(transcript: Path) -> None:
    async with Supervisor() as one, Supervisor() as other:
        work = ScriptedWork(fails("overloaded", after=1.0))
        task = asyncio.create_task(other.run_report("a", work, policy=rules(lock_wait_s=3.0), lock=transcript))
        await asyncio.sleep(1.5)
        holding = asyncio.create_task(one.run("a", ScriptedWork(hangs()), policy=rules(attempts=1), lock=transcript))
        report = await task
        assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, "busy", 1)
        assert report.attempts[0].failure is not None
        assert report.attempts[0].failure.message == "scripted: overloaded"
        assert tokens_spent(other, "a") == 0.0
        assert_at_rest(other)
        holding.cancel()
        await asyncio.wait([holding])


async def test_a_lock_that_the_work_takes_itself_and_finds_busy_ends_the_run_the_same(transcript: Path) -> None:
    async def work(attempt: Attempt) -> None:
        if attempt.number == 2 or not retried:
            await attempt.lock(transcript)
        raise ConnectionError

    async with Supervisor() as one, Supervisor() as other:
        holding = asyncio.create_task(
            one.run("a", ScriptedWork(hangs()), policy=rules(attempts=1, timeout_s=60.0), lock=transcript)
        )
        await asyncio.sleep(1.0)
        retried = False
        first = await other.run_report("a", work, policy=rules(lock_wait_s=3.0))
        assert (first.status, first.reason, len(first.attempts)) == (Status.REFUSED, "busy", 1)
        assert str(lock_of(transcript)) in first.detail
        retried = True
        second = await other.run_report("a", work, policy=rules(lock_wait_s=3.0))
        assert (second.status, second.reason, len(second.attempts)) == (Status.FAILED, "busy", 2)
        assert tokens_spent(other, "a") == 1.0  # of the retry that was made, and found it busy
        assert failures_counted(other, "a") == 1
        holding.cancel()
        await asyncio.wait([holding])


async def test_a_lock_in_a_folder_that_is_missing_is_invalid_and_not_retried(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    work = ScriptedWork(succeeds())
    report = await supervisor.run_report("a", work, policy=rules(), lock=tmp_path / "missing" / "reports.jsonl")
    assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, "not_retried", 1)
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.INVALID
    assert str(tmp_path / "missing") in report.attempts[0].failure.message
    assert work.attempts == []


async def test_a_cancellation_while_waiting_for_the_lock_gives_everything_back(transcript: Path) -> None:
    clock = clock_of(asyncio.get_running_loop())
    locks = MemoryLockFiles(clock)
    locks.hold(transcript, "somebody")
    async with Supervisor(Settings(limits=Limits(running=1)), locks=locks) as supervisor:
        waiting = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds()), policy=rules(), lock=transcript))
        await asyncio.sleep(1.0)
        began = now()
        await supervisor.run("b", ScriptedWork(never_awaits()), policy=rules())
        assert now() == began  # it waits without a slot
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert_at_rest(supervisor)
        locks.free(transcript, "somebody")
        await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(), lock=transcript)
    assert locks.held() == {}


@pytest.mark.parametrize(("deadline_s", "reason"), [(600.0, ""), (4.0, "host_full")])
async def test_once_its_lock_is_free_a_run_goes_to_the_head_of_the_hosts_line(
    transcript: Path, deadline_s: float, reason: str
) -> None:
    order: list[str] = []

    async def work(attempt: Attempt) -> None:
        order.append(attempt.session)
        await asyncio.sleep(5.0)

    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(transcript, "somebody")
    async with Supervisor(Settings(limits=Limits(running=1)), locks=locks) as supervisor:
        policy = rules(deadline_s=deadline_s)
        tasks = [asyncio.create_task(supervisor.run_report("a", work, policy=policy, lock=transcript))]
        for session in ("b", "c"):
            await asyncio.sleep(1.0)
            tasks.append(asyncio.create_task(supervisor.run_report(session, work, policy=rules())))
        locks.free(transcript, "somebody")
        reports = [await task for task in tasks]
        assert order == (["b", "c"] if reason else ["b", "a", "c"])
        assert (reports[0].reason or "") == reason
        assert locks.held() == {}
        assert_at_rest(supervisor)


async def test_a_lock_that_changes_hands_is_waited_for_once_however_many_rounds_it_takes(transcript: Path) -> None:
    """While it is free the host is full, and somebody is quicker: `lock.wait` counts all the time it was held."""
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(transcript, "first")
    async with Supervisor(Settings(limits=Limits(running=1)), locks=locks) as supervisor:
        policy = rules(lock_wait_s=5.0)
        began = now()
        run = asyncio.create_task(supervisor.run_report("a", ScriptedWork(succeeds()), policy=policy, lock=transcript))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(supervisor.run("b", ScriptedWork(succeeds(after=4.0)), policy=rules()))
        await asyncio.sleep(2.5)
        locks.free(transcript, "first")  # held for 3 s
        await asyncio.sleep(0.5)
        assert locks.hold(transcript, "second")
        report = await run
        await other
        assert (report.status, report.reason) == (Status.REFUSED, "busy")
        assert now() - began == pytest.approx(4.5 + 2.0, abs=0.1)  # the host's slot at 4.5 s, then the 2 s left
        assert_at_rest(supervisor)


async def test_a_lock_taken_for_an_attempt_that_does_not_begin_is_let_go(transcript: Path) -> None:
    """The breaker opens while the lock is waited for."""
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(transcript, "somebody")
    policy = rules(failures=1, permits=2, attempts=1)
    async with Supervisor(locks=locks) as supervisor:
        work = ScriptedWork(succeeds())
        waiting = asyncio.create_task(supervisor.run_report("a", work, policy=policy, lock=transcript))
        await asyncio.sleep(1.0)
        await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
        locks.free(transcript, "somebody")
        report = await waiting
        assert (report.status, report.reason, work.attempts) == (Status.REFUSED, "breaker_open", [])
        assert locks.held() == {}
        assert_at_rest(supervisor)


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
@pytest.mark.parametrize("place", range(12))
async def test_a_cancellation_at_any_round_leaves_nothing_held(
    transcript: Path, start_task: Any, place: int, tmp_path: Path
) -> None:
    """From the line through the lock, the begin and the record: each shielded step ends, then the caller is told."""
    store = SlowStore(MemoryStore(), Slowness(share=1.0, rounds=2, seconds=0.0), seed=place)
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    released: list[str] = []

    async def work(attempt: Attempt) -> None:
        attempt.callback(released.append, "released")
        started.append(attempt.number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async with Supervisor(store=store, locks=locks, start_task=start_task) as supervisor:
        for rounds in range(3):
            started: list[int] = []
            task = asyncio.create_task(supervisor.run("a", work, policy=rules(), lock=transcript))
            for _ in range(place * 3 + rounds):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or place > 3
            assert len(released) == len(started)
            released.clear()
            assert locks.held() == {}
            assert not supervisor._runs
        assert (await supervisor.run("a", ScriptedWork(never_awaits("free")), policy=rules())).value == "free"


async def test_a_run_cancelled_while_its_attempt_is_begun_does_not_start_the_work() -> None:
    """The transaction is awaited to its end; the attempt it began is recorded as cancelled."""
    store = SlowStore(MemoryStore(), Slowness(share=1.0, rounds=0, seconds=0.0))
    entered = asyncio.Event()

    async def slow_begin(*args: Any) -> None:
        entered.set()
        await asyncio.sleep(5.0)
        assert inner.begin(args[0]) is None

    inner = MemoryStore()
    store = SlowStore(inner, Slowness(share=0.0, rounds=0, seconds=0.0))
    store.begin = slow_begin  # type: ignore[method-assign, assignment]
    async with Supervisor(store=store) as supervisor:
        recorded = Recorded()
        supervisor.on(recorded)
        work = ScriptedWork(succeeds())
        task = asyncio.create_task(supervisor.run("a", work, policy=rules()))
        await entered.wait()
        began = now()
        task.cancel()
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (now() - began, work.attempts) == (5.0, [])
        assert not inner._lines
    assert [event.number for event in recorded.of(AttemptStarted)] == [1]


async def test_each_attempt_has_its_number_its_fence_and_its_key(supervisor: Supervisor) -> None:
    seen: list[tuple[int, int, str]] = []

    async def work(attempt: Attempt) -> None:
        seen.append((attempt.number, attempt.fence, attempt.idempotency_key))
        raise ConnectionError

    await supervisor.run_report("a", work, policy=rules())
    await supervisor.run_report("a", work, policy=rules(attempts=1))
    numbers, fences, keys = zip(*seen, strict=True)
    assert numbers == (1, 2, 3, 1)
    assert sorted(set(fences)) == list(fences)
    assert len(set(keys)) == 4


@pytest.mark.parametrize("start_task", [start_plain, start_eager])
async def test_work_that_never_suspends_needs_no_timer(start_task: Any) -> None:
    async with Supervisor(start_task=start_task) as supervisor:
        assert (await supervisor.run("a", ScriptedWork(never_awaits(7)), policy=rules())).value == 7
        assert_at_rest(supervisor)
