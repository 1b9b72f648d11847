"""The files in a warden's name, the session's lock and its own life file, from their making until they have names.

Look; make them, nameless and under flock; start the warden with those descriptors; write them in its name; link them;
close ours, with no word to flock: it is the warden's alone from then on. Who removes them, and when: see `warden/`.
"""

import errno
import os
from pathlib import Path

from supervisor.errors import Failure
from supervisor.lock import lock_file
from supervisor.lock.contents import warden_payload
from supervisor.lock.forking import FORKING
from supervisor.lock.lock_file import Place
from supervisor.lock.publish import Draft
from supervisor.os_error import reason_of
from supervisor.state_folder import make_private
from supervisor.tree.contract import LockWanted
from supervisor.tree.warden.protocol import FIRST_FILE, ROOM_FOR_GONE_BYTES

Known = tuple[int, int, str, int, str]
"""What a warden knows of a file: its descriptor and its folder's, its name, where `gone` goes, when to remove it."""


class _File:
    def __init__(self, place: Place, remove: str, max_hold_s: float = 0.0) -> None:
        self.place = place
        self.remove = remove
        self.max_hold_s = max_hold_s
        self.draft: Draft | None = None
        self.content = b""
        self.is_linked = False

    def make(self, nonce: str, mode: int) -> None:
        try:
            self.draft = Draft(self.place, nonce, mode)
        except OSError as error:
            raise self.failure(error) from error

    def failure(self, error: OSError) -> Failure:
        if self.remove == "always":
            return lock_file.failure(self.place.path, error)
        return _no_life(self.place.path, error)

    def close(self) -> None:
        if self.draft is not None and not self.is_linked:
            self.draft.discard()
        elif self.draft is not None:
            os.close(self.draft.descriptor)
        self.place.close()

    def let_go_in_child(self) -> None:
        if self.draft is not None:
            os.close(self.draft.descriptor)
        self.place.close()


class Files:
    """Those of one tree. Made under FORKING, closed on every path. Its calls raise Failure."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._files: list[_File] = []
        self._is_open = True
        self.lock_path: Path | None = None
        self.life_path: Path | None = None

    def make_lock(self, wanted: LockWanted) -> bool:
        """Make the session's lock; False if somebody has it."""
        place = lock_file.open_place(wanted.path)
        self._files.append(_File(place, "always", wanted.max_hold_s))
        if lock_file.look(place) is not None:
            return False
        self._files[-1].make(self._nonce, 0o644)
        self.lock_path = place.path
        return True

    def make_life(self, alive: Path, *, keep: bool, prefix: str = "") -> None:
        """Make the life file, in a folder of its own that only we may read. `keep` it, even when this process dies."""
        path = alive / f"{prefix}{self._nonce}"
        try:
            make_private(alive)
            place = _open(path)
        except OSError as error:
            raise _no_life(path, error) from error
        self._files.append(_File(place, "never" if keep else "orphaned"))
        self._files[-1].make(self._nonce, 0o600)
        self.life_path = path

    def descriptors(self) -> list[int]:
        """Return what the warden is started with: each file, and its folder."""
        return [number for file in self._files if file.draft for number in (file.draft.descriptor, file.place.folder)]

    def write(self, pid: int, starttime: int, created_unix: float) -> tuple[Known, ...]:
        """Write each in the warden's name; return what it has to know of them."""
        known = []
        for number, file in enumerate(self._files):
            assert file.draft is not None, "it was made"
            file.content, gone_at = warden_payload(
                pid,
                starttime,
                created_unix=created_unix,
                max_hold_s=file.max_hold_s,
                nonce=self._nonce,
                room_bytes=ROOM_FOR_GONE_BYTES,
            )
            try:
                file.draft.write(file.content)
            except OSError as error:
                raise file.failure(error) from error
            descriptor = FIRST_FILE + 2 * number
            known.append((descriptor, descriptor + 1, file.place.name, gone_at, file.remove))
        return tuple(known)

    def link(self) -> bool:
        """Give each its name, the lock first; False if somebody has that by now."""
        for file in self._files:
            assert file.draft is not None, "it was made"
            try:
                file.is_linked = file.draft.link()
            except OSError as error:
                raise file.failure(error) from error
            if not file.is_linked:
                return False
        return True

    def close(self) -> None:
        """Close our descriptors; what was linked stays, and stays under the warden's flock."""
        with FORKING:
            if self._is_open:
                self._is_open = False
                for file in self._files:
                    file.close()

    def let_go_in_child(self) -> None:
        """Close what a forked child has got of them; a file that has no name yet may have one in passing: it stays."""
        if self._is_open:
            self._is_open = False
            for file in self._files:
                file.let_go_in_child()

    def reclaim(self) -> None:
        """Remove what a warden has left that was killed before it was told to go: nothing runs, as only we know."""
        for file in self._files:
            if file.is_linked:
                try:
                    _reclaim(file.place.path, file.content)
                except OSError:  # it may not be removed: then it stays what it is, of an unknown tree
                    continue


def _no_life(path: Path, error: OSError) -> Failure:
    elsewhere = "" if error.errno == errno.EMFILE else "; XDG_STATE_HOME names another place for it"
    return Failure(lock_file.kind_of(error), f"life file {path} cannot be made: {reason_of(error)}{elsewhere}")


def _open(path: Path) -> Place:
    return Place(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path.name, path)


def _reclaim(path: Path, content: bytes) -> None:
    place = _open(path)
    try:
        descriptor = os.open(path.name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.folder)
        try:
            lock_file.reclaim(place, descriptor, content, under=descriptor)
        finally:
            os.close(descriptor)
    finally:
        place.close()
