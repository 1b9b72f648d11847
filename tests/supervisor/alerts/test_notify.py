"""Real commands."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.alerting import AlertKind
from supervisor.alerts.notify import notify
from supervisor.settings.names import OF_A_RUN
from supervisor.settings.values import Alert

pytestmark = pytest.mark.processes

MESSAGE = b'{"kind": "lost"}\n'


def shell(script: str, timeout_s: float = 20.0) -> Alert:
    return Alert((AlertKind.LOST,), ("sh", "-c", script), timeout_s)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)


async def until_written(path: Path) -> str:
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return await asyncio.to_thread(path.read_text)


async def until_dead(pid: int) -> None:
    await until(lambda: not is_alive(pid))


async def test_a_command_reads_the_event_on_its_stdin(tmp_path: Path) -> None:
    assert await notify(shell(f"cat >'{tmp_path}/got'"), MESSAGE) is None
    assert (tmp_path / "got").read_bytes() == MESSAGE


async def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    alert = Alert((AlertKind.LOST,), (sys.executable, "-c", script, f"{tmp_path}/got", "$HOME; `id` *"))
    assert await notify(alert, MESSAGE) is None
    assert (tmp_path / "got").read_text() == "$HOME; `id` *"


async def test_a_message_that_nobody_reads_keeps_nobody_waiting() -> None:
    assert await notify(shell("exit 0"), b"x" * 5_000_000) is None


async def test_a_failure_comes_with_the_last_words() -> None:
    assert await notify(shell("echo no; echo why >&2; exit 3"), MESSAGE) == "ended with exit status 3: why"
    assert await notify(shell("kill -9 $$"), MESSAGE) == "ended with signal 9"
    assert await notify(shell("exec >&2; yes | head -c 300000; echo last; exit 1"), MESSAGE) == (
        "ended with exit status 1: " + ("y\n" * 510)[1:].strip() + "\nlast"
    )


async def test_a_success_says_nothing_whatever_it_writes() -> None:
    assert await notify(shell("yes | head -c 300000 >&2; yes | head -c 300000"), MESSAGE) is None


@pytest.mark.parametrize("command", ["/no/such/command", "no-such-command-at-all", "/"])
async def test_a_command_that_cannot_be_run_says_why(command: str) -> None:
    trouble = await notify(Alert((AlertKind.LOST,), (command,)), MESSAGE)
    assert trouble in ("cannot be run: No such file or directory", "cannot be run: Permission denied")


async def test_a_command_that_hangs_is_killed_with_its_group(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 600 & echo $$ $! >'{tmp_path}/pids'; echo stuck >&2; wait; sleep 600"
    assert await notify(shell(script, 0.5), MESSAGE) == "was killed after 0.5 s: stuck"
    for pid in (tmp_path / "pids").read_text().split():
        await until_dead(int(pid))


async def test_one_that_is_cancelled_is_killed_too(tmp_path: Path) -> None:
    telling = asyncio.create_task(notify(shell(f"echo $$ >'{tmp_path}/pid'; sleep 600"), MESSAGE))
    pid = int(await until_written(tmp_path / "pid"))
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    await until_dead(pid)


async def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    assert await notify(shell(f"sleep 600 & echo $! >'{tmp_path}/pid'"), MESSAGE) is None
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    os.kill(pid, 9)


async def test_a_command_is_a_session_of_its_own_and_is_told_of_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OF_A_RUN:
        monkeypatch.setenv(name, "outer")
    monkeypatch.setenv("TURNKEEPER_SETTINGS", "/etc/turns.toml")
    script = (
        "import json, os, sys;"
        "json.dump([os.getsid(0) == os.getpid(), {k: v for k, v in os.environ.items() if k[:10] == 'TURNKEEPER'}],"
        "open(sys.argv[1], 'w'))"
    )
    alert = Alert((AlertKind.LOST,), (sys.executable, "-c", script, f"{tmp_path}/got"))
    assert await notify(alert, MESSAGE) is None
    assert json.loads((tmp_path / "got").read_text()) == [True, {"TURNKEEPER_SETTINGS": "/etc/turns.toml"}]


async def test_no_descriptor_stays_open() -> None:
    await notify(shell("exit 0"), MESSAGE)
    before = len(os.listdir("/proc/self/fd"))
    for alert in [shell("exit 0"), shell("exit 1"), shell("sleep 600", 0.05), Alert((), ("/no/such/command",))]:
        await notify(alert, MESSAGE)
    assert len(os.listdir("/proc/self/fd")) == before
