"""How much memory the machine, or the cgroup that holds us, can still give."""

from pathlib import Path
from typing import Final

_KIB: Final = 1024
_NO_LIMIT: Final = 1 << 60
"""cgroup v1 writes a number of this size where there is no limit."""


def available_memory() -> int:
    """Return the bytes that can be had without swapping: the least that any level above this process allows.

    Pages of the file cache that can be dropped count as available.
    """
    least = _of_machine()
    for group in _groups():
        available = _of_group(group)
        if available is not None:
            least = min(least, available)
    return least


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # no /proc: nobody knows, and a run is not refused for that
        return _NO_LIMIT
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * _KIB
    return _NO_LIMIT


def _groups() -> list[Path]:
    """Return the folders of this process's memory cgroup and of those above it."""
    groups: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return groups
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root = Path("/sys/fs/cgroup")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
        else:
            continue
        folder = root / path.lstrip("/")
        # Inside a container the path is the host's, and our group stands at the root.
        for group in (folder, *folder.parents, root):
            if group.is_relative_to(root) and group not in groups:
                groups.append(group)
    return groups


def _of_group(group: Path) -> int | None:
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            limit_text = (group / most).read_text(encoding="ascii").strip()
            limit = _NO_LIMIT if limit_text == "max" else int(limit_text)
            usage = int((group / used).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        return None if limit >= _NO_LIMIT else max(0, limit - usage + _droppable(group))
    return None


def _droppable(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    stat = dict(line.split(" ", 1) for line in lines)
    # In cgroup v1 the usage is that of the groups below too, and so is the total.
    return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)
