"""A lock file that this process holds, and what becomes of it in a forked child: there it is nobody's."""

import os
from pathlib import Path

from supervisor.lock import lock_file
from supervisor.lock.forking import FORKING, let_no_child_keep, may_be_kept
from supervisor.lock.lock_file import Place


class HeldFile:
    """A session lock or life file of this process, until its release. Make and release it on one thread."""

    __slots__ = ("_content", "_descriptor", "_place", "_released")

    def __init__(self, place: Place, descriptor: int, content: bytes) -> None:
        self._place = place
        self._descriptor = descriptor
        self._content = content
        self._released = ""
        let_no_child_keep(self)

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
        with FORKING:
            may_be_kept(self)
            os.close(self._descriptor)
            self._place.close()

    def let_go_in_child(self) -> None:
        """Let go of the descriptors, and leave the file and its flock to the parent process."""
        self._let_go(f"lock {self.path} is the parent process's: left alone")
