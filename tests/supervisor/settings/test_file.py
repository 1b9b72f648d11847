import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import SettingsError
from supervisor.settings.file import LARGEST, find, read_tables
from supervisor.settings.read import read_settings
from supervisor.settings.values import embedded_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, and a user without settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def problem(path: Path | str) -> str:
    with pytest.raises(SettingsError) as raised:
        read_tables(str(path))
    (only,) = raised.value.problems
    return only


def test_each_place_is_asked_in_turn(home: Path) -> None:
    assert find(None, {}).path is None
    users = home / "config" / "turnkeeper" / "settings.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert find(None, {}).path == str(users)
    Path("settings.toml").touch()
    assert find(None, {}).path == "settings.toml"
    assert find(None, {"TURNKEEPER_SETTINGS": "theirs.toml"}).path == "theirs.toml"
    assert find("mine.toml", {"TURNKEEPER_SETTINGS": "theirs.toml"}).path == "mine.toml"


def test_an_empty_variable_names_no_file(home: Path) -> None:
    assert find(None, {"TURNKEEPER_SETTINGS": ""}).path is None


def test_without_a_file_the_built_in_defaults_hold(home: Path) -> None:
    assert read_settings(environ={}) == embedded_settings()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_file_that_was_named_has_to_be_there(home: Path, how: str) -> None:
    argument = "gone.toml" if how == "argument" else None
    with pytest.raises(SettingsError, match=r"gone\.toml:\n  there is no such file"):
        read_settings(argument, {"TURNKEEPER_SETTINGS": "gone.toml"})


def test_a_folder_of_somebody_else_is_passed_over_with_a_warning(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, nobody: Callable[[], Any]
) -> None:
    closed = open_folder / "config"
    closed.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(closed))
    monkeypatch.chdir(open_folder)
    closed.chmod(0o000)
    with nobody():
        settings = read_settings(environ={})
    closed.chmod(0o700)
    assert settings.source == "built-in defaults"
    assert "config/turnkeeper/settings.toml cannot be looked at: Permission denied" in settings.warnings[0]


def test_an_empty_file_is_the_built_in_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    settings = read_settings(path, {})
    assert settings.policies == embedded_settings().policies
    assert settings.source == str(path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert read_tables(str(path)) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = 1\nb = \xe9\n", "needs UTF-8, got the byte 0xe9"),
        (b"a = 1\nb = \xe9\n", "line 2, column 5: "),
        ("a = 1".encode("utf-16"), "needs UTF-8, got UTF-16"),
        (b"\x7fELF\x02\x01\x01\x00", "line 1, column 1: "),
        (b"a = 1\x00", "line 1, column 6: "),
        (b"[policies\na = 1", "line 1, column 10: "),
        (b"a = 1\nb =", "line 2, column 4: "),
        (b"a = 1\na = 2\n", "line 2, column 6: Cannot overwrite a value"),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"a = " + b"9" * 5000, "has a number that is too long"),
        (b"#" * (LARGEST + 1), "is larger than 1024 KiB"),
    ],
)
def test_what_is_not_toml_says_where(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert words in problem(path)


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * LARGEST)
    assert read_tables(str(path)) == {}


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problem(tmp_path) == "is a directory, not a file"


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert problem(tmp_path / "fifo") == "is a FIFO, not a file"


def test_a_device_is_refused() -> None:
    assert problem("/dev/zero") == "is a device, not a file"


def test_a_file_that_may_not_be_read_says_so(open_folder: Path, nobody: Callable[[], Any]) -> None:
    path = open_folder / "secret.toml"
    path.touch(0o000)
    with nobody():
        assert problem(path) == "cannot be read: Permission denied"


def test_a_file_that_cannot_be_read_says_why() -> None:
    assert problem("/proc/self/mem") == "cannot be read: Input/output error"


def test_a_link_to_nothing_is_a_missing_file(home: Path) -> None:
    Path("settings.toml").symlink_to("gone.toml")
    with pytest.raises(SettingsError, match="no such file"):
        read_settings(environ={})


@pytest.mark.parametrize(("path", "words"), [("", "no such file"), ("a\0b", "embedded null")])
def test_a_path_that_is_none_is_an_error_too(path: str, words: str) -> None:
    assert words in problem(path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    problem(tmp_path)
    problem("/dev/zero")
    problem("/proc/self/mem")
    assert len(os.listdir("/proc/self/fd")) == before
