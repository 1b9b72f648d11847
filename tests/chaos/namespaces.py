"""Processes of the chaos tests in namespaces of their own, as containers have them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.owner import in_initial_pid_namespace

ROOT = Path(__file__).parents[2]
CONTAINER = ("-p", "-f", "--mount-proc", "--kill-child")

Enter = Callable[..., "subprocess.Popen[bytes]"]


@contextmanager
def entering(script: Path) -> Iterator[Enter]:
    """Start a process of a script (or a shell that does) in namespaces of its own; killed at the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def enter(namespaces: tuple[str, ...], *arguments: object, shell: str = 'exec "$@"') -> "subprocess.Popen[bytes]":
        unshare = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), *namespaces]
        tried = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True, check=False)
        if not tried or tried.returncode != 0:
            pytest.skip(f"may not make namespaces: {' '.join(unshare)}")
        command = [*unshare, "sh", "-c", shell, "sh", sys.executable, str(script), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        processes.append(process)
        return process

    yield enter
    for process in processes:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def kill_inside(process: "subprocess.Popen[bytes]") -> None:
    """Kill what runs in the container, and wait until its unshare saw that end."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.wait(timeout=10)


def needs_initial_namespace() -> None:
    if not in_initial_pid_namespace():
        pytest.skip("not in the initial pid namespace, or /proc hides processes")
