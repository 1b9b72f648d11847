"""Many processes of Turnkeeper on one state: `turnkeeper run`, and programs that use the library."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.chaos.overlap import Bodies
from tests.supervisor.cli.running import SESSION, Ended, Turnkeeper, sh
from tests.supervisor.tree.trees import until

HOST = Path(__file__).parent / "many_host.py"
AT_ONCE = Path(__file__).parent / "at_once.py"


class Many:
    """Runs of one folder's state: their reports by name, their bodies, and the rows that they leave."""

    def __init__(self, turnkeeper: Turnkeeper) -> None:
        self.turnkeeper = turnkeeper
        self.folder = turnkeeper.folder
        self.state = self.folder / "state" / "turnkeeper" / "state.db"
        self.bodies = Bodies(self.folder / "bodies")
        turnkeeper.rules()

    def start(self, name: str, script: str, *options: str, **how: Any) -> "subprocess.Popen[bytes]":
        return self.turnkeeper.start(sh(script), "--report", f"{name}.json", *options, **how)

    def start_body(self, name: str, seconds: float, then: str = "", **how: Any) -> "subprocess.Popen[bytes]":
        return self.start(name, self.bodies.command(seconds, then), **how)

    def remove_half_written(self) -> None:
        """Remove the reports of killed processes, which remove nothing themselves."""
        for half_written in self.folder.glob(".turnkeeper-report.*"):
            half_written.unlink()

    def run_at_once(self, runs: int, script: str, session: str = SESSION) -> list[int]:
        """Run the same command so many times, each in a process that has loaded all before; return the statuses."""
        argv = self.turnkeeper.argv(sh(script), "--report", "{}.json", session=session)[3:]
        given = json.dumps([runs, argv])
        ended = subprocess.run(
            [sys.executable, str(AT_ONCE), given],
            cwd=self.folder,
            env=self.turnkeeper.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        statuses: list[int] = json.loads(ended.stdout)
        return statuses

    def start_host(self, seconds: float, pause_s: float = 0.0) -> "subprocess.Popen[bytes]":
        """Start a program whose work is its own process's."""
        settings = str(self.folder / "settings.toml")
        arguments = [str(self.state), settings, SESSION, str(self.bodies.path), str(seconds), str(pause_s)]
        process = subprocess.Popen(
            [sys.executable, str(HOST), *arguments],
            cwd=self.folder,
            env=self.turnkeeper.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.turnkeeper._started.append(process)
        return process

    def end(self, process: "subprocess.Popen[bytes]") -> Ended:
        return self.turnkeeper.end(process)

    def report(self, name: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return report

    def ended(self, name: str) -> tuple[str, str | None]:
        """Return how a run's report says that it ended."""
        report = self.report(name)
        return report["status"], report["reason"]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the state, from a connection that only reads."""
        if not self.state.exists():
            return []
        connection = sqlite3.connect(f"file:{self.state}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return []
        finally:
            connection.close()

    def until_started(self, bodies: int) -> None:
        until(lambda: len(self.bodies.started()) >= bodies, f"{bodies} bodies have started")

    def until_in_line(self, runs: int) -> None:
        until(lambda: self.rows("SELECT count(*) FROM places") == [(runs,)], f"{runs} stand in line")
