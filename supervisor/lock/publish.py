"""A lock file comes into being whole: it is flocked and written before it has a name."""

import contextlib
import errno
import fcntl
import os

from supervisor.lock.lock_file import Place, look

_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_NO_ANONYMOUS_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


def publish(place: Place, content: bytes, nonce: str, mode: int = 0o644, *, by_name: bool = False) -> int | None:
    """Make the file, whole and under `flock`; return its descriptor, or None if there is a file of that name.

    Raises OSError, and leaves nothing behind then.
    """
    draft = Draft(place, nonce, mode, by_name=by_name)
    try:
        draft.write(content)
        return draft.descriptor if draft.link() else None
    finally:
        draft.discard()


class Draft:
    """A file that others do not see yet: under `flock`, to be written, then linked to its name.

    Its descriptor is the caller's once it is linked; else `discard` closes it. Where no file can be made without a name
    (or `by_name`), it has one in passing: killed then, it leaves a file `.turnkeeper-*`. Each call may raise OSError.
    """

    def __init__(self, place: Place, nonce: str, mode: int = 0o644, *, by_name: bool = False) -> None:
        self.place = place
        self._passing = ""
        made = None if by_name else _make_unnamed(place, mode)
        if made is None:
            self._passing = f".turnkeeper-{nonce}"
            made = os.open(self._passing, _NEW | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=place.folder)
        self.descriptor = made
        self._linked = False
        try:
            if os.fstat(self.descriptor).st_mode & 0o777 != mode:
                os.fchmod(self.descriptor, mode)  # OpenClaw takes away a lock that it cannot read
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.discard()
            raise

    def write(self, content: bytes) -> None:
        """Write all that it says."""
        rest = content
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def link(self) -> bool:
        """Give it its name; False if there is a file of that name. Raises Failure if that is no plain file."""
        source = self._passing or f"/proc/self/fd/{self.descriptor}"
        try:
            # src_dir_fd: without it, Python takes a call that does not follow the link in /proc
            os.link(source, self.place.name, src_dir_fd=self.place.folder, dst_dir_fd=self.place.folder)
        except FileExistsError:
            look(self.place)
            return False
        self._linked = True
        return True

    def discard(self) -> None:
        """Drop what is not needed any more: the passing name, and the descriptor if it was not linked."""
        if self._passing:
            with contextlib.suppress(OSError):
                os.unlink(self._passing, dir_fd=self.place.folder)
            self._passing = ""
        if not self._linked:
            os.close(self.descriptor)


def _make_unnamed(place: Place, mode: int) -> int | None:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=place.folder)
    except OSError as error:
        if error.errno in _NO_ANONYMOUS_FILES:
            return None
        raise
