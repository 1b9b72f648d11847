"""Commands whose end comes between two steps, or of whose tree nobody can say that it is gone."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from policies.failure import Kind, Refusal
from policies.verdict import Quarantine
from supervisor import AttemptReport, Outcome, RunFailed, RunRefused, Status, Supervisor
from supervisor.clock import SystemClock
from supervisor.owner import RecordedTree
from supervisor.store.contract import Refused, Standing
from supervisor.store.memory import MemoryStore
from supervisor.tasks import Now
from supervisor.testing import Recorded
from supervisor.tree.contract import LockWanted, Streams
from supervisor.tree.launcher import SystemLauncher
from supervisor.tree.system_tree import SystemTree
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import until
from tests.supervisor.work.commands import ONCE, Commands, by_command, sh, unknown

pytestmark = pytest.mark.processes


class Launcher(SystemLauncher):
    """The real one, that says when it begins to park a tree, and which one is parked."""

    def __init__(
        self,
        commands: Commands,
        *,
        when_asked: Callable[[], object] = lambda: None,
        when_parked: Callable[[RecordedTree], object] = lambda _: None,
    ) -> None:
        super().__init__(SystemClock(), commands.alive)
        self._when_asked, self._when_parked = when_asked, when_parked

    async def park(self, streams: Streams, lock: LockWanted | None = None) -> SystemTree | None:
        asyncio.get_running_loop().call_soon(self._when_asked)
        tree = await super().park(streams, lock)
        if tree is not None:
            self._when_parked(tree.recorded)
        return tree


class StoreBehindANetwork(MemoryStore):
    """A store that takes its time to begin an attempt, while something happens."""

    def __init__(self, meanwhile: Callable[[], object], refused: Refused | None = None) -> None:
        super().__init__()
        self._meanwhile, self._refused = meanwhile, refused

    def begin(self, run: Standing) -> Now[Refused | None]:  # type: ignore[override] # as the seam allows
        return self._begin(run)

    async def _begin(self, run: Standing) -> Refused | None:
        self._meanwhile()
        await asyncio.sleep(0.05)
        if self._refused is not None:
            self.leave(run)
            return self._refused
        answer = super().begin(run)
        assert answer is None
        return answer


@pytest.mark.parametrize("when", ["while it is parked", "once it is parked", "as it begins"])
@pytest.mark.parametrize("by", ["its caller", "an operator"])
async def test_cancelled_between_park_and_go_nothing_is_left(commands: Commands, when: str, by: str) -> None:
    def cancel(*_: object) -> None:
        if by == "its caller":
            run.cancel()
        else:
            supervisor.cancel("s")

    moments: dict[str, dict[str, Any]] = {
        "while it is parked": {"launcher": Launcher(commands, when_asked=cancel)},
        "once it is parked": {"launcher": Launcher(commands, when_parked=cancel)},
        "as it begins": {"store": StoreBehindANetwork(cancel)},
    }
    async with Supervisor(**moments[when]) as supervisor:
        run = asyncio.ensure_future(supervisor.run("s", sh("echo > runs"), policy=ONCE, lock=commands.transcript))
        with pytest.raises(asyncio.CancelledError if by == "its caller" else RunFailed):
            await run
        assert commands.processes() == []
        assert not commands.lock_file.exists()
    if (when, by) != ("once it is parked", "its caller"):  # nothing is awaited from there to go, so nothing is heard
        assert not (commands.folder / "runs").exists()


async def test_refused_once_it_is_parked_nothing_is_left(commands: Commands) -> None:
    seen: list[bool] = []
    store = StoreBehindANetwork(lambda: seen.append(commands.lock_file.exists()), Refused(Refusal.BREAKER_OPEN))
    async with Supervisor(store=store) as supervisor:
        report = await supervisor.run_report("s", sh("echo > runs"), policy=ONCE, lock=commands.transcript)
        assert (report.status, report.reason) == (Status.REFUSED, Refusal.BREAKER_OPEN)
        assert (commands.processes(), commands.lock_file.exists()) == ([], False)
        assert os.listdir(commands.alive) == []
    assert seen == [True]
    assert not (commands.folder / "runs").exists()


async def test_a_warden_that_is_killed_while_it_is_parked_starts_nothing(commands: Commands) -> None:
    wardens: list[int] = []
    launcher = Launcher(commands, when_parked=lambda recorded: wardens.append(recorded.pid))
    store = StoreBehindANetwork(lambda: os.kill(wardens[0], signal.SIGKILL))
    async with Supervisor(launcher=launcher, store=store) as supervisor:
        report = await supervisor.run_report("s", sh("echo > runs"), policy=ONCE, lock=commands.transcript)
    assert not (commands.folder / "runs").exists()
    [attempt] = report.attempts
    assert (report.status, attempt.outcome) == (Status.FAILED, Outcome.FAILED)
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.ERROR
    assert attempt.failure.message == f"the warden {wardens[0]} ended before it said that a command had started"


async def test_a_killed_warden_quarantines_the_session_until_somebody_says_that_it_is_well(commands: Commands) -> None:
    kill = sh("sleep 60 & sleep 0.1; kill -9 $PPID; sleep 60; :")
    recorded = Recorded()
    async with Supervisor() as supervisor:
        supervisor.on(recorded)
        with pytest.raises(RunFailed) as failed:
            await supervisor.run("s", kill, policy=rules(backoff_s=0.0), lock=commands.transcript)
        report = failed.value.report
        assert report.status is Status.QUARANTINED
        [attempt] = report.attempts
        assert_unconfirmed(attempt)
        assert commands.lock_file.exists()
        assert len(commands.processes()) == 3
        with pytest.raises(RunRefused) as refused:
            await supervisor.run("s", sh("echo > runs"), policy=ONCE)
        assert refused.value.report.reason == Refusal.QUARANTINED
        commands.remove_what_is_unknown()
        await supervisor.reset("s")
        assert (await supervisor.run("s", sh("true"), policy=ONCE)).status is Status.SUCCEEDED
    assert "SessionQuarantined" in [type(event).__name__ for event in recorded.events]
    assert not (commands.folder / "runs").exists()


def assert_unconfirmed(attempt: AttemptReport) -> None:
    assert attempt.outcome is Outcome.UNCONFIRMED
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.UNCONFIRMED
    assert attempt.failure.message.endswith(", then not proved dead")
    assert isinstance(attempt.verdict, Quarantine)
    [what] = unknown(attempt).alive
    assert what.startswith("what the command 'sh' has started: its warden ")


async def test_a_lock_that_the_command_took_stays_when_its_tree_may_live(commands: Commands) -> None:
    command = sh("echo '{\"pid\": 1}' > reports.jsonl.lock; sleep 0.1; kill -9 $PPID; sleep 60")
    async with Supervisor() as supervisor:
        report = await supervisor.run_report("s", command, policy=by_command(), lock=commands.transcript)
    assert report.status is Status.QUARANTINED
    assert commands.lock_file.exists()
    commands.remove_what_is_unknown()


async def test_a_warden_that_is_stopped_leaves_its_attempt_unconfirmed_with_the_first_cause(commands: Commands) -> None:
    wardens: list[int] = []
    policy = replace(ONCE, attempt=replace(ONCE.attempt, timeout_s=0.3, grace_s=0.1))

    def stop(event: object) -> None:
        if type(event).__name__ == "AttemptStarted":
            os.kill(wardens[0], signal.SIGSTOP)

    launcher = Launcher(commands, when_parked=lambda recorded: wardens.append(recorded.pid))
    async with Supervisor(launcher=launcher) as supervisor:
        supervisor.on(stop)
        report = await supervisor.run_report("s", sh("sleep 60"), policy=policy, lock=commands.transcript)
        assert report.status is Status.QUARANTINED
        [attempt] = report.attempts
        assert attempt.failure is not None
        assert attempt.failure.message.startswith("timed out after 0.3")
        assert attempt.failure.message.endswith(" s, then not proved dead")
        assert unknown(attempt).alive == (f"processes of 'sh', below warden {wardens[0]}",)
        assert commands.lock_file.exists()
        os.kill(wardens[0], signal.SIGCONT)
        until(lambda: commands.processes() == [], "it goes on, and ends")
        await asyncio.sleep(0.1)
    for life in commands.alive.iterdir():
        life.unlink()
