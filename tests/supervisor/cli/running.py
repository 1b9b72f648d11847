"""`turnkeeper run` as a child process: in a folder of its own, bounded in time, watched to its end."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.supervisor.tree.trees import MARK, marked, until

SESSION = "agent:main:reports"
REPOSITORY = Path(__file__).parents[3]
LONGEST_S = 40.0

Arguments = Sequence[str | bytes]


class Ended(NamedTuple):
    """How it ended, and what it wrote."""

    status: int
    stdout: bytes
    stderr: str


class Turnkeeper:
    """What the runs of one test share: the folder they start in, and a mark that each of their processes has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive = folder / "state" / "turnkeeper" / "alive"
        self.report_file = folder / "report.json"
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            MARK: self.mark,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def rules(self, *rules: str, failures: str = "") -> None:
        """Write settings: lines of the default policy, and classification rules."""
        text = "\n".join(["[policies.default]", *rules, failures, ""])
        (self.folder / "settings.toml").write_text(text)

    def argv(self, command: Arguments, *options: str, session: str = SESSION) -> list[str | bytes]:
        """Return the command line: a report is written where no option names another one."""
        report = () if "--report" in options else ("--report", "report.json")
        start = (sys.executable, "-m", "supervisor.cli.main", "run", "--session", session)
        return [*start, *report, *options, "--", *command]

    def start(
        self,
        command: Arguments,
        *options: str,
        session: str = SESSION,
        through: str = 'exec "$@"',
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **environ: str,
    ) -> subprocess.Popen[bytes]:
        """Start it, through a line of shell that may limit or redirect it."""
        argv = ["sh", "-c", through, "sh", *self.argv(command, *options, session=session)]
        env = {**self.env, **environ}
        process = subprocess.Popen(argv, cwd=self.folder, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
        self._started.append(process)
        return process

    def end(self, process: "subprocess.Popen[bytes]", given: bytes | None = None) -> Ended:
        """See one end that was started; `given` goes to its stdin, where that is a pipe."""
        stdout, stderr = process.communicate(given, timeout=LONGEST_S)
        return Ended(process.returncode, stdout or b"", (stderr or b"").decode())

    def run(self, command: Arguments, *options: str, given: bytes | None = None, **how: Any) -> Ended:
        """Start it, and see it end."""
        if given is not None:
            how["stdin"] = subprocess.PIPE
        return self.end(self.start(command, *options, **how), given)

    def run_as_it_is(self, *arguments: str) -> Ended:
        """Run `turnkeeper` with these arguments, and no other."""
        argv = [sys.executable, "-m", "supervisor.cli.main", *arguments]
        ended = subprocess.run(
            argv,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start `turnkeeper` with these arguments, and no other."""
        argv = [sys.executable, "-m", "supervisor.cli.main", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            argv, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        self._started.append(process)
        return process

    @property
    def report(self) -> dict[str, Any]:
        """What the last run reported."""
        report: dict[str, Any] = json.loads(self.report_file.read_text())
        return report

    def processes(self) -> list[str]:
        """Return what lives of all that was started here."""
        return marked(self.mark)

    def wait_for(self, name: str) -> str:
        """Wait until a command has written a file whole, up to its line's end; return what it says."""
        path = self.folder / name

        def is_written() -> bool:
            return path.exists() and path.read_text().endswith("\n")

        until(lambda: is_written() or self._started[-1].poll() is not None, f"{name} is written")
        assert is_written(), f"it has ended before {name} was written"
        return path.read_text().strip()

    def kill_what_is_left(self) -> None:
        for line in self.processes():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        until(lambda: not self.processes(), "what was killed ends")

    def assert_nothing_is_left(self) -> None:
        """No process, no life file, no half-written report."""
        for process in self._started:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        left = self.processes()
        self.kill_what_is_left()
        for process in self._started:
            process.wait()
        assert left == []
        assert not self.alive.exists() or os.listdir(self.alive) == []
        assert [name for name in os.listdir(self.folder) if name.startswith(".")] == []


def log_of(ended: Ended) -> list[dict[str, Any]]:
    """Return the events of a log in JSON."""
    return [json.loads(line) for line in ended.stderr.splitlines()]


def sh(script: str) -> list[str]:
    """Return a command that is a line of shell."""
    return ["sh", "-c", script]


def on_full_disk(folder: Path) -> str:
    """Return the line of shell that starts a command where `full`, in this folder, is a disk without any room.

    Skips the test where none can be mounted. The disk is there for that command alone.
    """
    (folder / "full").mkdir()
    unshare = "unshare --mount" if os.geteuid() == 0 else "unshare --map-root-user --mount"
    mount = "mount -t tmpfs -o size=4k none full && echo old > full/report.json"
    try_it = f"{mount} && {sys.executable} -c pass"  # which an ordinary user may be able to run only outside
    tried = subprocess.run(shlex.split(f'{unshare} sh -c "{try_it}"'), cwd=folder, capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs a small file system of its own: {tried.stderr.decode().strip()}")
    inside = f"""{mount} && {{ "$@"; status=$?; find full -type f; cat full/report.json; exit $status; }}"""
    return f"exec {unshare} sh -c '{inside}' sh \"$@\""
