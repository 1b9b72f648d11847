"""The state of `turnkeeper run`: where it is, what is in it, and a writer that stops in its transaction."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.supervisor.cli.running import Turnkeeper

APPLICATION = 0x7475726E

_WRITER = """
import signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("INSERT INTO meta VALUES ('writer', 1)")
signal.raise_signal(signal.SIGSTOP)
database.execute("ROLLBACK")
"""


def state_of(turnkeeper: Turnkeeper) -> Path:
    return turnkeeper.folder / "state" / "turnkeeper" / "state.db"


def rows(state: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(state)) as database:
        return database.execute(question).fetchall()


def files(state: Path) -> dict[str, bytes]:
    """Return what is in the folder of a database."""
    return {path.name: path.read_bytes() for path in state.parent.iterdir() if path.is_file()}


@contextmanager
def stopped_writer(state: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a process that stands still within its transaction until it gets SIGCONT; at the end it has."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(state)]) as writer:
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield writer
        finally:
            writer.send_signal(signal.SIGCONT)
            assert writer.wait(10) == 0
