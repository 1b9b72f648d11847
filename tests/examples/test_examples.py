"""Each example is run as a reader runs it; what it claims, it checks by itself and says in its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path.name for path in (ROOT / "examples").glob("*.py") if "return what_holds(" in path.read_text(encoding="utf-8")
)


def run(example: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    # From elsewhere, and with warnings as errors: an example must not depend on where its reader stands.
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / example)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TURNKEEPER_")}
    environment = clean | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_there_is_an_example_for_each_thing_that_the_readme_shows() -> None:
    assert EXAMPLES == [
        "agent_turns.py",
        "breaker_heals.py",
        "flaky_command.py",
        "hanging_tree.py",
        "http_429.py",
        "jobs.py",
        "subagents.py",
    ]


@pytest.mark.processes
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_does_what_it_says(example: str, tmp_path: Path) -> None:
    ended = run(example, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "What holds:" in ended.stdout
    assert "\n  NO " not in ended.stdout
    assert ended.stderr == ""


@pytest.mark.processes
def test_the_main_job_fails_where_a_lock_file_is_left(tmp_path: Path) -> None:
    """A lock that is never released must not go unseen: the example is run with releasing taken out."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import runpy, sys\n"
        "from supervisor.lock.held_lock import HeldFile\n"
        "HeldFile.release = lambda held: 'kept'\n"
        f"sys.path.insert(0, {str(ROOT / 'examples')!r})\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'agent_turns.py')!r}, run_name='__main__')\n"
    )
    impatient = {"TURNKEEPER_POLICIES__CRON__LOCK__WAIT": "200ms"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | impatient
    ended = subprocess.run(
        [sys.executable, str(broken)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "IS STILL THERE" in ended.stdout
