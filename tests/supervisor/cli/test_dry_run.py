"""`turnkeeper serve --dry-run`: the starts of the next day, by the settings alone."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from policies.schedule import stagger_s
from supervisor.cli import dry_run
from supervisor.cli.main import main
from supervisor.settings.read import read_settings

JOB = '[[jobs]]\nname = "{name}"\ncommand = ["true"]\n{keys}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def write(**jobs: str) -> None:
    text = "\n".join(JOB.format(name=name, keys=keys) for name, keys in jobs.items())
    Path("settings.toml").write_text(f'[policies.cron]\ngate.overlap = "skip"\n{text}')


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["serve", "--dry-run", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_each_start_of_the_next_day_is_told_in_order_with_its_policy(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    write(
        hours='every = "6h"\npolicy = "cron"\nattempt.timeout = "1h"',
        daily='cron = "0 8 * * *"',
        over='at = "2001-01-01"',
    )
    rows = printed(capsys)
    assert [row["job"] for row in rows].count("hours") == 4
    assert [row["job"] for row in rows].count("daily") == 1
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    jobs = {job.name: job for job in read_settings().jobs}
    for row in rows:
        job = jobs[row["job"]]
        assert row == {
            "at": row["at"],
            "job": job.name,
            "session": f"job:{job.name}",
            "policy": job.policy.name,
            "hash": job.policy.hash,
        }
    assert not (folder / "state").exists()


def test_a_stagger_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    write(a='cron = "0 8 * * *"\nstagger = "2h"')
    [row] = printed(capsys)
    after = datetime.fromisoformat(row["at"])
    seconds = (after - after.replace(hour=8, minute=0, second=0, microsecond=0)).total_seconds()
    assert seconds == pytest.approx(stagger_s("a", 7200.0))


def test_a_day_is_a_day_from_the_moment_on() -> None:
    write(a='every = "1h"\nstagger = "30m"', b='every = "1h"')
    starts = [*dry_run.next_day(read_settings(), 1_000_000_800.0)]
    assert len(starts) == 48
    assert starts[0][0] > 1_000_000_800.0
    assert starts[-1][0] <= 1_000_000_800.0 + dry_run.DAY_S


def test_of_very_many_the_first_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write(a='every = "1s"')
    assert main(["serve", "--dry-run", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == dry_run.MOST_SHOWN
    assert captured.err == "turnkeeper: these are the first 10000: there are more\n"


def test_nothing_is_an_empty_array_and_a_note_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    write(over='at = "2001-01-01"')
    assert printed(capsys) == []
    assert main(["serve", "--dry-run"]) == 0
    assert capsys.readouterr().err == "turnkeeper: nothing would start in the next day\n"


def test_a_person_gets_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    write(a='every = "12h"')
    assert main(["serve", "--dry-run"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["STARTS", "JOB", "SESSION", "POLICY"]
    assert len(rows) == 2


def test_wrong_settings_are_78_and_json_alone_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    write(a='every = "1h"\npolicy = "crno"')
    assert main(["serve", "--dry-run"]) == 78
    assert "jobs #1 policy needs the name of a policy" in capsys.readouterr().err
    write(a='every = "1h"')
    assert main(["serve", "--json"]) == 64
    assert "--json goes with --dry-run" in capsys.readouterr().err
