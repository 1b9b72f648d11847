"""Every lock file below a folder: who has it, and does that one live? Those of the dead are removed, where asked for.

alive    its holder is seen to live
dead     its holder is proved dead
unknown  it names its holder, and nothing proves that one dead: the advice says what to look at
nobody   it is no lock that could be judged: not JSON, empty, a link, a folder, some other program's
"""

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from policies.policy import Pids
from supervisor.clock import Clock, iso_utc
from supervisor.errors import Failure
from supervisor.lock import lock_file
from supervisor.lock.contents import Contents
from supervisor.lock.lock_file import Place
from supervisor.lock.open_lock import OpenLock, open_lock
from supervisor.os_error import reason_of

_SUFFIX: Final = ".lock"
_LOOKS: Final = 50
_LOOK_AGAIN_S: Final = 0.01
_NOT_ENTERED: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENOENT})  # a link, or gone by now


class State(StrEnum):
    """What is known of a lock's holder; see above."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Found:
    """One lock file.

    Attributes:
        holder: for a person; empty where it names none.
        owner: `process` or `warden` of Turnkeeper's, or `foreign`, such as OpenClaw's; None where it names none.
        pid: as its holder sees itself.
        since_unix: when it was taken by its own word, else last written; None where it could not be read.
        proof: of a dead one: what says so.
        advice: why it is as it is where there is no proof, or what to do about it.
        removed: it was reclaimed.
    """

    path: Path
    state: State
    advice: str
    holder: str = ""
    owner: str | None = None
    pid: int | None = None
    since_unix: float | None = None
    proof: str = ""
    removed: bool = False

    def as_json(self, now_unix: float) -> dict[str, Any]:
        """Return it as plain values; `age_s` is None where nothing says since when it is held."""
        since = self.since_unix
        return {
            "path": str(self.path),
            "state": self.state.value,
            "owner": self.owner,
            "pid": self.pid,
            "holder": self.holder,
            "held_since": None if since is None else _iso(since),
            "age_s": None if since is None else round(max(0.0, now_unix - since), 3),
            "proof": self.proof,
            "advice": self.advice,
            "removed": self.removed,
        }


async def survey(
    folder: Path, pids: Pids, clock: Clock, on_unread: Callable[[OSError], None], *, reclaim: bool
) -> AsyncIterator[Found]:
    """Yield each lock file below a folder, links to other folders not followed; tell `on_unread` what cannot be read.

    Raises OSError where the folder itself cannot be read. A file that goes meanwhile is not among them. Reads on the
    loop: for a command that does nothing else.
    """
    for where, folders, files, opened in os.fwalk(_readable(folder), onerror=on_unread):
        names = sorted((*folders, *files))
        folders[:] = _to_enter(opened, where, sorted(folders), on_unread)
        for name in names:
            if name.endswith(_SUFFIX):
                found = await _looked_at(Place(opened, name, Path(where, name)), pids, clock, reclaim=reclaim)
                if found is not None:
                    yield found


def _readable(folder: Path) -> str:
    """Return the real path of a folder: a walk takes no link for one. Raises OSError where it cannot be read."""
    path = os.path.realpath(folder)
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    return path


def _to_enter(opened: int, where: str, folders: list[str], on_unread: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the folders that the walk goes on to; here it is known of one that cannot be read where it is."""
    for name in folders:
        try:
            os.close(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened))
            yield name
        except OSError as error:
            if error.errno not in _NOT_ENTERED:
                on_unread(OSError(error.errno, error.strerror, os.path.join(where, name)))


async def _looked_at(place: Place, pids: Pids, clock: Clock, *, reclaim: bool) -> Found | None:
    """Return what a file is, or became; None: it is gone. One that changes hands is looked at again, for a while."""
    for _ in range(_LOOKS):
        try:
            if lock_file.look(place) is None:
                return None
            async with open_lock(place, pids) as lock:
                found = _found(lock)
                if found.state is not State.DEAD or not reclaim:
                    return found
                reclaimed = _reclaimed(lock, found)
            if reclaimed is not None:
                return reclaimed
        except FileNotFoundError:
            return None
        except Failure as failure:  # a link, a folder, a FIFO
            return Found(place.path, State.NOBODY, failure.message)
        except OSError as error:
            if error.errno != errno.ELOOP:  # then it has just become a link
                return Found(place.path, State.UNKNOWN, f"it cannot be read: {reason_of(error)}")
        await clock.sleep(_LOOK_AGAIN_S)
    return Found(place.path, State.UNKNOWN, "it changes hands, or others are removing it: look again")


def _reclaimed(lock: OpenLock, dead: Found) -> Found | None:
    """Remove it; None: it is another's by now, or another process is at it."""
    try:
        return replace(dead, advice="", removed=True) if lock.reclaim() else None
    except OSError as error:
        return replace(dead, advice=f"it may not be removed from here: {reason_of(error)}")


def _found(lock: OpenLock) -> Found:
    path, by, since = lock.place.path, lock.holder, lock.since_unix()
    if not isinstance(lock.parsed, Contents):
        advice = f"{lock.parsed}; if it is a session's, and nothing uses that session, remove it"
        return Found(path, State.NOBODY, advice, since_unix=since)
    ours = lock.parsed.ours
    owner = "foreign" if ours is None else ours.owned_by.value
    state = {True: State.ALIVE, False: State.DEAD, None: State.UNKNOWN}[by.alive]
    return Found(path, state, by.advice, by.name, owner, by.pid, since, by.proof)


def _iso(unix: float) -> str | None:
    try:
        return iso_utc(unix)
    except (ValueError, OverflowError):  # a file may have been touched into the year 10000, and claims are free
        return None
