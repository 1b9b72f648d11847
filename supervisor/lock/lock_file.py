"""One lock file, and what is done with it: look, read, remove it if it is still the same.

Whoever takes a lock of ours keeps its file open under `flock` for life. The kernel lets go of that when the holder
dies, so the file says by itself whether its holder lives.
"""

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.lock.contents import MOST_BYTES
from supervisor.os_error import reason_of

# What the caller can mend by naming another path; anything else is the machine's trouble, and may pass.
_CALLERS_MISTAKE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL}
)
_NO_NAMES = ("", ".", "..")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lock file goes: an open folder, and a name in it. `path` is for people, with the real folder."""

    folder: int
    name: str
    path: Path

    def close(self) -> None:
        """Close the folder."""
        os.close(self.folder)


def real_path(transcript: Path) -> Path:
    """Return a transcript's path with its folder's real path, as OpenClaw does: two spellings are one lock.

    The name is left alone, also where it is a symbolic link. A path that cannot be resolved stays as it is:
    `open_place` will say what is wrong with it.
    """
    folder, name = os.path.split(transcript)
    if name in _NO_NAMES:
        return transcript
    try:
        return Path(os.path.realpath(folder), name)
    except (OSError, ValueError):
        return transcript


def open_place(transcript: Path) -> Place:
    """Open the folder that a session's lock file goes to: the transcript's real one. The transcript need not exist.

    Raises Failure (invalid) if there is no such folder, or it may not be read.
    """
    folder, name = os.path.split(os.fspath(transcript))
    if name in _NO_NAMES or not _can_be_asked_for(transcript):
        raise Failure(Kind.INVALID, f"{str(transcript)!r} cannot have a lock file: it is not the path of a file")
    name += ".lock"
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise failure(Path(folder, name), error) from error
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        real = os.path.realpath(folder)
    return Place(descriptor, name, Path(real, name))


def _can_be_asked_for(path: Path) -> bool:
    """Tell whether the operating system can be told this path: no NUL, nothing that is no text."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def failure(path: Path, error: OSError) -> Failure:
    """Return what an operating system's refusal means to the caller."""
    if error.errno == errno.ENOENT:
        return Failure(Kind.INVALID, f"lock {path} cannot be taken: its folder does not exist")
    return Failure(kind_of(error), f"lock {path} cannot be taken: {reason_of(error)}")


def kind_of(error: OSError) -> Kind:
    """Return invalid for a refusal to make a file that no second try changes, error for a full disk and the like."""
    return Kind.INVALID if error.errno in _CALLERS_MISTAKE else Kind.ERROR


def look(place: Place) -> os.stat_result | None:
    """Return the facts of the file in the lock's place; None if there is none.

    Raises Failure (invalid) if what is there is not a plain file. A symbolic link is not followed.
    """
    try:
        facts = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _must_be_plain(place.path, facts)
    return facts


def open_to_read(place: Place) -> Any:
    """Open the file in the lock's place off the loop, as an asynchronous context manager; `read` is bounded by you.

    Neither a link is followed nor a FIFO waited for.
    """

    def opener(_path: str, flags: int) -> int:
        flags |= os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place.name, flags, dir_fd=place.folder)
        try:
            _must_be_plain(place.path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    import aiofiles  # here: only a file that somebody else has is read

    return aiofiles.open(place.path, "rb", buffering=0, opener=opener)


def _must_be_plain(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO"}
        what = kinds.get(stat.S_IFMT(facts.st_mode), "a special file")
        raise Failure(Kind.INVALID, f"{path} is {what}, not a lock file: it is not touched; move it away")


def is_same(place: Place, descriptor: int, content: bytes) -> bool:
    """Tell whether the file of that name is the open one, by inode and by its bytes."""
    try:
        named = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino) and (
        os.pread(descriptor, MOST_BYTES + 1, 0) == content
    )


def remove_if_same(place: Place, descriptor: int, content: bytes) -> bool:
    """Remove the file if it is still the open one with these bytes; tell whether it was.

    The caller holds what keeps others from doing so at the same time: the file's own flock, or for a foreign file the
    folder's. Against OpenClaw, which takes neither, microseconds remain between look and removal.
    """
    if not is_same(place, descriptor, content):
        return False
    try:
        os.unlink(place.name, dir_fd=place.folder)
    except FileNotFoundError:
        return False
    return True


def reclaim(place: Place, descriptor: int, content: bytes, *, under: int) -> bool:
    """Remove a file whose holder was proved dead, under the flock of the descriptor `under`.

    False: another process is at it, or the file is another one by now: look again. Raises OSError if it may not be
    removed.
    """
    try:
        fcntl.flock(under, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return remove_if_same(place, descriptor, content)
    finally:
        fcntl.flock(under, fcntl.LOCK_UN)  # by word: a child forked meanwhile would keep it


def is_flocked(descriptor: int) -> bool:
    """Tell whether somebody keeps this file locked, and so lives. Shared: two who ask do not see each other."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
