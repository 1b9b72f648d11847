"""Supervisors' processes by the hundred: forked from one that has imported everything, so that each costs milliseconds.

As a program it is that one: python hosts.py MODULE, whose `main(**arguments)` each child calls. It reads an order a
line of JSON: {"start": arguments} is answered with the child's pid, {"wait": pid} with its exit status.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.supervisor.tree.trees import MARK

LONGEST_S = 60
ROOT = Path(__file__).parents[2]


class Hosts:
    """Starts them, and waits for them."""

    def __init__(self, server: "subprocess.Popen[str]", mark: str) -> None:
        self._server = server
        self.mark = mark
        self.pid = server.pid

    def start(self, **arguments: object) -> int:
        """Start one; return its pid, which is its own until it is waited for."""
        return self._ask(start=arguments)

    def wait(self, pid: int) -> int:
        """Wait until one has ended; return its exit status, or minus the signal that killed it."""
        return self._ask(wait=pid)

    def _ask(self, **order: object) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order, default=str) + "\n")
        self._server.stdin.flush()
        answer: int = json.loads(self._server.stdout.readline())
        return answer


@contextmanager
def hosts_of(module: str, folder: Path) -> Iterator[Hosts]:
    """Have a server for a module of this folder; what it writes to stderr is kept in `folder/stderr`."""
    mark = f"{os.getpid()}-{folder}"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder / "state"),
        MARK: mark,
    }
    with (folder / "stderr").open("ab") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.hosts", f"tests.chaos.{module}"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with server:
        yield Hosts(server, mark)


def _child(module: Any, arguments: dict[str, Any]) -> None:
    status = 70
    try:
        signal.alarm(LONGEST_S)
        os.dup2(2, 1)  # the server's answers are its own
        module.main(**arguments)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve(name: str) -> None:
    module = importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            _child(module, order["start"])
        print(answer, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
