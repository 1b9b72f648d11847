"""`--report`: what a run came to, as one JSON object in a file that is there whole or not at all."""

import errno
import json
import os
import re
import stat
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from supervisor.clock import SystemClock

if TYPE_CHECKING:
    from supervisor.report import RunReport


_MOST_LINKS: Final = 40


class CannotCreate(Exception):
    """A file that was asked for cannot be made; nothing was started."""


class ReportFile:
    """Made before the run, so that a run whose report could not be written does not start; named once it is whole.

    Where the file system can have one it is a file without a name until then: who is killed leaves nothing. Elsewhere
    it has a passing name beside the report's.

    Raises CannotCreate. A path of None: no report is wanted. What is no plain file (a device, a FIFO), and one of our
    own descriptors (/dev/stderr), is written to as it is.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._passing = self._real = ""
        self._unnamed: int | None = None

    def __enter__(self) -> Self:
        if self._path is None or self._path_is_special():
            return self
        try:
            self._real = os.path.realpath(self._path)  # a symbolic link stays, and the file that it names is written
            folder = os.path.dirname(self._real)
            self._passing = os.path.join(folder, f".turnkeeper-report.{SystemClock().token(8)}")
            made = self._unnamed = _unnamed_in(folder)
            if made is None:
                made = os.open(self._passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with suppress(OSError):  # one that is there keeps its mode
                os.fchmod(made, stat.S_IMODE(os.stat(self._real).st_mode))
            if self._unnamed is None:
                os.close(made)
        except (OSError, ValueError) as error:
            self._passing = ""
            raise self._cannot_create(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._unnamed is not None:
            os.close(self._unnamed)
        if self._passing:
            with suppress(OSError):  # it has its name, or its folder may not be written any more
                os.unlink(self._passing)

    def _path_is_special(self) -> bool:
        assert self._path is not None, "a report is wanted"
        try:
            mode = os.stat(self._path).st_mode
        except (OSError, ValueError) as error:
            if self._path and isinstance(error, FileNotFoundError):
                return False
            raise self._cannot_create(error) from None
        if stat.S_ISDIR(mode):
            raise CannotCreate(f"the report {self._path} cannot be written: it is a folder")
        return not stat.S_ISREG(mode) or _descriptor_of(self._path) is not None

    def _cannot_create(self, error: OSError | ValueError) -> CannotCreate:
        return CannotCreate(f"the report {self._path} cannot be written: {getattr(error, 'strerror', None) or error}")

    async def write(self, report: "RunReport") -> str:
        """Write it; return what went wrong, for a person, or nothing."""
        if self._path is None:
            return ""
        text = json.dumps(report.as_json(), indent=2) + "\n"
        try:
            if self._passing:
                await self._write_whole(text)
            else:
                _write_now(self._path, text.encode())
        except OSError as error:
            return f"the report {self._path} could not be written: {error.strerror}"
        return ""

    async def _write_whole(self, text: str) -> None:
        import aiofiles

        to = self._passing if self._unnamed is None else self._unnamed
        async with aiofiles.open(to, "w", encoding="ascii", closefd=self._unnamed is None) as file:
            await file.write(text)
        if self._unnamed is not None and self._is_named(self._unnamed):
            return
        try:
            os.replace(self._passing, self._real)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            async with aiofiles.open(self._real, "w", encoding="ascii") as file:  # mounted there: a container's
                await file.write(text)

    def _is_named(self, unnamed: int) -> bool:
        """Give it the report's name; False: that is taken, and it has its passing one, for a link replaces nothing."""
        source = f"/proc/self/fd/{unnamed}"
        try:
            os.link(source, self._real, src_dir_fd=unnamed)  # only with a folder, unused here, Python follows this link
        except FileExistsError:
            os.link(source, self._passing, src_dir_fd=unnamed)
            return False
        return True


def _unnamed_in(folder: str) -> int | None:
    """Open a file that has no name yet; None where there can be none, or it could not be given one later."""
    if not os.path.exists("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:  # the file system has none; or it is refused for a reason that one with a name meets, too
        return None


def _descriptor_of(path: str) -> int | None:
    """Return which of our descriptors a path names, such as /dev/stdout or /proc/self/fd/3; None: none."""
    for _ in range(_MOST_LINKS):
        named = re.fullmatch(rf"/proc/(?:self|{os.getpid()})/fd/(\d+)|/dev/fd/(\d+)", path)
        if named:
            return int(named[1] or named[2])
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return None
    return None


def _write_now(path: str, text: bytes) -> None:
    """Write to what is no file of its own. It must not make us wait: a FIFO without a reader is an error."""
    given = _descriptor_of(path)
    opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY) if given is None else os.dup(given)
    try:
        while text:
            text = text[os.write(opened, text) :]
    finally:
        os.close(opened)
