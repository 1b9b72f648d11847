"""What the README shows is run: its library code against the stand-in model, its settings by their own reader."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Kind
from supervisor.settings.read import read_settings
from supervisor.settings.units import parse_duration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "examples"))

from stand_in_model import Answers, Refuses, StandInModel  # noqa: E402


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


async def test_the_library_code_asks_again_and_prints_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = "agent:main:reports"
    async with StandInModel({session: [Refuses(503), Answers("Three.")]}) as model:
        code = blocks("python")[0].replace("http://127.0.0.1:8080", model.url)
        assert model.url in code
        (tmp_path / "sessions").mkdir()
        settings = "[policies.cron]\nbackoff.base = '0s'\n"
        (tmp_path / "settings.toml").write_text(settings)
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        await names["main"]()
        assert len(model.of(session)) == 2
    assert capsys.readouterr().out == "Three. 2\n"
    assert not list((tmp_path / "sessions").iterdir())


def test_the_line_about_side_effects_does_what_it_says(tmp_path: Path) -> None:
    (rule,) = re.findall(r"`(kinds\.timeout = .*?)`", README)
    file = tmp_path / "settings.toml"
    file.write_text(f"[policies.mail]\n{rule}\n")
    policy = read_settings(file, environ={}).policies["mail"]
    assert not policy.effect(Kind.TIMEOUT).retried
    assert policy.effect(Kind.OVERLOADED).retried


def test_the_settings_that_it_shows_are_right_and_the_job_has_its_own(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("\n".join(blocks("toml")))
    settings = read_settings(file, environ={})
    [job] = settings.jobs
    assert job.policy.attempt.timeout_s == 1200.0
    assert not job.policy.effect(Kind.TIMEOUT).retried
    assert settings.policies["cron"].effect(Kind.TIMEOUT).retried


def test_the_service_gives_serve_the_time_to_end_and_kills_no_warden() -> None:
    [unit] = blocks("ini")
    keys = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert (keys["Type"], keys["KillMode"]) == ("notify", "mixed")
    settings = read_settings(ROOT / "settings.toml", environ={})
    longest_grace_s = max(policy.attempt.grace_s for policy in settings.policies.values())
    assert parse_duration(keys["TimeoutStopSec"].replace("min", "m")) > settings.serve.drain_s + 2 * longest_grace_s
    assert parse_duration(keys["WatchdogSec"]) >= 10.0


def test_every_file_that_the_papers_link_to_is_there() -> None:
    for paper in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / paper).read_text(encoding="utf-8")):
            assert "://" in target or (ROOT / target).exists(), f"{paper} links to {target}"


def test_each_command_that_the_readme_names_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from supervisor.cli.main import main

    named = re.findall(r"^turnkeeper (\w+)", README, flags=re.MULTILINE)
    assert {*named} == {
        "run",
        "status",
        "runs",
        "show",
        "stop",
        "pause",
        "reset",
        "locks",
        "init",
        "check",
        "schema",
        "next",
        "serve",
        "jobs",
    }
    for name in named:
        assert main([name, "--help"]) == 0
        assert name in capsys.readouterr().out
