"""Alerts of a supervisor: what its runs come to, told by real commands."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policies.alerting import AlertKind
from policies.breaker import Breaker
from policies.budget import Budget
from policies.policy import Policy
from supervisor import Attempt, RunFailed, Supervisor
from supervisor.settings.values import Alert, Settings

pytestmark = pytest.mark.processes

ONCE = Policy("once", budget=Budget(attempts=1), breaker=Breaker(failures=1000, minimum=1000))
FRAIL = Policy("frail", budget=Budget(attempts=1), breaker=Breaker(failures=1))


def keeping(folder: Path, *on: AlertKind) -> Alert:
    """Have each event in a file of its own."""
    return Alert(on or tuple(AlertKind), ("sh", "-c", f"cat >$(mktemp '{folder}/XXXXXX')"), 30.0)


def kept(folder: Path) -> list[dict[str, Any]]:
    return sorted((json.loads(path.read_bytes()) for path in folder.iterdir()), key=lambda alert: alert["kind"])


async def succeeds(attempt: Attempt) -> None:
    return None


async def fails(attempt: Attempt) -> None:
    raise ValueError("no such report")


async def test_a_run_that_gives_up_is_told_and_one_that_succeeds_is_not(tmp_path: Path) -> None:
    async with Supervisor(Settings(alerts=(keeping(tmp_path),))) as supervisor:
        await supervisor.run("a", succeeds)
        with pytest.raises(RunFailed):
            await supervisor.run("agent:main:reports", fails, policy=ONCE)
    (alert,) = kept(tmp_path)
    assert (alert["kind"], alert["session"], alert["reason"]) == ("give_up", "agent:main:reports", "attempts")
    assert alert["message"].endswith("; the last failure: error: ValueError: no such report")


async def test_a_thousand_runs_that_fail_at_once_are_ten_alerts_and_a_summary(tmp_path: Path) -> None:
    async with Supervisor(Settings(alerts=(keeping(tmp_path),))) as supervisor:
        runs = [supervisor.run_report(f"s{number}", fails, policy=FRAIL) for number in range(500)]
        await asyncio.gather(*runs)
    alerts = kept(tmp_path)
    assert len(alerts) == 11
    summary = next(alert for alert in alerts if alert["kind"] == "summary")
    assert sum(summary["counts"].values()) + 10 == 1000  # each broke its session's breaker, too


async def test_the_end_of_a_run_does_not_wait_for_a_command_that_hangs(tmp_path: Path) -> None:
    hangs = Alert((AlertKind.GIVE_UP,), ("sh", "-c", f"echo >'{tmp_path}/started'; sleep 600"), 1.0)
    async with Supervisor(Settings(alerts=(hangs,))) as supervisor:
        async with asyncio.timeout(30):
            await supervisor.run_report("a", fails, policy=ONCE)
            while not (tmp_path / "started").exists():
                await supervisor.run("b", succeeds)
                await asyncio.sleep(0.01)
        alerts = supervisor._alerts
        assert alerts is not None
        assert len(alerts._running) == 1
    assert not alerts._running


async def test_a_supervisor_that_is_left_at_once_tells_nothing_and_waits_for_nothing() -> None:
    async with Supervisor(Settings(alerts=(Alert((AlertKind.LOST,), ("sleep", "600"), 600.0),))):
        pass


@pytest.mark.parametrize(("alerts", "there"), [("", False), ("alerts=(Alert((AlertKind.LOST,), ('true',)),)", True)])
def test_nothing_of_it_is_imported_where_there_are_no_alerts(alerts: str, there: object) -> None:
    script = (
        "import asyncio, sys\n"
        "from supervisor import Supervisor\n"
        "from supervisor.settings.values import Alert, Settings\n"
        f"{'from policies.alerting import AlertKind' if there else ''}\n"
        "async def main():\n"
        f"    async with Supervisor(Settings({alerts})) as supervisor:\n"
        "        async def work(attempt): pass\n"
        "        await supervisor.run('a', work)\n"
        "asyncio.run(main())\n"
        "print(any('alert' in name for name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == str(there)
