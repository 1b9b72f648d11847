"""The seam between an attempt and the processes that carry it out."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from supervisor.errors import CommandFailed
from supervisor.lock.life_file import Death, Exited
from supervisor.owner import RecordedTree


@dataclass(frozen=True, slots=True)
class Program:
    """What is run. Text stands for bytes as the file system's does: surrogates are bytes that are no UTF-8.

    Attributes:
        argv: the command and its arguments; the command is looked for in `env`'s PATH, if it has no slash.
        env: the whole environment.
        cwd: where it starts; a relative path is seen from this process. None: where this process is.
        max_rss_bytes: how much memory the tree may hold at once before `over_memory` says so. Pages that processes
            share count for each.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None
    max_rss_bytes: int | None = None


class Streams(NamedTuple):
    """Descriptors that become the command's. They stay the caller's, who may close them once the tree is parked."""

    stdin: int
    stdout: int
    stderr: int


class LockWanted(NamedTuple):
    """The lock file that the tree is to hold: `<path>.lock`. `max_hold_s` tells OpenClaw how long to believe in it."""

    path: Path
    max_hold_s: float


class Started(NamedTuple):
    """The command itself: its pid, and its start time in clock ticks after boot; None where /proc does not show it."""

    pid: int
    starttime: int | None


class TreeGone(NamedTuple):
    """The proof that no process of the tree is left, but for what it was told to leave.

    Attributes:
        killed: how many processes were signalled, and are gone; the command itself is one of them.
        left: what lives on, as `leave` said that it may.
        steps: what was done, for the receipt.
        seconds: since it was told to end.
    """

    killed: int
    left: tuple[str, ...]
    steps: tuple[str, ...]
    seconds: float


class TreeUnknown(NamedTuple):
    """The warden was killed: nothing says any more whether the tree lives. `alive` names, for a person, what may."""

    alive: tuple[str, ...]
    seconds: float


class NotStarted(CommandFailed):
    """The command could not be started. `exit_code` is what a shell would exit with: 127 or 126, else None."""


class Tree(Protocol):
    """One attempt's tree of processes. Parked at first: nothing of the command runs.

    Its calls that wait may be cancelled, and called again: what they wait for goes on. Who parked it awaits `gone` in
    the end, or calls `abandon`.
    """

    @property
    def recorded(self) -> RecordedTree:
        """The warden, for the attempt's row."""
        ...

    @property
    def lock_path(self) -> Path | None:
        """The lock file that is held in the tree's name; its warden removes it when the tree is gone."""
        ...

    @property
    def over_memory(self) -> "asyncio.Future[int]":
        """Done once the tree holds more memory than it may: how many bytes. Never, where nothing was said or passed."""
        ...

    async def go(self, program: Program) -> Started:
        """Start the command; return which process it is. Raises NotStarted, and the tree is then over; once only."""
        ...

    async def exited(self) -> Exited:
        """Wait for the end of the command itself; what it started may live on. Raises Failure if that is never seen."""
        ...

    def stop(self, grace_s: float) -> None:
        """Ask every process to end, and kill what is left after the grace. A second call can only hasten that."""
        ...

    def hasten(self) -> None:
        """Skip the rest of the grace."""
        ...

    def leave(self) -> None:
        """End without stopping what the command has left. Only once it has exited: until then, the warden waits."""
        ...

    def dismiss(self) -> None:
        """Let a parked tree go that was never told to go."""
        ...

    async def gone(self) -> TreeGone | TreeUnknown:
        """Wait until the tree is proved gone, and its lock file with it, or until nobody can tell any more.

        Without a bound: a process that may not be signalled is waited for.
        """
        ...

    def forget(self) -> None:
        """Remove the life file, as soon as the tree is proved gone. Of one that is unknown it stays for others."""
        ...

    def abandon(self) -> None:
        """Let go of it unseen: its warden stops it without grace, as if this process had died."""
        ...


class Launcher(Protocol):
    """How the engine starts trees, and deals with those that others started."""

    async def park(self, streams: Streams, lock: LockWanted | None = None) -> Tree | None:
        """Make a tree ready, without its command. None: somebody has the lock, and nothing was started.

        Raises Failure: invalid for a lock that cannot be had at that path, error for what the machine refuses.
        """
        ...

    def stop_tree(self, recorded: RecordedTree) -> bool:
        """Ask a recorded tree's warden to stop it without grace. False: there is no such process, or it may not be."""
        ...

    def tree_gone(self, recorded: RecordedTree, renewed_at: float | None = None) -> tuple[Death, Exited]:
        """Tell whether a recorded tree is gone, and how its command ended.

        `renewed_at`: when its supervisor last said that it lives, in seconds of CLOCK_BOOTTIME. Without it, the trees
        of a container that was killed and started again stay unknown.
        """
        ...
