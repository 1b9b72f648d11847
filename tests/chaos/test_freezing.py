"""What a warden has frozen forks no more, however fast it forked."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.tree.warden.processes import descendants, read, send
from supervisor.tree.warden.stopping import Stopping
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

SHAPES = Path(__file__).with_name("tree_shapes.py")


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    """Start a tree that forks; return the pid of the shell above it, which does not."""
    started: list[subprocess.Popen[bytes]] = []

    def start(shape: str) -> int:
        command = f"{sys.executable} -I -S {SHAPES} {shape} & wait"
        started.append(subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == b"ready\n"
        return started[-1].pid

    yield start
    for process in started:
        _kill_below(process.pid)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _kill_below(pid: int) -> None:
    def nothing_is_left() -> bool:
        below = descendants(pid)
        for process in below:
            send(process, signal.SIGKILL)
        return not below

    until(nothing_is_left, "what was started ends")


@pytest.mark.parametrize("shape", ["fan", "hydra", *["hydra 8 0.0005"] * 12])
def test_all_that_lives_is_frozen(start: Callable[[str], int], shape: str) -> None:
    root = start(shape)
    frozen, wardens = Stopping(root).freeze()
    assert wardens == []
    assert set(frozen) == set(descendants(root))
    assert all(b") T " in read(f"/proc/{pid}/stat") for pid, _ in frozen)
    assert set(frozen) == set(descendants(root))
