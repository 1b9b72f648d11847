"""Settings that change while jobs run: a file that is whole, and right, replaces them; any other one is told of."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from supervisor.errors import SettingsError
from supervisor.settings.values import EMBEDDED, Job, Settings

Facts = tuple[int, int, int, int] | None

_MOST_NAMED: Final = 10


class PolicyInUse(SettingsError):
    """New settings have not all policies that runs are under: those `gone` are, so they can be used later."""

    def __init__(self, source: str, gone: frozenset[str]) -> None:
        told = (
            f"policies.{name} is gone, and runs are under it; tried again when they are over" for name in sorted(gone)
        )
        super().__init__(source, tuple(told))
        self.gone = gone


class SettingsFile:
    """The file that settings came from. One that has just been changed may be half-written: it is read once it rests.

    `read` returns the settings anew, or raises SettingsError. It is given the file: one that is gone for a moment must
    not be looked for elsewhere, and have every job end.
    """

    def __init__(self, settings: Settings, read: Callable[[Path | None], Settings]) -> None:
        self._path = _path_of(settings)
        self._read = read
        self._read_at = self._changing = self._facts()

    def is_changed(self) -> bool:
        """Tell whether it is another one than was read, and the same as at the last look."""
        facts = self._facts()
        rests = facts == self._changing
        self._changing = facts
        return rests and facts is not None and facts != self._read_at

    def read(self) -> Settings:
        """Return what it says now; SettingsError says what is wrong with it."""
        self._read_at = self._changing = self._facts()
        settings = self._read(self._path)
        if self._path is None and (path := _path_of(settings)) is not None:
            self._path = path
            self._read_at = self._changing = self._facts()
        return settings

    def _facts(self) -> Facts:
        if self._path is None:
            return None
        try:
            facts = os.stat(self._path)
        except OSError:
            return None
        return facts.st_ino, facts.st_dev, facts.st_size, facts.st_mtime_ns


def must_not_remove(new: Settings, in_use: frozenset[str]) -> None:
    """Raise PolicyInUse where new settings have not all policies that runs are under."""
    if gone := in_use - set(new.policies):
        raise PolicyInUse(new.source, gone)


def must_have_jobs(old: Settings, new: Settings) -> None:
    """Raise SettingsError where new settings take all jobs away: an empty file is mostly somebody's slip."""
    if old.jobs and not new.jobs:
        raise SettingsError(new.source, ("has no jobs; SIGHUP takes it all the same",))


def changes(old: Settings, new: Settings) -> str:
    """Return which jobs new settings add, take away and change, in brackets; nothing where they do neither."""
    before, after = ({job.name: job for job in settings.jobs} for settings in (old, new))
    changed = [name for name, job in after.items() if name in before and not _is_same(before[name], job)]
    named = (
        ("new", [name for name in after if name not in before]),
        ("gone", [name for name in before if name not in after]),
        ("changed", changed),
    )
    parts = [f"{len(names)} {what}: {_some(names)}" for what, names in named if names]
    return f" ({'; '.join(parts)})" if parts else ""


def _is_same(one: Job, other: Job) -> bool:
    return replace(one, schedule=other.schedule) == other  # its text tells a schedule from another one


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def _path_of(settings: Settings) -> Path | None:
    return None if settings.source == EMBEDDED else Path(settings.source)


def kept(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return, a line each, what changed and is in force only after a restart."""
    return () if old.state == new.state else ("[state] has changed: that is in force after a restart",)
