"""Life files: whether their owner lives, by the kernel's word, whatever pid namespace it is in.

An owner keeps its file under `flock` for life, and the kernel lets go when it dies; no pid is recycled into a file. A
process's own is here; those of wardens are made in `tree/files.py`. Their folder belongs to one machine.
"""

import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from supervisor.errors import Failure, StoreUnavailable
from supervisor.lock import contents, lock_file
from supervisor.lock.contents import OwnedBy
from supervisor.lock.forking import FORKING
from supervisor.lock.held_lock import HeldFile
from supervisor.lock.lock_file import Place
from supervisor.lock.proofs import proof_of_death
from supervisor.lock.publish import publish
from supervisor.state_folder import make_private


class Exited(NamedTuple):
    """How the command itself ended: by one of the two. Both None: it never ran, or its end was not seen."""

    code: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"died by {_name(self.signal)}"
        return "its end was not seen" if self.code is None else f"exited with status {self.code}"


NOT_SEEN = Exited(None, None)


class Death(Enum):
    """What a life file says of its owner: a process, or a tree under its warden. Unknown: nothing is proved."""

    GONE = auto()
    ALIVE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class RecordedOwner:
    """An owner as the store has written it down.

    Attributes:
        life: its life file.
        renewed_at: when it last said that it lives, in seconds of CLOCK_BOOTTIME.
    """

    id: str
    life: Path
    renewed_at: float


class LifeFile:
    """That of this process, until `close`. A forked child has none of it. Make and close it on one thread."""

    def __init__(self, held: HeldFile) -> None:
        self._held = held

    @classmethod
    def make(cls, alive: Path, nonce: str, created_unix: float) -> "LifeFile":
        """Make `alive/<nonce>`, flocked and whole before it has that name. A missing folder is made, for us alone.

        Raises StoreUnavailable.
        """
        content = contents.payload(created_unix=created_unix, max_hold_s=0.0, nonce=nonce)
        place = held = None
        try:
            make_private(alive)
            with FORKING:
                place = _open(alive, nonce)
                descriptor = publish(place, content, nonce, mode=0o600)
                if descriptor is None:
                    raise FileExistsError(None, "there is a file of that name already")
                held = HeldFile(place, descriptor, content)
        except (OSError, Failure) as error:
            why = error.strerror if isinstance(error, OSError) else error.message
            message = f"life file {alive / nonce} cannot be made: {why}; keep the state in another folder"
            raise StoreUnavailable(message) from error
        finally:
            if place is not None and held is None:
                place.close()
        return cls(held)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._held.path

    def close(self) -> None:
        """Remove it, and let go; a second call changes nothing. One that may not be removed is free from then on."""
        self._held.release()


def owner_death(recorded: RecordedOwner) -> Death:
    """Tell whether a process that has a life file is dead. A file that is missing or unreadable proves nothing."""
    return read_life(recorded.life, recorded.renewed_at)[0]


def read_life(life: Path, renewed_at: float | None = None) -> tuple[Death, Exited]:
    """Tell by a life file whether its owner is gone; of a warden's, also how the command ended.

    Held: alive, however silent. Free: gone if it is a process's, if it says so, or if there is another proof: that of a
    container that was started again needs `renewed_at`, the owner's last sign of life in seconds of CLOCK_BOOTTIME.
    Anything else is unknown, and so is a file that is missing, or not to be read.
    """
    try:
        descriptor = _open_to_read(life)
    except OSError:
        return Death.UNKNOWN, NOT_SEEN
    try:
        return _judge(descriptor, renewed_at)
    except OSError:
        return Death.UNKNOWN, NOT_SEEN
    finally:
        os.close(descriptor)


def _judge(descriptor: int, renewed_at: float | None) -> tuple[Death, Exited]:
    if lock_file.is_flocked(descriptor):
        return Death.ALIVE, NOT_SEEN
    parsed = contents.parse(_content(descriptor))  # after its flock was seen free: a warden's last word comes before
    if isinstance(parsed, str) or parsed.ours is None:
        return Death.UNKNOWN, NOT_SEEN
    ours = parsed.ours
    if ours.gone:
        return Death.GONE, Exited(ours.exit_code, ours.signal)
    is_gone = ours.owned_by is OwnedBy.PROCESS or proof_of_death(ours, renewed_at)
    return (Death.GONE if is_gone else Death.UNKNOWN), NOT_SEEN


def sweep(alive: Path, keep: Callable[[Path], bool], now_unix: float, older_than_s: float = 3600.0) -> int:
    """Remove the life files of owners that are proved gone; return how many. Those that may live stay, for ever.

    A file stays, too, that was last written less than `older_than_s` ago, or of which `keep` says that its word is
    still wanted. Any number of processes may sweep at once; one that another is just looking at may stay until the
    next time. OSError where the folder may not be read.
    """
    try:
        found = [alive / name for name in os.listdir(alive)]
    except FileNotFoundError:
        return 0
    removed = 0
    for life in found:
        with suppress(OSError):  # another sweeper was quicker, or it may not be removed
            is_old = now_unix - os.lstat(life).st_mtime > older_than_s
            removed += is_old and not keep(life) and _remove_if_gone(life)
    return removed


def _remove_if_gone(life: Path) -> bool:
    descriptor = _open_to_read(life)
    try:
        if _judge(descriptor, None)[0] is not Death.GONE:
            return False
        place = _open(life.parent, life.name)
        try:
            return lock_file.reclaim(place, descriptor, _content(descriptor), under=descriptor)
        finally:
            place.close()
    finally:
        os.close(descriptor)


def _open(folder: Path, name: str) -> Place:
    return Place(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name, folder / name)


def _open_to_read(life: Path) -> int:
    return os.open(life, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, contents.MOST_BYTES + 1, 0)


def _name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last has no name
        return f"signal {number}"
