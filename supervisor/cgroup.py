"""The cgroup (version 2) that a process is in: a directory that the kernel keeps while a process is in it, or below it.

A unit that is stopped, or out of memory, may have all its processes killed at once: its directory, once it is gone, is
the proof. Only from within the same cgroup namespace does a path mean the same directory, and does a missing one mean
anything.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ROOT_INODE = 1


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A directory of cgroup version 2.

    Attributes:
        path: as /proc/self/cgroup names it, from the root of its namespace.
        inode: no two directories have the same one between two boots.
        namespace: the inode of the cgroup namespace in which it is called so; not recycled while a process is in it.
    """

    path: str
    inode: int
    namespace: int

    @property
    def is_root(self) -> bool:
        """Tell whether it is the one that all are in where nobody uses cgroups."""
        return self.inode == _ROOT_INODE


def cgroup_of(process: int | str) -> Cgroup | None:
    """Return that of a process of our namespaces, read now; None where it has none, or the directory cannot be seen."""
    try:
        path = next((line[3:] for line in _lines(process, "cgroup") if line.startswith("0::/")), "")
        facts = _look(path) if path else None
        return None if facts is None else Cgroup(path, facts.st_ino, _namespace())
    except OSError:
        return None


def is_gone(cgroup: Cgroup) -> bool:
    """Tell whether its directory is proved gone, and so nobody is left in it; False where that cannot be seen.

    Not promised: that nobody lives who was moved out of it before.
    """
    try:
        if cgroup.namespace != _namespace():
            return False
        facts = _look(cgroup.path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return facts is not None and facts.st_ino != cgroup.inode  # there is another one of its name


def _look(path: str) -> os.stat_result | None:
    """Return the facts of a directory; None where no mount shows it. Raises FileNotFoundError if the mount has none."""
    for point, root, device in _mounts():
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            continue
        try:
            mount = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # hidden under another mount
            continue
        try:
            if os.fstat(mount).st_dev == device:
                return os.stat(path[len(root.rstrip("/")) :].lstrip("/") or ".", dir_fd=mount, follow_symlinks=False)
        finally:
            os.close(mount)
    return None


def _mounts() -> Iterator[tuple[str, str, int]]:
    """Yield where the file system of cgroup version 2 is mounted, which directory of it, and its device."""
    for line in _lines("self", "mountinfo"):
        fields = line.split(" ")
        if fields[fields.index("-", 6) + 1] == "cgroup2":
            major, _, minor = fields[2].partition(":")
            yield _unescaped(fields[4]), _unescaped(fields[3]), os.makedev(int(major), int(minor))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lines(process: int | str, name: str) -> list[str]:
    with open(f"/proc/{process}/{name}", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read().split("\n")[:-1]


def _namespace() -> int:
    return os.stat("/proc/self/ns/cgroup").st_ino
