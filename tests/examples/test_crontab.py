"""The crontab's line is run as cron runs it: by its shell, in its small environment, with % meaning a new line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.owner import starttime_of

ROOT = Path(__file__).parents[2]
CRONTAB = (ROOT / "examples" / "crontab").read_text(encoding="utf-8")


def cron(home: Path, agent: str) -> "subprocess.CompletedProcess[str]":
    lines = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines if "=" in line.split()[0])
    (job,) = (line for line in lines if "=" not in line.split()[0])
    *schedule, command = job.split(maxsplit=5)
    assert len(schedule) == 5
    assert "%" not in command
    tools = home / "bin"
    for name, text in (("turnkeeper", f'exec {sys.executable} -m supervisor.cli.main "$@"'), ("my-agent", agent)):
        tools.mkdir(exist_ok=True)
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    (home / "sessions").mkdir(exist_ok=True)
    environment = variables | {"HOME": str(home), "LOGNAME": "somebody", "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{tools}:{variables['PATH']}"
    return subprocess.run(
        [variables["SHELL"], "-c", command],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
def test_a_turn_that_succeeds_prints_what_the_agent_prints_and_reports_it(tmp_path: Path) -> None:
    ended = cron(tmp_path, 'test -e "$HOME/sessions/reports.jsonl.lock" && echo "asked: $1"')
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "asked: Which reports are due?\n", "")
    assert json.loads((tmp_path / "sessions" / "reports.json").read_bytes())["status"] == "succeeded"
    assert os.listdir(tmp_path / "sessions") == ["reports.json"]


@pytest.mark.processes
def test_a_turn_that_is_used_wrongly_is_mailed_about_once(tmp_path: Path) -> None:
    ended = cron(tmp_path, "exit 2")
    assert ended.returncode == 2
    assert ended.stderr.count("attempt 1 failed: invalid") == 1


@pytest.mark.processes
def test_a_turn_whose_session_is_busy_is_left_out_without_a_mail(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[policies.default]\nlock.wait = '100ms'\n")
    (tmp_path / "sessions").mkdir()
    lock = tmp_path / "sessions" / "reports.jsonl.lock"
    lock.write_text(json.dumps({"pid": os.getpid(), "starttime": starttime_of(os.getpid())}))
    ended = cron(tmp_path, "exit 2")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert json.loads((tmp_path / "sessions" / "reports.json").read_bytes())["reason"] == "busy"
