import json
import os
from pathlib import Path

import pytest

from supervisor.cli.main import main
from supervisor.settings.read import read_settings

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in os.environ:
        if name.startswith("TURNKEEPER_"):
            monkeypatch.delenv(name)
    return tmp_path


def test_check_shows_each_policy_as_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("settings.toml").write_text('[policies.cron]\ngate.overlap = "skip"\n')
    monkeypatch.setenv("TURNKEEPER_POLICIES__DEFAULT__BUDGET__ATTEMPTS", "2")
    assert main(["check"]) == 0
    shown = capsys.readouterr()
    cron = read_settings().policies["cron"]
    assert shown.out.startswith("# settings.toml: no problems.")
    assert f"[policies.cron]  # hash {cron.hash}\n" in shown.out
    assert shown.out.count("attempts = 2,") == 2
    assert 'overlap = "skip"' in shown.out
    assert shown.err == ""


def test_check_without_a_file_shows_the_built_in_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("# built-in defaults: no problems.")


@pytest.mark.parametrize(
    "arguments", [["bad.toml"], ["--settings", "bad.toml"], ["bad.toml", "--settings", "bad.toml"]]
)
def test_check_says_what_is_wrong(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    Path("bad.toml").write_text("limits.running = 0\npolicies.cron.budget.attempts = 160\n")
    assert main(["check", *arguments]) == 78
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("turnkeeper: 2 problems in bad.toml:\n  limits.running needs")


def test_check_as_json_has_the_problems_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text("limits.running = 0\n")
    assert main(["check", "bad.toml", "--json"]) == 78
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "source": "bad.toml",
        "problems": ["limits.running needs a whole number of 1 or more, got 0"],
    }
    assert shown.err.startswith("turnkeeper: one problem in bad.toml:\n")


def test_check_as_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(REPOSITORY / "settings.toml")]) == 0
    shape = json.loads(capsys.readouterr().out)
    assert list(shape["policies"]) == ["default", "cron", "subagent"]
    assert shape["limits"]["running"] == 8


def test_check_warns_on_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_PORT", "tcp://10.0.0.1:80")
    assert main(["check"]) == 0
    assert capsys.readouterr().err == "turnkeeper: warning: not settings, and ignored: TURNKEEPER_PORT\n"


def test_check_takes_one_file_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "a.toml", "--settings", "b.toml"]) == 64
    assert "one file at a time: got a.toml and --settings b.toml" in capsys.readouterr().err


def test_init_writes_a_file_that_passes_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    written = Path("settings.toml")
    assert written.read_bytes() == (REPOSITORY / "settings.toml").read_bytes()
    assert written.stat().st_mode & 0o777 == 0o644
    assert main(["check"]) == 0
    assert os.listdir() == ["settings.toml"]


@pytest.mark.parametrize("there", ["a file", "a link to nothing", "a directory"])
def test_init_writes_over_nothing(capsys: pytest.CaptureFixture[str], there: str) -> None:
    place = Path("mine.toml")
    if there == "a file":
        place.write_text("mine")
    elif there == "a directory":
        place.mkdir()
    else:
        place.symlink_to("gone")
    assert main(["init", "mine.toml"]) == 73
    assert capsys.readouterr().err == "turnkeeper: mine.toml is there already; --force writes over it\n"
    assert os.listdir() == ["mine.toml"]


def test_init_by_force_writes_the_file_that_a_link_names() -> None:
    Path("real.toml").write_text("mine")
    Path("settings.toml").symlink_to("real.toml")
    assert main(["init", "--force"]) == 0
    assert Path("settings.toml").is_symlink()
    assert Path("real.toml").read_bytes() == (REPOSITORY / "settings.toml").read_bytes()


def test_init_by_force_does_not_replace_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    Path("settings.toml").mkdir()
    assert main(["init", "--force"]) == 73
    assert capsys.readouterr().err == "turnkeeper: cannot write settings.toml: Is a directory\n"
    assert os.listdir() == ["settings.toml"]


@pytest.mark.parametrize(
    ("path", "words"), [("none/settings.toml", "No such file or directory"), ("a\0b", "embedded null")]
)
def test_init_says_why_it_could_not_write(capsys: pytest.CaptureFixture[str], path: str, words: str) -> None:
    assert main(["init", path]) == 73
    assert words in capsys.readouterr().err


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing command"),
        (["chek"], "No such command 'chek'"),
        (["check", "--jsn"], "No such option"),
        (["check", "a", "b"], "unexpected extra argument"),
        (["check", "--settings"], "requires an argument"),
    ],
)
def test_bad_usage_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 64
    shown = capsys.readouterr().err
    assert shown.startswith("turnkeeper: ")
    assert words in shown
    assert shown.endswith("--help`.\n")


def test_check_warns_of_a_job_whose_run_may_outlast_its_period(capsys: pytest.CaptureFixture[str]) -> None:
    Path("settings.toml").write_text("[[jobs]]\nname = 'a'\nevery = '10m'\ncommand = ['true']\n")
    assert main(["check"]) == 0
    warning = "job a: budget.deadline is longer than its period: 30m, 10m at the least"
    assert capsys.readouterr().err == f"turnkeeper: warning: {warning}\n"
    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [warning]
