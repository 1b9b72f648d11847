"""How a warden is started, and what it refuses to be."""

import os
import signal
import sys
from pathlib import Path

import pytest

from supervisor.errors import Failure
from supervisor.tree.spawn import WARDEN
from tests.supervisor.tree.trees import Trees, until

pytestmark = pytest.mark.processes


def start_warden(supervisor: int) -> tuple[int, bytes]:
    """Start one as if by the process `supervisor`; return its status and its words, once it has ended or spoken."""
    their_orders, orders = os.pipe()
    words, their_words = os.pipe()
    places = [(their_orders, 3), (their_words, 4)]
    high = [(os.dup2(descriptor, 70 + place), place) for descriptor, place in places]
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", WARDEN, str(supervisor), "5"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, copy, place) for copy, place in high],
        setsid=True,
    )
    for descriptor in (their_orders, their_words, *(copy for copy, _ in high)):
        os.close(descriptor)
    said = os.read(words, 4096)
    os.close(orders)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(words)
    return status, said


def test_a_warden_whose_supervisor_has_died_meanwhile_does_not_get_ready() -> None:
    assert start_warden(os.getpid() + 1) == (1, b"")
    status, said = start_warden(os.getpid())
    assert status == 0
    assert b"ready" in said


async def test_signals_are_blocked_in_a_warden_until_it_can_take_them(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    code = f"open({str(tmp_path / 'blocked')!r}, 'w').write(open('/proc/self/status').read())"
    python.write_text(f"#!{sys.executable} -IS\n{code}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(Failure, match="ended at once"):
        await trees.park()
    [line] = [line for line in (tmp_path / "blocked").read_text().splitlines() if line.startswith("SigBlk")]
    blocked = int(line.split()[1], 16)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert blocked >> number - 1 & 1


async def test_a_warden_is_in_a_session_of_its_own_and_keeps_nothing_of_the_commands(trees: Trees) -> None:
    tree = await trees.start(["sleep", "60"])
    warden = tree.recorded.pid
    assert os.getsid(warden) == os.getpgid(warden) == warden
    kept = [f"/proc/{warden}/{name}" for name in ("cwd", "fd/0", "fd/1", "fd/2")]
    until(lambda: [os.readlink(path) for path in kept] == ["/", *["/dev/null"] * 3], "it has let go of them")
    await trees.finish(tree)
