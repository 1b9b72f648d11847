"""The command's first moment: Ctrl-C while its parts are still loaded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli import entry
from supervisor.cli.exit_status import ExitStatus

REPOSITORY = Path(__file__).parents[3]

INTERRUPTED_AT_AN_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from supervisor.cli import entry
sys.argv[1:] = ["run", "--session", "s", "--", "touch", "started"]
sys.exit(entry.main())
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "module",
    ["policies.breaker", "supervisor.run", "click", "supervisor.cli.run", "supervisor.settings.load"],
)
def test_an_interrupt_while_a_module_is_loaded_ends_quietly_and_starts_nothing(tmp_path: Path, module: str) -> None:
    script = INTERRUPTED_AT_AN_IMPORT.replace("MODULE", repr(module))
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # A newline at most: click ends the line on which a terminal has shown ^C.
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "")
    assert os.listdir(tmp_path) == []


@pytest.mark.processes
def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "supervisor.cli.entry", "--version"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.startswith("turnkeeper")) == (0, True)


def test_its_status_is_that_of_the_command() -> None:
    assert entry.INTERRUPTED == ExitStatus.INTERRUPTED == 128 + signal.SIGINT
