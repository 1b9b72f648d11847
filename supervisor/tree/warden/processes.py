"""The processes below one: found by walking down, signalled so that no stranger is hit. Nothing is proved by this.

What cannot be read or signalled is passed over: waitpid will tell whether it is still there.
"""

import _signal  # type: ignore[import-not-found] # signal itself imports enum: a quarter more memory
import posix

Process = tuple[int, int]
"""Pid, and start time in clock ticks: together they mean one process for ever."""

KERNEL_LISTS_CHILDREN = posix.access(f"/proc/self/task/{posix.getpid()}/children", posix.R_OK)
"""Nearly all do (CONFIG_PROC_CHILDREN)."""


def read(path: str) -> bytes:
    """Return what a file of /proc says, or nothing."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    whole = b""
    try:
        while part := posix.read(descriptor, 65536):
            whole += part
    except OSError:
        return b""
    finally:
        posix.close(descriptor)
    return whole


def fields_of(pid: int) -> list[bytes]:
    """Return what /proc/<pid>/stat says, from the third field on: the state is the first. Empty: it is gone."""
    stat = read(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 2 :].split() if stat else []  # the name before it may hold anything, ")" too


def facts_of(pid: int) -> tuple[int, int, bool] | None:
    """Return a process's parent, its start time, and whether it is dead and only not waited for; None: it is gone."""
    fields = fields_of(pid)
    if not fields:
        return None
    # The first thread of a living process may have ended: then it shows as a zombie that has other threads.
    return int(fields[1]), int(fields[19]), fields[0] in (b"Z", b"X") and int(fields[17]) <= 1


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, as far as can be told while they come and go."""
    if not KERNEL_LISTS_CHILDREN:
        return children_by_their_parent(pid)
    try:
        threads = posix.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in read(f"/proc/{pid}/task/{thread}/children").split()]


def children_by_their_parent(pid: int) -> list[int]:
    """Return the same, dearly: each process says whose child it is."""
    processes = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    return [process for process in processes if (facts_of(process) or (0,))[0] == pid]


def descendants(root: int) -> list[Process]:
    """Return every living process below `root`. One whose parent ends meanwhile may be missed: look again."""
    found = []
    known = {root}
    parents = [root]
    for parent in parents:
        for pid in children(parent):
            facts = None if pid in known else facts_of(pid)
            if facts is None or facts[0] not in known:  # its pid may be a stranger's by now
                continue
            known.add(pid)
            parents.append(pid)
            if not facts[2]:
                found.append((pid, facts[1]))
    return found


def is_warden(process: Process) -> bool:
    """Tell whether it is a warden like this one, of whatever installation."""
    arguments = read(f"/proc/{process[0]}/cmdline").split(b"\0")
    return arguments[1:3] == [b"-I", b"-S"] and arguments[3].endswith(b"/tree/warden/__main__.py")


def may_still_fork(process: Process) -> bool:
    """Tell whether a process runs on that was told to stop: a fork that it was about goes through."""
    fields = fields_of(process[0])
    return bool(fields) and int(fields[19]) == process[1] and fields[0] in (b"R", b"S")


def name_of(process: Process) -> str:
    """Return what a person calls it. Not its arguments: there may be a secret among them."""
    return f"process {process[0]} ({read(f'/proc/{process[0]}/comm').strip().decode('utf-8', 'replace')})"


def resident_bytes(processes: list[Process]) -> int:
    """Return the memory that they hold together; what they share counts for each."""
    pages = [read(f"/proc/{pid}/statm").split()[1:2] for pid, _ in processes]
    return sum(int(number) for found in pages for number in found) * posix.sysconf("SC_PAGE_SIZE")


def send(process: Process, *signals: int) -> bool:
    """Send signals to a process, and to no other that has its pid by now; tell whether it got one alive."""
    got_one = False
    try:
        descriptor = posix.pidfd_open(process[0])
    except OSError:
        return False
    try:
        facts = facts_of(process[0])
        if facts is None or facts[1] != process[1] or facts[2]:
            return False
        for number in signals:
            _signal.pidfd_send_signal(descriptor, number)
            got_one = True
    except OSError:  # it may not be signalled; or the first signal was its end
        return got_one
    finally:
        posix.close(descriptor)
    return got_one
