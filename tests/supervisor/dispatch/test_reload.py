import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from policies.policy import Policy
from supervisor.clock import clock_of
from supervisor.dispatch.orphans import reap_orphans
from supervisor.dispatch.reload import SettingsFile, changes, kept, must_not_remove
from supervisor.dispatch.state_file import LOOK_S, LOOKS, StateFile
from supervisor.errors import SettingsError
from supervisor.settings.read import read_settings
from supervisor.settings.values import Settings, State


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text("one")
    return path


def settings_file(path: Path, asked: "list[Path | None] | None" = None) -> SettingsFile:
    def read(path: Path | None) -> Settings:
        if asked is not None:
            asked.append(path)
        return Settings()

    return SettingsFile(Settings(source=str(path)), read)


def test_a_file_is_changed_once_it_rests_and_until_it_is_read(file: Path) -> None:
    asked: list[Path | None] = []
    settings = settings_file(file, asked)
    assert not settings.is_changed()
    file.write_text("changed")
    assert not settings.is_changed(), "it may be written just now"
    file.write_text("changed again")
    assert not settings.is_changed()
    assert settings.is_changed()
    assert settings.is_changed()
    settings.read()
    assert not settings.is_changed()
    assert asked == [file]


def test_one_that_has_the_same_length_and_content_in_another_file_is_changed(file: Path) -> None:
    settings = settings_file(file)
    new = file.with_name("new")
    new.write_text("one")
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.rename(file)
    assert [settings.is_changed() for _ in range(2)] == [False, True]


def test_a_file_that_is_gone_is_not_changed_and_one_that_comes_back_is(file: Path) -> None:
    settings = settings_file(file)
    file.unlink()
    assert [settings.is_changed() for _ in range(3)] == [False] * 3
    file.write_text("two")
    assert [settings.is_changed() for _ in range(2)] == [False, True]


def test_settings_from_no_file_never_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Path | None] = []

    def read(path: Path | None) -> Settings:
        asked.append(path)
        return Settings()

    settings = SettingsFile(Settings(), read)
    assert not settings.is_changed()
    settings.read()
    assert asked == [None]


def test_a_policy_in_use_must_not_be_removed() -> None:
    new = Settings(source="settings.toml", policies={"default": Policy(), "cron": Policy()})
    must_not_remove(new, frozenset({"default", "cron"}))
    with pytest.raises(SettingsError) as raised:
        must_not_remove(new, frozenset({"default", "b", "a"}))
    assert [problem.split()[0] for problem in raised.value.problems] == ["policies.a", "policies.b"]


def test_the_jobs_that_are_new_gone_and_changed_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "settings.toml"
    empty.touch()

    def settings(*tables: Mapping[str, object]) -> Settings:
        return read_settings(empty, {}, {"jobs": [{"command": ["true"], **table} for table in tables]})

    hourly, daily = {"name": "a", "cron": "0 * * * *"}, {"name": "a", "cron": "0 0 * * *"}
    assert changes(settings(hourly), settings(hourly)) == ""
    assert changes(settings(hourly), settings(daily)) == " (1 changed: a)"
    assert changes(settings(hourly), settings(hourly | {"attempt": {"timeout": "1s"}})) == " (1 changed: a)"
    assert changes(settings(hourly), settings(hourly | {"name": "b"})) == " (1 new: b; 1 gone: a)"
    many = settings(*(hourly | {"name": f"job{number}"} for number in range(12)))
    assert changes(Settings(), many) == f" (12 new: {', '.join(f'job{number}' for number in range(10))}, ...)"


def test_only_a_changed_state_waits_for_a_restart() -> None:
    old = Settings(state=State())
    assert kept(old, Settings(state=State(), source="other")) == ()
    [told] = kept(old, Settings(state=State(lease_s=7.0)))
    assert "restart" in told


async def test_a_state_is_gone_after_some_looks_in_a_row(file: Path) -> None:
    clock = clock_of(asyncio.get_running_loop())
    began = clock.now()
    gone = asyncio.ensure_future(StateFile(file).gone(clock))
    away = file.with_name("away")
    file.rename(away)  # noqa: ASYNC240
    await clock.sleep(LOOK_S * (LOOKS - 0.5))
    away.rename(file)
    await clock.sleep(10 * LOOK_S)
    assert not gone.done()
    away.write_text("another")
    away.rename(file)
    await gone
    assert clock.now() - began == pytest.approx(LOOK_S * (10 + 2 * LOOKS - 1))


async def test_only_process_1_waits_for_orphans() -> None:
    await asyncio.wait_for(reap_orphans(clock_of(asyncio.get_running_loop())), 1.0)
