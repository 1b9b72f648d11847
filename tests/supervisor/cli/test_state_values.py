"""Values of `--state` that name no database: each is told what it is, and nothing is made or waited for."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli.main import main
from supervisor.settings.values import State
from supervisor.store.of_settings import path_of


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in; what is made there is seen."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        monkeypatch.setenv("XDG_STATE_HOME", f"{name}/state")
        yield Path(name)


def run(*arguments: str) -> int:
    """Run each kind of command on a state: one that reads, one that writes; return the status that all have."""
    statuses = {main([*command, "--state", *arguments]) for command in (["status"], ["pause", "a"], ["stop", "a"])}
    [status] = statuses | {main(["run", "--session", "a", "--state", *arguments, "--", "true"])}
    return status


@pytest.mark.parametrize(
    "value", ["", "sqlite:", "sqlite:state.db", "sqlite://relative", "sqlite+x:///a", "postgresql://u:secret@h/d"]
)
def test_what_is_no_such_value_is_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert run(value) == 64
    told = capsys.readouterr().err
    assert told.startswith("turnkeeper: --state is memory, sqlite, the path of an SQLite file, or sqlite:// before")
    assert repr(value.replace("u:secret", "***")) in told
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("folder", "is a folder: name a file, such as {}/folder/state.db"),
        ("fifo", "is no plain file but a FIFO: name another one with --state"),
        ("/dev/null", "is no plain file but a device: name another one with --state"),
        ("plain/state.db", "cannot be opened: Not a directory; name another one with --state"),
        ("plain", "is not a database: it is left as it is; move it away, or name another with --state"),
    ],
)
def test_what_can_be_no_database_is_69_and_left_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], value: str, why: str
) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "plain").write_text("not a database\n" * 40)
    assert run(value) == 69
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith(f"turnkeeper: the state {folder / value} {why.format(folder)}")
    assert sorted(os.listdir(folder)) == ["fifo", "folder", "plain"]


def test_a_file_that_may_not_be_read_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod(folder, 0o755)
    (folder / "state.db").touch(mode=0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        assert main(["status", "--state", "state.db"]) == 69
    finally:
        if root:
            os.seteuid(0)
    assert f"{folder / 'state.db'} may not be read by this user" in capsys.readouterr().err


def test_a_folder_that_is_missing_is_made_by_who_writes_alone(folder: Path) -> None:
    assert main(["status", "--state", "missing/state.db"]) == 0
    assert os.listdir(folder) == []
    assert main(["pause", "a", "--state", "missing/state.db"]) == 0
    assert (folder / "missing" / "state.db").is_file()


def test_a_url_with_a_slash_too_many_is_the_file_of_the_one_without(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{folder}/state.db"
    assert str(path_of(State(url=url))) == f"{folder}/state.db"
    assert main(["pause", "a", "--state", url]) == 0
    assert main(["status", "--state", f"{folder}/state.db"]) == 0
    assert "paused" in capsys.readouterr().out.splitlines()[-1]
