"""What /proc says of a process, read and parsed; of one that has ended, nothing.

What may not be read raises OSError, unless it says otherwise: that proves nothing.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/<pid>/stat says. `starttime`: clock ticks after boot."""

    state: str
    parent: int
    threads: int
    starttime: int

    @property
    def is_dead(self) -> bool:
        # The first thread of a living process may have ended: then it shows as a zombie that has other threads.
        return self.state in "ZX" and self.threads <= 1


def processes() -> Iterator[int]:
    """Yield the pid of each process that is to be seen."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def stat_of(process: int | str) -> Stat | None:
    """Return its facts; None: it is gone."""
    raw = read(f"/proc/{process}/stat")
    if not raw:
        return None
    fields = raw[raw.rindex(b")") + 2 :].split()  # the name before it may hold anything, ")" too
    return Stat(fields[0].decode(), parent=int(fields[1]), threads=int(fields[17]), starttime=int(fields[19]))


def pids_on_each_level(process: int) -> list[int]:
    """Return its pid in each pid namespace, from this /proc's own downwards."""
    for line in read(f"/proc/{process}/status").splitlines():
        if line.startswith(b"NSpid:"):
            return [int(pid) for pid in line.split()[1:]]
    return []


def boot_offset(process: int | str) -> bytes:
    """Return by how much a process sees the time since boot shifted; empty on a kernel without time namespaces."""
    lines = read(f"/proc/{process}/timens_offsets").splitlines()
    return b" ".join(next((line for line in lines if line.startswith(b"boottime")), b"").split())


def namespace(process: int | str, kind: str) -> int:
    """Return the inode of its namespace of that kind; 0 if that cannot be seen."""
    try:
        return os.stat(f"/proc/{process}/ns/{kind}").st_ino
    except (FileNotFoundError, PermissionError):
        return 0


def arguments_of(process: int) -> list[str]:
    """Return its command line; of one that may not be read, or has none, one empty argument."""
    try:
        raw = read(f"/proc/{process}/cmdline")
    except PermissionError:
        raw = b""
    return raw.decode("utf-8", "surrogateescape").rstrip("\0").split("\0")


def read(path: str) -> bytes:
    """Return what a file of /proc says; empty if there is none, or its process has ended.

    Any other error is raised: a file that may not be read, or not just now, is no proof of anything.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (FileNotFoundError, ProcessLookupError):
        return b""
