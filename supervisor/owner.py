"""Which process is that, and is it dead? Facts from /proc; nothing here waits, signals or remembers a verdict.

Death is only ever proved: what cannot be seen is unknown, and a process that may not be signalled is not dead.
"""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from policies.policy import Pids
from supervisor import proc
from supervisor.cgroup import Cgroup, cgroup_of

# The inodes of the namespaces that a kernel starts with (include/linux/proc_ns.h).
INITIAL_PID_NAMESPACE = 0xEFFFFFFC
_INITIAL_TIME_NAMESPACE = 0xEFFFFFFA

_LONGEST_DESCENT = 10_000


@dataclass(frozen=True, slots=True)
class Owner:
    """What a process writes where it leaves its name.

    Attributes:
        pid: as it sees itself, in its own pid namespace.
        starttime: clock ticks after boot, field 22 of /proc/<pid>/stat; None without a /proc that shows it.
        boot_id: names this boot of the kernel; the same in every container. Empty if it cannot be read.
        host: the host name.
        pid_namespace: its inode; 0 if it cannot be read. Recycled: only with `init_start` does it name one.
        init_start: the start time of that namespace's first process, where it can be seen.
        cgroup: its own at its start; None where it has none of version 2, or that cannot be seen.
    """

    pid: int
    starttime: int | None
    boot_id: str
    host: str
    pid_namespace: int
    init_start: int | None
    cgroup: Cgroup | None


class RecordedTree(NamedTuple):
    """What is written down of a tree before its command starts, for whoever must stop it without having started it.

    Attributes:
        pid: the warden's; `starttime`: in clock ticks after boot.
        life: the warden's life file; None where there is none, and then nothing can be proved of it.
    """

    pid: int
    starttime: int
    life: Path | None


@functools.cache
def this_process() -> Owner:
    """Return the facts about the calling process; read once, and again after a fork."""
    own = proc.stat_of("self")
    return Owner(
        pid=os.getpid(),
        starttime=None if own is None else own.starttime,
        boot_id=proc.read("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip(),
        host=os.uname().nodename,
        pid_namespace=proc.namespace("self", "pid"),
        init_start=_init_start(),
        cgroup=cgroup_of("self"),
    )


@functools.cache
def in_initial_pid_namespace() -> bool:
    """Tell whether every process of this kernel is to be seen from here, those of all containers included."""
    return (
        proc.namespace("self", "pid") == INITIAL_PID_NAMESPACE
        and _init_start() is not None
        and not _proc_hides_processes()
    )


@functools.cache
def in_initial_time_namespace() -> bool:
    """Tell whether this process sees the time since boot as the kernel does."""
    return not os.path.lexists("/proc/self/ns/time") or proc.namespace("self", "time") == _INITIAL_TIME_NAMESPACE


def starttime_of(pid: int) -> int | None:
    """Return when a process of this namespace was started, in clock ticks after boot; None: it is gone."""
    stat = proc.stat_of(pid)
    return None if stat is None else stat.starttime


def foreign_alive(pid: int, starttime: int | None, pids: Pids) -> bool | None:
    """Tell whether the process lives that wrote `pid` and `starttime` as it saw them itself. None: cannot be judged.

    From the initial pid namespace the answer is exact wherever on this machine it ran. Elsewhere its pid is looked up
    only where `pids` says that such pids are of our own namespace: `ours` says so, `auto` does when an OpenClaw gateway
    is to be seen there. `unknown` judges nothing, anywhere. Not promised: an answer about another machine's process, or
    one in a virtual machine of its own: set `unknown` for a folder shared with such.
    May read all of /proc: call it off the loop.
    """
    if pids is Pids.UNKNOWN:
        return None
    try:
        if not _proc_is_ours() or not _own_time_is_common():
            return None
        if in_initial_pid_namespace():
            return _alive_anywhere(pid, starttime)
        if pids is Pids.OURS or gateway_visible():
            return _alive_here(pid, starttime)
    except OSError:  # hidden, or no descriptor left to look with
        return None
    return None


def is_ancestor(pid: int, starttime: int | None) -> bool:
    """Tell whether the process with this pid and start time is a parent of this one, or a parent's parent, and so on.

    False also where that cannot be seen.
    """
    return any((process, stat.starttime) == (pid, starttime) for process, stat in _ascent(os.getppid()))


def is_below(pid: int, starttime: int | None, above: int) -> bool:
    """Tell whether the process with this pid and start time lives below another one; False where that is not seen."""
    line = _ascent(pid)
    first = next(line, None)
    return first is not None and first[1].starttime == starttime and any(process == above for process, _ in line)


def is_child(pid: int, starttime: int, parent: int) -> bool:
    """Tell whether the process with this pid and start time is a child of another one; False where it is not seen."""
    first = next(_ascent(pid), None)
    return first is not None and (first[1].starttime, first[1].parent) == (starttime, parent)


def _ascent(process: int) -> Iterator[tuple[int, proc.Stat]]:
    """Yield a process, its parent, that one's parent, and so on, as far as they can be seen."""
    for _ in range(_LONGEST_DESCENT):
        try:
            stat = proc.stat_of(process) if process > 0 else None
        except OSError:  # hidden
            return
        if stat is None:
            return
        yield process, stat
        process = stat.parent


def gateway_visible() -> bool:
    """Tell whether an OpenClaw gateway is among the processes of our pid namespace.

    One in a container below ours is not: the pids that it writes are its container's.
    """
    mine = os.getpid()
    return any(
        _is_gateway(proc.arguments_of(pid)) and _is_of_our_namespace(pid) for pid in proc.processes() if pid != mine
    )


def _alive_anywhere(pid: int, starttime: int | None) -> bool | None:
    # First by start time alone: one short read for each process settles it while the holder lives.
    for process in proc.processes():
        stat = proc.stat_of(process)
        if stat and stat.starttime == starttime and not stat.is_dead and pid in proc.pids_on_each_level(process):
            return True
    # No such process. One of that pid in another time namespace may still be it: it saw another start time.
    verdicts = [
        _is_holder(process, starttime) for process in proc.processes() if pid in proc.pids_on_each_level(process)
    ]
    return True if True in verdicts else None if None in verdicts else False


def _alive_here(pid: int, starttime: int | None) -> bool | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False  # hidepid hides a process from /proc, never from kill
    except PermissionError:
        pass
    return _is_holder(pid, starttime)


def _is_holder(process: int, starttime: int | None) -> bool | None:
    """Tell whether a process whose pid is right is the one that started at `starttime`."""
    stat = proc.stat_of(process)
    if stat is None:
        return None  # hidden, or gone since: the next look will tell
    if stat.is_dead:
        return False
    if starttime is None:
        return None
    if stat.starttime == starttime:
        return True
    return False if proc.boot_offset(process) == proc.boot_offset("self") else None


def _init_start() -> int | None:
    try:
        stat = proc.stat_of(1) if _proc_is_ours() else None
    except PermissionError:  # hidepid
        return None
    return None if stat is None else stat.starttime


def _is_of_our_namespace(process: int) -> bool:
    try:
        return len(proc.pids_on_each_level(process)) == 1  # this /proc counts from our own level downwards
    except PermissionError:
        return False


@functools.cache
def _own_time_is_common() -> bool:
    # Field 22 is shifted in another time namespace, for whoever reads it there.
    return in_initial_time_namespace() or proc.namespace("self", "time") == proc.namespace(1, "time") != 0


@functools.cache
def _proc_is_ours() -> bool:
    # A new pid namespace may still have its parent's /proc, in which every pid means somebody else.
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except FileNotFoundError:
        return False


def _proc_hides_processes() -> bool:
    mounts = (line.split() for line in proc.read("/proc/self/mountinfo").splitlines())
    return any(fields[4] == b"/proc" and b"hidepid=" in fields[-1] for fields in mounts)


def _is_gateway(arguments: list[str]) -> bool:
    """Tell whether a process is OpenClaw by OpenClaw's own rule, and its gateway rather than a command of it.

    A command is no witness: we may have started it here ourselves, while the gateway is in another container.
    """
    names = [argument.rpartition("/")[2] for argument in arguments]
    if names[0] == "openclaw-gateway":
        return True
    is_openclaw = any(name in ("openclaw", "openclaw.mjs") for name in names) or any(
        argument.endswith(("dist/index.js", "dist/entry.js")) for argument in arguments
    )
    return is_openclaw and "gateway" in arguments


def _forget() -> None:
    facts = (
        this_process, in_initial_pid_namespace, in_initial_time_namespace, _own_time_is_common, _proc_is_ours,
    )  # fmt: skip
    for fact in facts:
        fact.cache_clear()


os.register_at_fork(after_in_child=_forget)
