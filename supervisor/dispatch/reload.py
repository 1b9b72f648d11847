"""Settings that change while jobs run: a file that is whole, and right, replaces them; any other one is told of."""

import os
from collections.abc import Callable
from pathlib import Path

from supervisor.errors import SettingsError
from supervisor.settings.values import Settings

Facts = tuple[int, int, int, int] | None


class SettingsFile:
    """The file that settings came from. One that has just been changed may be half-written: it is read once it rests.

    `read` returns the settings anew, or raises SettingsError. It is given the file: one that is gone for a moment must
    not be looked for elsewhere, and have every job end.
    """

    def __init__(self, settings: Settings, read: Callable[[Path | None], Settings]) -> None:
        self._path = (
            Path(settings.source) if os.path.sep in settings.source or os.path.exists(settings.source) else None
        )
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
        return self._read(self._path)

    def _facts(self) -> Facts:
        if self._path is None:
            return None
        try:
            facts = os.stat(self._path)
        except OSError:
            return None
        return facts.st_ino, facts.st_dev, facts.st_size, facts.st_mtime_ns


def must_not_remove(new: Settings, in_use: frozenset[str]) -> None:
    """Raise SettingsError where new settings have not all policies that runs are under."""
    gone = sorted(in_use - set(new.policies))
    if gone:
        raise SettingsError(new.source, tuple(f"policies.{name} is gone, and runs are under it" for name in gone))


def kept(old: Settings, new: Settings) -> tuple[str, ...]:
    """Return, a line each, what changed and is in force only after a restart."""
    return () if old.state == new.state else ("[state] has changed: that is in force after a restart",)
