"""The settings file: where it is looked for, and its bytes as tables. Nothing here knows what a table means."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.errors import SettingsError

NAMED_BY: Final = "TURNKEEPER_SETTINGS"

LARGEST: Final = 1024 * 1024
"""Bytes: a settings file that is larger is something else."""

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _Refused(ValueError):
    """What stands there is not what a settings file can be."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where the settings are; `path` None: nowhere. `warnings`: places that could not be looked at."""

    path: str | None
    warnings: tuple[str, ...] = ()


def find(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Found:
    """Return the file that is asked for, else $TURNKEEPER_SETTINGS, ./settings.toml, or the user's.

    A file that was named is returned whether it is there or not. An empty variable names none.
    """
    if path is not None:
        return Found(os.fspath(path))
    if environ.get(NAMED_BY):
        return Found(environ[NAMED_BY])
    warnings = []
    for place in ("settings.toml", _users_file()):
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            # Somebody else's home folder, after a change of user: nothing of ours can be meant to be in there.
            warnings.append(f"{place} cannot be looked at: {error.strerror}")
            continue
        return Found(place, tuple(warnings))
    return Found(None, tuple(warnings))


def _users_file() -> str:
    from platformdirs import user_config_path

    return str(Path(user_config_path("turnkeeper", appauthor=False)) / "settings.toml")


def read_tables(path: str) -> dict[str, Any]:
    """Return the tables of a file; SettingsError where it cannot be read or is not TOML."""
    try:
        content = _read(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise SettingsError(path, (_unreadable(error),)) from None
    import tomllib  # most often there is no file

    try:
        return tomllib.loads(_text(content))
    except (_Refused, tomllib.TOMLDecodeError) as error:
        raise SettingsError(path, (_with_place(str(error), content),)) from None
    except RecursionError:
        raise SettingsError(path, ("is nested too deeply",)) from None
    except ValueError:  # Python reads no number of more than 4300 digits
        raise SettingsError(path, ("has a number that is too long",)) from None


def _read(path: str) -> bytes:
    # Non-blocking: a FIFO without a writer is opened at once, and then refused.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
            raise _Refused(f"is {kind}, not a file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise _Refused(f"is larger than {LARGEST // 1024} KiB: that is no settings file")
    return content


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; `turnkeeper init` writes one"
    if isinstance(error, _Refused):
        return str(error)
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Refused("needs UTF-8, got UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        found = content[error.start]
        raise _Refused(f"needs UTF-8, got the byte 0x{found:02x} (at line {line}, column {column})") from None


def _with_place(message: str, content: bytes) -> str:
    """Return tomllib's message with its place in front: `line 3, column 7: ...`."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if place is not None:
        return f"line {place[1]}, column {place[2]}: {message[: place.start()]}"
    if message.endswith(" (at end of document)"):
        rows = content.decode("utf-8-sig").split("\n")
        return f"line {len(rows)}, column {len(rows[-1]) + 1}: {message.removesuffix(' (at end of document)')}"
    return message
