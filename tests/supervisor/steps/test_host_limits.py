"""What the host allows: attempts running, starts per period, memory; who goes first, and who is passed on to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.failure import Kind, Refusal
from supervisor import Attempt, RunFailed, RunRefused, Status, Supervisor
from supervisor.events import RunQueued
from supervisor.settings.values import Limits, Settings
from supervisor.steps.host_limits import MEMORY_POLL_S, HostLimits
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, succeeds, virtual_clock
from supervisor.testing.throttle import throttle_on_loop_time
from tests.supervisor.rules import assert_at_rest, now, rules

MIB = 1024 * 1024
PLENTY = 1 << 40


@dataclass
class Host:
    """A supervisor with limits, and what its attempts did."""

    supervisor: Supervisor
    available: list[int] = field(default_factory=lambda: [PLENTY])
    starts: list[tuple[str, float]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    @property
    def limits(self) -> HostLimits:
        limits = self.supervisor._host
        assert limits is not None
        return limits

    def work(self, seconds: float = 10.0, failures: int = 0) -> Callable[[Attempt], Coroutine[Any, Any, None]]:
        async def work(attempt: Attempt) -> None:
            self.starts.append((f"{attempt.session} {attempt.number}", now()))
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(seconds)
                if attempt.number <= failures:
                    raise ConnectionError
            finally:
                self.running -= 1

        return work

    def run(self, session: str, seconds: float = 10.0, failures: int = 0, **ruled: Any) -> "asyncio.Task[Any]":
        policy = rules(timeout_s=None, **ruled)
        work = self.work(seconds, failures)
        return asyncio.create_task(self.supervisor.run(session, work, policy=policy))

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.starts]


@asynccontextmanager
async def host(
    running: int | None = None, starts: tuple[int, float] | None = None, memory: int | None = None
) -> AsyncIterator[Host]:
    available = [PLENTY]
    limits = Limits(running, starts, memory)
    with throttle_on_loop_time():
        async with Supervisor(Settings(limits=limits), memory=lambda: available[0]) as supervisor:
            it = Host(supervisor, available)
            yield it
            await asyncio.sleep(0)
            assert_at_rest(supervisor)
            assert it.limits._running == 0
            assert not it.limits._slot_line
            assert not it.limits._door_line
            assert not it.limits._door_taken


# --- slots


async def test_no_more_attempts_run_at_once_than_there_are_slots() -> None:
    async with host(running=2) as it:
        await asyncio.gather(*(it.run(f"s{n}") for n in range(7)))
        assert it.most == 2
        assert it.order == [f"s{n} 1" for n in range(7)]


async def test_waiting_for_the_host_is_told_once_it_waits() -> None:
    async with host(running=1) as it:
        recorded = Recorded()
        it.supervisor.on(recorded)
        await asyncio.gather(it.run("a"), it.run("b"))
        queued = recorded.of(RunQueued)
        assert [(event.session, event.line) for event in queued] == [("b", "host")]


async def test_first_attempts_go_before_retries() -> None:
    async with host(running=1) as it:
        failing = it.run("failing", 1.0, failures=1, backoff_s=1.0)
        await asyncio.sleep(0.5)
        others = [it.run(f"s{n}") for n in range(2)]
        await asyncio.sleep(5.0)  # the retry has joined the line by now
        others.append(it.run("late"))
        await asyncio.gather(failing, *others)
        assert it.order == ["failing 1", "s0 1", "s1 1", "late 1", "failing 2"]


async def test_a_backoff_holds_no_slot() -> None:
    async with host(running=1) as it:
        failing = it.run("failing", 1.0, failures=1, backoff_s=60.0)
        await asyncio.sleep(2.0)
        await it.run("other", 1.0)
        assert not failing.done()
        await failing


async def test_a_slot_comes_back_from_an_attempt_that_was_cancelled() -> None:
    async with host(running=1) as it:
        first, second = it.run("a", 100.0), it.run("b", 1.0)
        await asyncio.sleep(1.0)
        first.cancel()
        await asyncio.wait((first, second))
        assert first.cancelled()
        assert it.order == ["a 1", "b 1"]


async def test_a_run_that_is_refused_in_the_host_s_line_gives_its_permit_back() -> None:
    async with host(running=1) as it:
        first = it.run("other", 30.0)
        await asyncio.sleep(0)
        refused = it.run("s", deadline_s=10.0)
        with pytest.raises(RunRefused) as raised:
            await refused
        assert raised.value.report.reason == Refusal.HOST_FULL
        again = it.run("s", 1.0)
        await asyncio.gather(first, again)
        assert again.done()


@pytest.mark.parametrize("round_of_cancel", range(6))
async def test_a_slot_granted_in_the_instant_of_a_cancellation_is_passed_on(round_of_cancel: int) -> None:
    async with host(running=1) as it:
        first, cancelled, third = it.run("a", 10.0), it.run("b", 10.0), it.run("c", 10.0)
        await asyncio.sleep(10.0)
        for _ in range(round_of_cancel):
            await asyncio.sleep(0)
        cancelled.cancel()
        done, _ = await asyncio.wait((first, cancelled, third), timeout=60.0)
        assert len(done) == 3
        assert it.order[-1] == "c 1"
        assert it.most == 1


async def test_a_slot_that_comes_at_the_deadline_itself_is_not_lost() -> None:
    async with host(running=1) as it:
        first = it.run("a", 10.0)
        await asyncio.sleep(0)
        at_the_end = it.run("b", 1.0, deadline_s=10.0)
        third = it.run("c", 1.0)
        await asyncio.gather(first, at_the_end, third, return_exceptions=True)
        assert "c 1" in it.order


async def test_a_retry_that_finds_no_slot_before_the_deadline_fails_with_its_last_failure() -> None:
    async with host(running=1) as it:
        failing = it.run("failing", 1.0, failures=9, backoff_s=1.0, deadline_s=20.0)
        await asyncio.sleep(1.5)
        other = it.run("other", 100.0)
        with pytest.raises(RunFailed) as raised:
            await failing
        report = raised.value.report
        assert (report.status, report.reason, len(report.attempts)) == (Status.FAILED, Refusal.DEADLINE, 1)
        assert report.attempts[0].failure is not None
        assert report.attempts[0].failure.kind is Kind.NETWORK
        assert report.duration_s == pytest.approx(20.0)
        await other


# --- nested attempts


async def test_a_nested_attempt_uses_its_ancestor_s_slot() -> None:
    async with host(running=1) as it:

        async def parent(attempt: Attempt) -> list[str]:
            async with attempt.subagents() as children:
                for name in ("x", "y"):
                    children.spawn(name, grandparent if name == "x" else ScriptedWork(succeeds("leaf")))
            return ["done"]

        async def grandparent(attempt: Attempt) -> None:
            async with attempt.subagents() as children:
                children.spawn("z", ScriptedWork(succeeds("leaf", after=1.0)))

        report = await it.supervisor.run("top", parent, policy=rules())
        assert report.value == ["done"]


async def test_parents_that_hold_every_slot_do_not_wait_for_their_children() -> None:
    async with host(running=2) as it:

        async def parent(attempt: Attempt) -> None:
            async with attempt.subagents() as children:
                children.spawn(f"child of {attempt.session}", ScriptedWork(succeeds(after=1.0)))

        runs = [it.supervisor.run(f"p{n}", parent, policy=rules()) for n in range(6)]
        assert {report.status for report in await asyncio.gather(*runs)} == {Status.SUCCEEDED}


async def test_a_nested_attempt_takes_a_start_like_anyone() -> None:
    async with host(running=1, starts=(1, 60.0)) as it:
        starts: list[float] = []

        async def child(attempt: Attempt) -> None:
            starts.append(now())

        async def parent(attempt: Attempt) -> None:
            starts.append(now())
            async with attempt.subagents() as children:
                children.spawn("child", child)

        await it.supervisor.run("parent", parent, policy=rules(timeout_s=None))
        assert starts[1] - starts[0] > 60.0


# --- starts


async def test_no_more_start_within_any_period_than_the_limit() -> None:
    async with host(starts=(3, 60.0)) as it:
        began = now()
        await asyncio.gather(*(it.run(f"s{n}", 1.0) for n in range(8)))
        moments = [round(at - began) for _, at in it.starts]
        assert moments == [0, 0, 0, 60, 60, 60, 120, 120]
        assert it.order == [f"s{n} 1" for n in range(8)]


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 3),
    period=st.sampled_from([1.0, 10.0]),
    arrivals=st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 3.0, 9.999, 10.0]), st.booleans()), max_size=14),
)
def test_the_window_is_strict_whenever_they_come(count: int, period: float, arrivals: list[tuple[float, bool]]) -> None:
    async def main() -> list[float]:
        async with host(starts=(count, period)) as it:
            runs = []
            for n, (wait, fails_once) in enumerate(arrivals):
                await asyncio.sleep(wait)
                runs.append(it.run(f"s{n}", 0.5, failures=int(fails_once), backoff_s=0.0, deadline_s=10_000.0))
            await asyncio.gather(*runs)
            return [at for _, at in it.starts]

    starts = virtual_clock().run(main())
    assert len(starts) == len(arrivals) + sum(fails_once for _, fails_once in arrivals)
    for first, beyond in zip(starts, starts[count:], strict=False):
        assert beyond - first > period - 1e-6


async def test_first_attempts_get_the_next_start_before_retries() -> None:
    async with host(starts=(1, 10.0)) as it:
        failing = it.run("failing", 1.0, failures=1, backoff_s=1.0)
        await asyncio.sleep(0.5)
        others = [it.run(f"s{n}", 1.0) for n in range(3)]  # the first of them is the head: it waits in the window
        await asyncio.gather(failing, *others)
        assert it.order == ["failing 1", "s0 1", "s1 1", "s2 1", "failing 2"]


@pytest.mark.parametrize("cancel_after", [0.0, 5.0, 10.0, 10.001, 10.002])
async def test_a_start_is_not_lost_with_who_is_cancelled_while_waiting(cancel_after: float) -> None:
    async with host(starts=(1, 10.0)) as it:
        began = now()
        first, cancelled, third = it.run("a", 1.0), it.run("b", 1.0), it.run("c", 1.0)
        await asyncio.sleep(cancel_after)
        cancelled.cancel()
        await asyncio.wait((first, cancelled, third))
        launched = dict(it.starts)
        if "b 1" not in launched:
            assert launched["c 1"] - began < 10.1
        else:
            assert launched["c 1"] - began < 20.1


async def test_who_has_no_start_before_its_deadline_is_refused_then() -> None:
    async with host(starts=(1, 60.0)) as it:
        began = now()
        first, refused, behind = it.run("a", 1.0), it.run("b", deadline_s=30.0), it.run("c", 1.0)
        with pytest.raises(RunRefused) as raised:
            await refused
        assert raised.value.report.reason == Refusal.HOST_FULL
        assert now() - began == pytest.approx(30.0)
        await asyncio.gather(first, behind)
        assert dict(it.starts)["c 1"] - began < 60.1


async def test_who_stands_behind_the_head_is_refused_at_its_own_deadline() -> None:
    async with host(starts=(1, 60.0)) as it:
        began = now()
        runs = [it.run("a", 1.0), it.run("b", 1.0)]
        await asyncio.sleep(1.0)
        with pytest.raises(RunRefused) as raised:
            await it.run("c", deadline_s=5.0)
        assert raised.value.report.reason == Refusal.HOST_FULL
        assert now() - began == pytest.approx(6.0)
        await asyncio.gather(*runs)


async def test_a_retry_without_a_start_before_the_deadline_fails_with_that_reason() -> None:
    async with host(starts=(1, 60.0)) as it:
        with pytest.raises(RunFailed) as raised:
            await it.run("a", 1.0, failures=9, backoff_s=1.0, deadline_s=30.0)
        assert raised.value.report.reason == Refusal.DEADLINE
        assert raised.value.report.duration_s == pytest.approx(30.0)


async def test_a_slot_is_held_while_a_start_is_waited_for_and_comes_back_when_refused() -> None:
    async with host(running=1, starts=(1, 60.0)) as it:
        first, refused = it.run("a", 1.0), it.run("b", deadline_s=10.0)
        await asyncio.gather(first, refused, return_exceptions=True)
        assert it.limits._running == 0


async def test_an_attempt_that_comes_back_from_a_busy_lock_is_charged_one_start(tmp_path: Path) -> None:
    """It gives its slot back while it waits for the lock, and its start stays charged."""
    async with host(running=2, starts=(1, 60.0)) as it:
        began = now()
        lock = tmp_path / "a.jsonl"
        policy = rules(timeout_s=None, lock_wait_s=30.0)
        holder = asyncio.create_task(it.supervisor.run("holder", it.work(70.0), policy=policy, lock=lock))
        await asyncio.sleep(1.0)
        waiter = asyncio.create_task(it.supervisor.run("waiter", it.work(1.0), policy=policy, lock=lock))
        await asyncio.gather(holder, waiter)
        assert dict(it.starts)["waiter 1"] - began < 72.0


# --- memory


async def test_an_attempt_waits_until_there_is_memory() -> None:
    async with host(memory=100 * MIB) as it:
        it.available[0] = 99 * MIB
        began = now()
        run = it.run("a", 1.0)
        await asyncio.sleep(30.0)
        assert not it.starts
        it.available[0] = 100 * MIB
        await run
        assert dict(it.starts)["a 1"] - began <= 30.0 + MEMORY_POLL_S


async def test_low_memory_refuses_at_the_deadline_and_says_how_much_there_is() -> None:
    async with host(memory=100 * MIB) as it:
        it.available[0] = 7 * MIB
        began = now()
        with pytest.raises(RunRefused) as raised:
            await it.run("a", deadline_s=9.9)
        report = raised.value.report
        assert report.reason == Refusal.LOW_MEMORY
        assert "7 MiB" in report.detail
        assert "100 MiB" in report.detail
        assert now() - began == pytest.approx(9.9)


async def test_a_retry_without_memory_fails_with_reason_deadline() -> None:
    async with host(memory=100 * MIB) as it:
        run = it.run("a", 1.0, failures=9, backoff_s=1.0, deadline_s=20.0)
        await asyncio.sleep(1.5)
        it.available[0] = 0
        with pytest.raises(RunFailed) as raised:
            await run
        assert raised.value.report.reason == Refusal.DEADLINE


async def test_who_waits_for_memory_spends_no_start() -> None:
    """A start charged before a long wait would be launched beside all that are charged in a later period."""
    async with host(starts=(2, 60.0), memory=100 * MIB) as it:
        it.available[0] = 0
        runs = [it.run(f"s{n}", 1.0) for n in range(5)]
        await asyncio.sleep(100.0)
        it.available[0] = PLENTY
        await asyncio.gather(*runs)
        moments = [at for _, at in it.starts]
        for first, third in zip(moments, moments[2:], strict=False):
            assert third - first > 60.0 - 1e-6


async def test_memory_that_got_low_while_a_start_was_waited_for_is_seen() -> None:
    async with host(starts=(1, 60.0), memory=100 * MIB) as it:
        runs = [it.run("a", 1.0), it.run("b", 1.0)]
        await asyncio.sleep(30.0)
        it.available[0] = 0
        await asyncio.sleep(60.0)
        assert it.order == ["a 1"]
        it.available[0] = PLENTY
        await asyncio.gather(*runs)


async def test_a_cancellation_while_waiting_for_memory_lets_the_next_one_look() -> None:
    async with host(memory=100 * MIB) as it:
        it.available[0] = 0
        first, second = it.run("a", 1.0), it.run("b", 1.0)
        await asyncio.sleep(5.0)
        first.cancel()
        it.available[0] = PLENTY
        await asyncio.wait((first, second))
        assert it.order == ["b 1"]


# --- everything at once


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.0, 0.5, 1.0]),  # comes so long after the one before
            st.sampled_from([0.5, 1.0, 3.0]),  # takes so long
            st.sampled_from([0, 0, 1]),  # fails so often
            st.sampled_from([None, None, None, 0.0, 0.5, 1.0, 2.0]),  # is cancelled after
            st.sampled_from([2.0, 30.0, 600.0]),  # has so long in all
        ),
        max_size=12,
    ),
    low_from=st.sampled_from([None, 1.0]),
)
def test_nothing_is_lost_whoever_is_cancelled_refused_or_fails(
    runs: list[tuple[float, float, int, float | None, float]], low_from: float | None
) -> None:
    async def main() -> None:
        async with host(running=2, starts=(2, 1.0), memory=MIB) as it:
            loop = asyncio.get_running_loop()
            if low_from is not None:
                loop.call_later(low_from, it.available.__setitem__, 0, 0)
                loop.call_later(low_from + 5.0, it.available.__setitem__, 0, PLENTY)
            tasks = []
            for n, (after, takes, failures, cancelled, deadline) in enumerate(runs):
                await asyncio.sleep(after)
                task = it.run(f"s{n % 4}", takes, failures, backoff_s=0.5, deadline_s=deadline)
                if cancelled is not None:
                    loop.call_later(cancelled, task.cancel)
                tasks.append(task)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert it.most <= 2
            await asyncio.gather(*(it.run(f"after {n}", 0.1) for n in range(3)))

    virtual_clock().run(main())


async def test_leaving_the_supervisor_lets_nobody_wait_on() -> None:
    async with host(running=1, starts=(1, 60.0)) as it:
        tasks = [it.run(f"s{n}", 1000.0) for n in range(4)]
        work = ScriptedWork(fails("overloaded"), hangs())
        tasks.append(asyncio.create_task(it.supervisor.run("s9", work, policy=rules())))
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
