"""What `check` warns of: a job whose run may outlast its period, and one whose program is not there."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policies.schedule import At, Cron, Every
from supervisor.settings.job_paths import with_whole_paths
from supervisor.settings.job_warnings import job_warnings, shortest_period_s

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
JOB = '[[jobs]]\nname = "a"\ncommand = ["true"]\n'


@pytest.mark.parametrize(
    ("schedule", "period_s"),
    [
        (Every(90.0, 0.0), 90.0),
        (At(NOW + 5.0), None),
        (Cron("0 * * * *", UTC), 3600.0),
        (Cron("0,50 * * * *", UTC), 600.0),
        (Cron("0 8 * * MON-FRI", UTC), 86400.0),
        (Cron("0 0 29 2 *", UTC), None),
    ],
)
def test_a_period_is_the_shortest_time_between_two_ticks_of_the_year(schedule: Any, period_s: float | None) -> None:
    assert shortest_period_s(schedule, NOW) == period_s


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ('every = "10m"', "job a: budget.deadline is longer than its period: 30m, 10m at the least"),
        ('cron = "0,20 * * * *"', "job a: budget.deadline is longer than its period: 30m, 20m at the least"),
        (
            'every = "1d"\nbudget.deadline = "off"',
            'job a: budget.deadline is "off": a run may take longer than the period, 1d',
        ),
        ('every = "1h"\nstagger = "61m"', "job a: stagger is longer than its period: 1h1m, 1h at the least"),
        ('at = "2026-02-28"', "job a: its moment is over: where it is new, it never runs"),
        ('every = "1h"\ncommand = ["no-such-program"]', 'job a: its program is not found on PATH: "no-such-program"'),
        ('every = "1h"\ncommand = ["./gone"]', 'job a: its program is not found, or cannot be executed: "./gone"'),
        ('every = "1h"\nenv = { PATH = "/nowhere" }', 'job a: its program is not found on PATH: "true"'),
        ('every = "1h"\ncwd = "/no/such/folder"', 'job a: its folder is not there: "/no/such/folder"'),
    ],
)
def test_what_looks_wrong_is_told(read: Any, keys: str, warning: str) -> None:
    job = JOB if "command" not in keys else JOB.replace('command = ["true"]\n', "")
    [told] = job_warnings(read(job + keys), NOW)
    assert told.startswith(warning)


@pytest.mark.parametrize(
    "keys",
    [
        'every = "30m"',
        'every = "10m"\nbudget.deadline = "10m"',
        'every = "1h"\nstagger = "1h"',
        'at = "2026-06-01"\nstagger = "30d"\nbudget.deadline = "off"',
    ],
)
def test_what_is_meant_so_is_not(read: Any, keys: str) -> None:
    assert job_warnings(read(JOB + keys), NOW) == ()


def test_a_program_is_looked_for_in_the_job_s_folder(read: Any, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("#!/bin/sh\n")
    job = f'[[jobs]]\nname = "a"\nevery = "1h"\ncwd = "{tmp_path}"\ncommand = ["./report"]\n'
    assert len(job_warnings(read(job), NOW)) == 1
    (tmp_path / "report").chmod(0o755)
    assert job_warnings(read(job), NOW) == ()


def test_relative_paths_are_of_the_folder_of_the_settings_file(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = read(JOB + 'every = "1h"\ncwd = "turns"\nlock = "locks/a.jsonl"\n')
    assert [told.split(": ", 1)[1] for told in job_warnings(settings, NOW)] == [
        f'the folder of its lock is not there: "{tmp_path}/turns/locks"',
        f'its folder is not there: "{tmp_path}/turns"',
    ]
    (tmp_path / "turns" / "locks").mkdir(parents=True)
    assert job_warnings(settings, NOW) == ()
    [job] = read(JOB + 'every = "1h"\nlock = "a.jsonl"\n').jobs
    whole = with_whole_paths(job, settings)
    assert (whole.cwd, whole.lock) == (None, str(tmp_path / "a.jsonl"))
