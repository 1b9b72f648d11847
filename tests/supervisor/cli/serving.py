"""`turnkeeper serve` as a child process: its settings, its log, what its jobs wrote, what its state says."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from supervisor.lock.life_file import sweep
from tests.supervisor.cli.running import LONGEST_S, Turnkeeper
from tests.supervisor.tree.trees import until

WRITES = 'echo "$TURNKEEPER_RUN_ID" >> {}'
"""What a job does, most often: says in a file of its name which tick it was started for."""

QUICK = '[policies.default]\nattempt.grace = "200ms"\nbackoff.base = "0s"\ngate.overlap = "skip"\n'


def job(name: str, script: str | None = None, *keys: str, every: str = "1s") -> str:
    """Return the settings of a job that is a line of shell; it writes its tick's run id, if nothing is said."""
    command = json.dumps(["sh", "-c", WRITES.format(name) if script is None else script])
    return "\n".join(["[[jobs]]", f'name = "{name}"', f'every = "{every}"', f"command = {command}", *keys, ""])


class Serve:
    """The processes of one test, their settings file and their log."""

    def __init__(self, turnkeeper: Turnkeeper) -> None:
        self.turnkeeper, self.folder = turnkeeper, turnkeeper.folder
        self.state = self.folder / "state" / "turnkeeper" / "state.db"
        self.settings_file = self.folder / "settings.toml"
        self.log_file = self.folder / "log"

    def settings(self, *parts: str, before: str = QUICK) -> None:
        """Write the settings file as a careful editor does: in one step."""
        new = self.folder / "settings.new"
        new.write_text("\n".join([before, *parts]))
        new.rename(self.settings_file)

    def start(self, *options: str, is_ready: bool = True, through: str = 'exec "$@"', **environ: str) -> Any:
        """Start one; wait until it says that it serves, where that is what is meant to happen."""
        argv = [sys.executable, "-m", "supervisor.cli.main", "serve", *options]
        said = self.log().count("serving ")
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", through, "sh", *argv],
                cwd=self.folder,
                env={**self.turnkeeper.env, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.turnkeeper._started.append(process)
        if is_ready:
            until(lambda: self.log().count("serving ") > said or process.poll() is not None, "it serves")
            assert process.poll() is None, self.log()
        return process

    def end(self, process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(LONGEST_S)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def until_said(self, words: str, times: int = 1) -> None:
        until(lambda: self.log().count(words) >= times, f"the log says {words!r}: {self.log()[-3000:]}")

    def ran(self, name: str) -> list[str]:
        """Return what a job wrote, a line each."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def until_ran(self, name: str, times: int = 1, seconds: float = 20.0) -> None:
        until(lambda: len(self.ran(name)) >= times, f"{name} runs {times} times: {self.log()[-3000:]}", seconds)

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.state}?mode=ro", uri=True, timeout=5.0)) as database:
            return database.execute(question).fetchall()

    def ticks(self, name: str) -> list[tuple[float, str | None]]:
        """Return a job's ticks and their outcomes, the oldest first."""
        return self.rows(f"SELECT tick_wall, outcome FROM ticks WHERE job = '{name}' ORDER BY tick_wall")

    def sweep(self) -> None:
        """Remove what kill -9 may leave behind: the life file of a tree that was not recorded yet."""
        sweep(self.turnkeeper.alive, lambda _: False, time.time() + 1.0, 0.0)

    def assert_nothing_is_lost(self) -> None:
        """No run is under way, none was lost, and the state is whole."""
        assert self.rows("SELECT id, state FROM runs WHERE state <> 'ended'") == []
        assert self.rows("SELECT run FROM attempts WHERE kind = 'lost' OR outcome IS NULL") == []
        assert self.rows("PRAGMA integrity_check") == [("ok",)]


def rss_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
