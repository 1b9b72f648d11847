"""Commands at moments that real processes hit once in a thousand times: on simulated trees, where each is scripted."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from policies.failure import Gone, Kind
from policies.policy import Policy
from supervisor import AttemptReport, Outcome, RunFailed, RunRefused, Status, Supervisor
from supervisor.attempt import Attempt
from supervisor.clock import clock_of
from supervisor.store.contract import Refused, Standing
from supervisor.store.memory import MemoryStore
from supervisor.testing import (
    Happening,
    MemoryLockFiles,
    SimulatedCommand,
    SimulatedLauncher,
    TreeScript,
)
from tests.supervisor.rules import now, rules, tokens_spent


class SlowToBegin(MemoryStore):
    """It takes a second to say that an attempt may begin."""

    def begin(self, run: Standing) -> Any:
        return self._begin(run)

    async def _begin(self, run: Standing) -> Refused | None:
        await asyncio.sleep(1.0)
        return super().begin(run)


class Stage:
    """A supervisor whose commands are scripts."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        clock = clock_of(asyncio.get_running_loop())
        self.locks = MemoryLockFiles(clock)
        self.launcher = SimulatedLauncher(self.locks)
        self.supervisor = Supervisor(launcher=self.launcher, locks=self.locks, store=store)

    async def attempts(self, *scripts: TreeScript, policy: Policy) -> tuple[AttemptReport, ...]:
        """Run a command; return what became of its attempts."""
        return (await self.supervisor.run_report("a", SimulatedCommand(*scripts), policy=policy)).attempts


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_a_command_that_exits_just_before_its_timeout_has_not_timed_out() -> None:
    """A daemon keeps its pipes: what it wrote last is waited for, beyond the timeout."""
    stage = Stage()
    async with stage.supervisor:
        [attempt] = await stage.attempts(TreeScript(runs_s=9.97, daemons=1), policy=rules(attempts=1))
    assert attempt.outcome is Outcome.SUCCEEDED


async def test_output_that_nobody_takes_is_no_reason_for_a_quarantine() -> None:
    """The tree is killed as the grace ends, and its output waits for its reader: that is not the tree's fault."""
    stage = Stage()
    script = TreeScript(runs_s=None, ignores_sigterm_s=None, says_every_s=1.0, reader_stalls=True)
    async with stage.supervisor:
        [attempt] = await stage.attempts(script, policy=rules(attempts=1))
    assert attempt.failure is not None
    assert (attempt.failure.kind, type(attempt.released)) == (Kind.TIMEOUT, Gone)


async def test_output_that_nobody_takes_is_waited_for_once_also_by_a_run_that_is_cancelled_meanwhile() -> None:
    stage = Stage()
    script = TreeScript(code=1, output="no", reader_stalls=True)
    async with stage.supervisor:
        run = asyncio.create_task(stage.attempts(script, policy=rules()))
        await asyncio.sleep(0.9)
        run.cancel()
        began = now()
        await asyncio.wait([run])
        assert now() - began <= 0.2


@pytest.mark.parametrize("grace_s", [0.0, 0.25])
async def test_a_parked_warden_has_a_second_to_end_whatever_the_grace_is(grace_s: float) -> None:
    stage = Stage(SlowToBegin())
    async with stage.supervisor:
        run = asyncio.create_task(stage.attempts(TreeScript(ends_in_s=0.9), policy=rules(grace_s=grace_s)))
        await asyncio.sleep(0.5)
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        report = await stage.supervisor.run_report("a", SimulatedCommand(TreeScript()), policy=rules())
    assert report.status is Status.SUCCEEDED
    assert Happening.WENT not in stage.launcher.trees[0].at


async def test_a_command_is_not_started_after_its_runs_deadline() -> None:
    stage = Stage()
    script = TreeScript(parks_in_s=5.0)
    async with stage.supervisor:
        began = now()
        with pytest.raises(RunRefused) as raised:
            await stage.supervisor.run("a", SimulatedCommand(script), policy=rules(deadline_s=3.0))
        assert now() - began == 3.0
    assert raised.value.report.reason == "deadline"
    assert list(stage.launcher.trees[0].at)[-2:] == [Happening.GONE, Happening.FORGOTTEN]


async def test_a_retry_whose_warden_never_gets_ready_fails_at_the_deadline_and_gives_its_token_back() -> None:
    stage = Stage()
    command = SimulatedCommand(TreeScript(code=1), TreeScript(parks_in_s=1e6, ends_in_s=1e6))
    async with stage.supervisor:
        began = now()
        with pytest.raises(RunFailed) as raised:
            await stage.supervisor.run("a", command, policy=rules(deadline_s=30.0))
        assert now() - began == 31.0  # one more for the warden, which is killed then
        assert tokens_spent(stage.supervisor, "a") == 0.0
    assert (raised.value.report.status, raised.value.report.reason) == (Status.FAILED, "deadline")
    assert len(raised.value.report.attempts) == 1
    assert not stage.launcher.life_files()


async def test_a_cancellation_while_a_warden_hangs_as_it_starts_is_raised_once_it_is_gone() -> None:
    stage = Stage()
    async with stage.supervisor:
        run = asyncio.create_task(stage.attempts(TreeScript(parks_in_s=1e6, ends_in_s=1e6), policy=rules()))
        await asyncio.sleep(1.0)
        run.cancel()
        await asyncio.sleep(0.5)
        run.cancel()
        began = now()
        await asyncio.wait([run])
        assert (run.cancelled(), now() - began) == (True, 0.5)
    assert Happening.GONE in stage.launcher.trees[0].at


async def test_a_parked_warden_that_ends_late_leaves_no_life_file() -> None:
    """Its attempt is refused: while the store was asked, another one opened the session's breaker."""
    stage = Stage(SlowToBegin())
    policy = rules(attempts=1, permits=2, failures=1)
    async with stage.supervisor:
        fails = asyncio.create_task(stage.attempts(TreeScript(code=1), policy=policy))
        await asyncio.sleep(0.5)
        run = asyncio.create_task(stage.attempts(TreeScript(ends_in_s=5.0), policy=policy))
        await asyncio.wait([fails, run])
        assert run.result() == ()
        await asyncio.sleep(5.0)
    assert not stage.launcher.life_files()


async def test_a_success_whose_warden_is_slow_to_end_does_not_wait_for_output_besides() -> None:
    """It may leave what has its pipes; whether it did, only the warden says."""
    stage = Stage()
    policy = rules(attempts=1, grace_s=0.25, timeout_s=100.0)
    leaving = replace(policy, attempt=replace(policy.attempt, leave_children=True))
    async with stage.supervisor:
        began = now()
        [attempt] = await stage.attempts(TreeScript(daemons=1, ends_in_s=5.0), policy=leaving)
        assert now() - began < 3.0
    assert attempt.outcome is Outcome.UNCONFIRMED


@pytest.mark.usefixtures("without_collector")
async def test_what_a_failed_command_wrote_is_dropped_before_the_backoff() -> None:
    class Watched(SimulatedCommand):
        def _open_streams(self, attempt: Attempt) -> Any:
            streams = super()._open_streams(attempt)
            written.append(weakref.ref(streams))
            return streams

    written: list[weakref.ref[Any]] = []
    stage = Stage()
    async with stage.supervisor:
        work = Watched(TreeScript(runs_s=1.0, code=1, daemons=1))
        run = asyncio.create_task(stage.supervisor.run_report("a", work, policy=rules(attempts=2, backoff_s=60.0)))
        await asyncio.sleep(30.0)
        assert [each() for each in written] == [None]
        await run


async def test_a_tree_that_ends_after_its_supervisor_was_left_has_no_life_file_then() -> None:
    stage = Stage()
    async with stage.supervisor:
        [attempt] = await stage.attempts(TreeScript(ends_in_s=20.0), policy=rules(attempts=1))
        assert attempt.outcome is Outcome.UNCONFIRMED
    assert len(stage.launcher.life_files()) == 1
    await asyncio.sleep(20.0)
    assert not stage.launcher.life_files()
