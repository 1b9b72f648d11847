"""How often the kernel has killed for lack of memory, where this process's cgroup (v2) counts that."""

from pathlib import Path


def kernel_kills() -> int:
    """Return the count since the cgroup was made; 0 where nobody counts. Trees run in their supervisor's cgroup."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        here = next(line[3:] for line in groups if line.startswith("0::"))
        events = Path("/sys/fs/cgroup", here.lstrip("/"), "memory.events").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0
