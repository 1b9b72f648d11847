"""The wait between attempts, and the token of a retry that is not launched."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Effect, Kind
from policies.gate import Overlap
from supervisor import Attempt, Status, Supervisor
from supervisor.clock import clock_of
from supervisor.settings.values import Limits, Settings
from supervisor.store.contract import Ending, Refused, Standing
from supervisor.store.memory import MemoryStore
from supervisor.tasks import Now
from supervisor.testing import ScriptedWork, fails, hangs, never_awaits, succeeds
from supervisor.testing.faults import Slowness
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.slow_store import SlowStore
from tests.supervisor.rules import assert_at_rest, now, rules, store_of, tokens_spent


async def test_nothing_is_held_during_a_backoff(supervisor: Supervisor) -> None:
    run = asyncio.create_task(
        supervisor.run("a", ScriptedWork(fails("overloaded"), succeeds("done")), policy=rules(backoff_s=60.0))
    )
    await asyncio.sleep(1.0)
    assert store_of(supervisor)._lines["a"].running == 0
    began = now()
    assert (await supervisor.run("a", ScriptedWork(never_awaits("between")), policy=rules())).value == "between"
    assert now() == began
    assert (await run).value == "done"


async def test_a_retry_stands_behind_those_who_came_meanwhile(supervisor: Supervisor) -> None:
    order: list[str] = []

    async def first(attempt: Attempt) -> None:
        order.append(f"first {attempt.number}")
        if attempt.number == 1:
            raise ConnectionError

    async def other(attempt: Attempt) -> None:
        order.append(f"other {attempt.session}")
        await asyncio.sleep(5.0)

    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run("a", first, policy=rules(backoff_s=3.0)))
        await asyncio.sleep(1.0)
        group.create_task(supervisor.run("a", other, policy=rules()))
        await asyncio.sleep(1.0)
        group.create_task(supervisor.run("a", other, policy=rules()))
    assert order == ["first 1", "other a", "other a", "first 2"]


async def test_a_cancellation_in_the_backoff_gives_the_token_back(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("timeout"))
    task = asyncio.create_task(supervisor.run("a", work, policy=rules(backoff_s=60.0)))
    await asyncio.sleep(1.0)
    assert tokens_spent(supervisor, "a") == 2.0
    began = now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tokens_spent(supervisor, "a"), now(), len(work.attempts)) == (0.0, began, 1)


async def test_a_launched_retry_has_spent_its_token(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("overloaded"), succeeds())
    await supervisor.run("a", work, policy=rules())
    assert tokens_spent(supervisor, "a") == 1.0


async def test_a_cancellation_of_the_retry_in_line_gives_the_token_back(supervisor: Supervisor) -> None:
    task = asyncio.create_task(supervisor.run("a", ScriptedWork(fails("overloaded")), policy=rules(backoff_s=2.0)))
    await asyncio.sleep(1.0)
    long = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds(after=9.0)), policy=rules()))
    await asyncio.sleep(3.0)
    assert tokens_spent(supervisor, "a") == 1.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tokens_spent(supervisor, "a") == 0.0
    await long


async def test_a_retry_whose_turn_does_not_come_before_the_deadline_fails_and_gives_its_token_back(
    supervisor: Supervisor,
) -> None:
    work = ScriptedWork(fails("overloaded"))
    policy = rules(backoff_s=2.0, deadline_s=6.0)
    task = asyncio.create_task(supervisor.run_report("a", work, policy=policy))
    await asyncio.sleep(1.0)
    long = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds(after=9.0)), policy=rules()))
    report = await task
    assert (report.status, report.reason, report.duration_s) == (Status.FAILED, "deadline", 6.0)
    assert report.attempts[-1].failure is not None
    assert report.attempts[-1].failure.message == "scripted: overloaded"
    assert tokens_spent(supervisor, "a") == 0.0
    await long


async def test_a_stated_retry_after_is_waited_for(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("rate_limited", retry_after=30.0), succeeds())
    await supervisor.run("a", work, policy=rules(backoff_s=1.0))
    first, second = work.attempts
    assert second.started_at - first.started_at == 30.0


async def test_a_stated_retry_after_past_the_deadline_ends_the_run_at_once_and_spends_nothing(
    supervisor: Supervisor,
) -> None:
    work = ScriptedWork(fails("rate_limited", retry_after=700.0))
    report = await supervisor.run_report("a", work, policy=rules(deadline_s=600.0))
    assert (report.status, report.reason, report.duration_s) == (Status.FAILED, "deadline", 0.0)
    assert tokens_spent(supervisor, "a") == 0.0


async def test_a_retry_due_inside_a_cooldown_moves_to_its_end(supervisor: Supervisor) -> None:
    work = ScriptedWork(fails("overloaded"), fails("overloaded"), succeeds("healed"))
    report = await supervisor.run("a", work, policy=rules(failures=2, cooldown_s=60.0, backoff_s=1.0))
    assert report.value == "healed"
    waited = work.attempts[2].started_at - work.attempts[1].started_at
    assert 60.0 <= waited <= 72.0
    assert report.attempts[1].as_json()["verdict"]["delay_s"] == round(waited, 6)


async def test_a_retry_waits_an_open_breaker_out_and_is_charged_once(supervisor: Supervisor) -> None:
    """Another run opens the breaker while this one is in its backoff."""
    work = ScriptedWork(fails("overloaded"), succeeds("healed"))
    policy = rules(failures=3, cooldown_s=60.0, backoff_s=5.0)
    task = asyncio.create_task(supervisor.run("a", work, policy=policy))
    await asyncio.sleep(1.0)
    once = rules(failures=3, cooldown_s=60.0, attempts=1)
    for _ in range(2):
        await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=once)
    opened = now()
    assert (await supervisor.run_report("a", ScriptedWork(succeeds()), policy=once)).reason == "breaker_open"
    report = await task
    assert report.value == "healed"
    assert 60.0 <= work.attempts[1].started_at - opened <= 72.0
    assert tokens_spent(supervisor, "a") == 1.0


async def test_a_retry_that_finds_the_breaker_open_past_its_deadline_fails_and_gives_its_token_back(
    supervisor: Supervisor,
) -> None:
    work = ScriptedWork(fails("overloaded"))
    policy = rules(failures=3, cooldown_s=60.0, backoff_s=5.0, deadline_s=30.0)
    task = asyncio.create_task(supervisor.run_report("a", work, policy=policy))
    await asyncio.sleep(1.0)
    for _ in range(2):
        await supervisor.run_report(
            "a", ScriptedWork(fails("overloaded")), policy=rules(failures=3, cooldown_s=60.0, attempts=1)
        )
    report = await task
    assert (report.status, report.reason) == (Status.FAILED, "deadline")
    assert len(report.attempts) == 1
    assert tokens_spent(supervisor, "a") == 0.0


@pytest.mark.parametrize("trial", [succeeds(after=20.0), fails("auth", after=20.0), hangs()])
async def test_a_retry_waits_for_a_full_half_open_breaker(supervisor: Supervisor, trial: object) -> None:
    """The trial is under way: whatever it comes to, the retry goes on, and never beside it."""
    kinds = {Kind.AUTH: Effect(retried=False, counts=False)}
    policy = rules(
        failures=2, cooldown_s=10.0, backoff_s=14.0, permits=2, kinds=kinds, deadline_s=300.0, timeout_s=25.0
    )
    once = rules(failures=2, cooldown_s=10.0, permits=2, kinds=kinds, attempts=1, timeout_s=25.0)
    work = ScriptedWork(fails("overloaded"), succeeds("went on"))
    task = asyncio.create_task(supervisor.run("a", work, policy=policy))
    await asyncio.sleep(0.5)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=once)  # opens for 10 to 12 s
    await asyncio.sleep(12.5)
    trial_work = ScriptedWork(trial)  # type: ignore[arg-type]
    trying = asyncio.create_task(supervisor.run_report("a", trial_work, policy=once))
    await asyncio.sleep(5.0)  # the retry is due by now
    assert (len(work.attempts), trial_work.alive("a")) == (1, 1)
    refused = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=once)
    assert refused.reason == "breaker_open"
    assert (await task).value == "went on"
    ended = trial_work.attempts[0].ended_at
    assert ended is not None
    assert work.attempts[1].started_at >= ended
    assert tokens_spent(supervisor, "a") == 1.0
    await trying


async def test_a_cancellation_while_a_retry_waits_for_the_breaker_gives_its_token_back(supervisor: Supervisor) -> None:
    policy = rules(failures=2, cooldown_s=60.0, backoff_s=5.0)
    task = asyncio.create_task(supervisor.run("a", ScriptedWork(fails("overloaded")), policy=policy))
    await asyncio.sleep(1.0)
    once = rules(failures=2, cooldown_s=60.0, attempts=1)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=once)
    await asyncio.sleep(10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tokens_spent(supervisor, "a") == 0.0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_retry_whose_breaker_opens_while_it_waits_for_its_lock_waits_that_out_too(
    tmp_path: Path, *, cancelled: bool
) -> None:
    """It is refused at the last moment, by the transaction that would have begun it."""
    transcript = tmp_path / "reports.jsonl"
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    policy = rules(failures=2, permits=2, backoff_s=5.0, lock_wait_s=60.0)
    store = SlowLeave()
    async with Supervisor(locks=locks, store=store) as supervisor:
        work = ScriptedWork(fails("overloaded"), succeeds("healed"))
        task = asyncio.create_task(supervisor.run("a", work, policy=policy, lock=transcript))
        await asyncio.sleep(1.0)
        locks.hold(transcript, "somebody")
        await asyncio.sleep(10.0)  # the retry waits for the lock by now
        await supervisor.run_report(
            "a", ScriptedWork(fails("overloaded")), policy=rules(failures=2, permits=2, attempts=1)
        )
        opened, store.seconds = now(), 3.0
        locks.free(transcript, "somebody")
        await asyncio.sleep(1.0)
        if cancelled:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert now() - opened < 10.0
        else:
            assert (await task).value == "healed"
            assert 60.0 <= work.attempts[1].started_at - opened <= 72.0 + 2 * 3.0
        assert tokens_spent(supervisor, "a") == (0.0 if cancelled else 1.0)
        assert locks.held() == {}


class SlowLeave(MemoryStore):
    """A store that takes its time to give a permit back."""

    seconds = 0.0

    def leave(self, run: Standing) -> Any:
        super().leave(run)
        return asyncio.sleep(self.seconds) if self.seconds else None


async def test_a_retry_of_a_session_that_was_quarantined_meanwhile_fails_with_its_last_failure(
    supervisor: Supervisor,
) -> None:
    task = asyncio.create_task(
        supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=rules(backoff_s=20.0))
    )
    await asyncio.sleep(1.0)
    stubborn = ScriptedWork(hangs(ignoring_cancellation_for=100.0))
    assert (await supervisor.run_report("a", stubborn, policy=rules(timeout_s=2.0))).status is Status.QUARANTINED
    report = await task
    assert (report.status, report.reason) == (Status.FAILED, "quarantined")
    assert report.attempts[-1].failure is not None
    assert report.attempts[-1].failure.message == "scripted: overloaded"
    assert tokens_spent(supervisor, "a") == 0.0
    await asyncio.sleep(200.0)


async def test_an_immediate_retry_waits_for_nothing(supervisor: Supervisor) -> None:
    began = now()
    work = ScriptedWork(fails("overloaded"), fails("overloaded"), succeeds())
    await supervisor.run("a", work, policy=rules(backoff_s=0.0))
    assert now() == began
    assert len(work.attempts) == 3


async def test_a_run_in_its_backoff_counts_as_under_way(supervisor: Supervisor) -> None:
    task = asyncio.create_task(
        supervisor.run("a", ScriptedWork(fails("overloaded"), succeeds()), policy=rules(backoff_s=9.0))
    )
    await asyncio.sleep(1.0)
    skipped = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules(overlap=Overlap.SKIP))
    assert (skipped.status, skipped.reason) == (Status.REFUSED, "overlap")
    await task
    await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(overlap=Overlap.SKIP))


async def test_a_store_that_fails_at_a_retry_ends_the_run_with_what_it_says() -> None:
    """It is not taken for one more attempt that failed: nothing would ever end such a loop."""

    class Breaks(MemoryStore):
        def begin(self, run: Standing) -> Refused | None:
            if run.number:
                raise OSError(28, "the store's disk is full")
            return super().begin(run)

    work = ScriptedWork(fails("error"))
    async with Supervisor(store=Breaks()) as supervisor:
        with pytest.raises(OSError, match="the store's disk is full"):
            await asyncio.wait_for(supervisor.run("a", work, policy=rules(backoff_s=1.0)), 100.0)
    assert len(work.attempts) == 1


async def test_a_retry_that_is_cancelled_while_it_is_begun_gives_its_token_back() -> None:
    """Its work never starts, however far the transaction has come by then."""

    class Slow(SlowStore):
        def begin(self, run: Standing) -> Now[Refused | None]:
            return self._late(store.begin, run) if run.number else store.begin(run)

        async def _wait(self) -> None:
            await asyncio.sleep(1.0)

    store = MemoryStore()
    async with Supervisor(store=Slow(store, Slowness())) as supervisor:
        for session, wait_s in (("before the commit", 2.5), ("after it", 3.5)):
            work = ScriptedWork(fails("timeout"))
            task = asyncio.create_task(supervisor.run(session, work, policy=rules(backoff_s=2.0)))
            await asyncio.sleep(wait_s)
            assert store._tokens[session].spent == 2.0
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (len(work.attempts), session in store._tokens) == (1, False)


async def test_whatever_breaks_a_retry_the_run_is_over_and_its_token_given_back() -> None:
    """Memory cannot be read; no thread can be started; the store is gone: the session must not stay under way."""
    readings = itertools.count(1)

    def memory() -> int:
        if next(readings) == 3:
            raise OSError("no /proc")
        return 1 << 40

    settings = Settings(limits=Limits(min_available_memory_bytes=1, running=1))
    async with Supervisor(settings, memory=memory) as supervisor:
        await supervisor.run("a", ScriptedWork(succeeds()), policy=rules())
        with pytest.raises(OSError, match="no /proc"):
            await supervisor.run("a", ScriptedWork(fails("overloaded")), policy=rules())
        assert_at_rest(supervisor)
        assert tokens_spent(supervisor, "a") == 0.0
        for overlap in (Overlap.SKIP, Overlap.REPLACE):
            await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(overlap=overlap))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_store_that_cannot_begin_leaves_no_lock_and_no_permit_behind(*, late: bool, tmp_path: Path) -> None:
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))

    class Breaks(MemoryStore):
        def begin(self, run: Standing) -> Any:
            if not broken:
                return super().begin(run)
            if late:
                return self._begin_late()
            raise OSError(28, "the store's disk is full")

        async def _begin_late(self) -> None:
            await asyncio.sleep(1.0)
            raise OSError(28, "the store's disk is full")

    broken = True
    settings = Settings(limits=Limits(running=1))
    async with Supervisor(settings, store=Breaks(), locks=locks) as supervisor:
        with pytest.raises(OSError, match="disk is full"):
            await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(), lock=tmp_path / "a")
        assert not locks.held()
        assert_at_rest(supervisor)
        broken = False
        await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(overlap=Overlap.SKIP), lock=tmp_path / "a")


async def test_what_breaks_a_run_comes_out_also_where_its_end_cannot_be_stored() -> None:
    class Gone(MemoryStore):
        def arrive(self, run: Standing) -> Any:
            raise OSError("the store is gone")

        def end(self, run: Standing, ending: Ending) -> None:
            raise OSError("the store is still gone")

    async with Supervisor(store=Gone()) as supervisor:
        with pytest.raises(OSError, match="the store is gone"):
            await supervisor.run("a", ScriptedWork(succeeds()), policy=rules())
        assert not supervisor._runs


async def test_a_run_that_is_over_can_be_replaced_though_the_store_was_not_told() -> None:
    class Forgets(MemoryStore):
        def end(self, run: Standing, ending: Ending) -> None:
            """Nobody is told."""

    async with Supervisor(store=Forgets()) as supervisor:
        task = asyncio.create_task(supervisor.run("a", ScriptedWork(fails("overloaded")), policy=rules(backoff_s=60.0)))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task])
        newer = await supervisor.run_report(
            "a", ScriptedWork(succeeds()), policy=rules(overlap=Overlap.REPLACE, wait_s=5.0)
        )
        assert newer.reason == "wait_over"
