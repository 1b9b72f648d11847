"""The command as it is started: each of its exit statuses at least once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.processes


def turnkeeper(
    folder: Path, *arguments: str, through: str = '"$@"', **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, through a line of shell that may limit or redirect it."""
    command = [sys.executable, "-m", "supervisor.cli.main", *arguments]
    return subprocess.run(
        ["sh", "-c", through, "sh", *command],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_good_settings_end_with_0(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "check", str(REPOSITORY / "settings.toml"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "[policies.subagent]  # hash " in ended.stdout


def test_bad_settings_end_with_78(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b"[limits]\nrunning = 0\n")
    variable = "TURNKEEPER_POLICIES__DEFAULT__GATE__PERMITS"
    ended = turnkeeper(tmp_path, "check", **{variable: "none"})
    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr.splitlines() == [
        "turnkeeper: 2 problems in settings.toml:",
        "  limits.running needs a whole number of 1 or more, got 0",
        f'  policies.default.gate.permits needs a whole number of 1 or more, got "none" (set by {variable})',
    ]


def test_a_named_file_that_is_missing_ends_with_78(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "check", TURNKEEPER_SETTINGS="gone.toml")
    assert ended.returncode == 78
    assert "gone.toml:\n  there is no such file" in ended.stderr


def test_a_fifo_ends_with_78(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    ended = turnkeeper(tmp_path, "check")
    assert (ended.returncode, "Traceback" in ended.stderr) == (78, False)


def test_bad_usage_ends_with_64(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "chek")
    assert (ended.returncode, ended.stdout) == (64, "")
    assert "Traceback" not in ended.stderr


def test_a_full_disk_ends_with_73_and_leaves_nothing(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "init", through='ulimit -f 0; "$@"')
    assert ended.returncode == 73
    assert ended.stderr == "turnkeeper: cannot write settings.toml: File too large\n"
    assert os.listdir(tmp_path) == []


def test_a_full_output_ends_with_74(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "schema", through='"$@" >/dev/full')
    assert (ended.returncode, "Traceback" in ended.stderr) == (74, False)
    assert "No space left on device" in ended.stderr


def test_a_reader_that_is_gone_is_no_news(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "schema", through='{ "$@"; echo $? >&2; } | true')
    assert ended.stderr == "74\n"


def test_the_version_is_printed(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("turnkeeper")


def test_help_says_what_there_is(tmp_path: Path) -> None:
    ended = turnkeeper(tmp_path, "--help")
    assert ended.returncode == 0
    for command in ("check", "init", "schema"):
        assert f"\n  {command} " in ended.stdout
