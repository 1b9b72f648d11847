"""A lock file that this process holds, and what becomes of it in a forked child: there it is nobody's."""

import os
import threading
from pathlib import Path

from supervisor.lock import lock_file
from supervisor.lock.lock_file import Place

FORKING = threading.RLock()
"""Held while this process forks, and from the making of a lock's descriptor until it is known here: no child of another
thread may get one that it does not know of, and keep the lock alive after us. A child lets go of all of them."""

_held: "set[HeldFile]" = set()


class HeldFile:
    """A session lock of this process, from its taking to its release. Make and release it on one thread."""

    __slots__ = ("_content", "_descriptor", "_place", "_released")

    def __init__(self, place: Place, descriptor: int, content: bytes) -> None:
        self._place = place
        self._descriptor = descriptor
        self._content = content
        self._released = ""
        _held.add(self)

    def __repr__(self) -> str:
        return f"<HeldFile {self.path}{' (' + self._released + ')' if self._released else ''}>"

    @property
    def path(self) -> Path:
        """Where the lock file is, with its real folder."""
        return self._place.path

    def release(self) -> str:
        """Remove the file, if it is still ours by inode and bytes, and let go. Returns a line for the receipt.

        Never raises for a file that is gone or another's, nor for one that may not be removed (on a file system that
        became read-only): the kernel then tells the next Turnkeeper that it is free. A second call changes nothing.
        """
        if not self._released:
            try:
                removed = lock_file.remove_if_same(self._place, self._descriptor, self._content)
                self._let_go(f"lock {self.path} released" if removed else self._not_ours())
            except OSError as error:
                self._let_go(f"lock {self.path} let go, but its file could not be removed: {error.strerror}")
        return self._released

    def _not_ours(self) -> str:
        return f"lock {self.path} was not ours any more: left alone"

    def _let_go(self, how: str) -> None:
        # The file goes before its flock: between the two it would look like a dead holder's, at worst.
        self._released = how
        _held.discard(self)
        os.close(self._descriptor)
        self._place.close()


def _let_go_in_child() -> None:
    for held in tuple(_held):
        held._let_go(f"lock {held.path} is the parent process's: left alone")
    FORKING.release()


os.register_at_fork(before=FORKING.acquire, after_in_parent=FORKING.release, after_in_child=_let_go_in_child)
