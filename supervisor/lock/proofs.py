"""What proves dead whoever left a free file that does not say so itself: a warden that was killed, above all.

The first that answers: another boot; its cgroup's directory is gone; this is its container, started again. What none
of them proves is unknown: it may live.
"""

import os

from supervisor import cgroup
from supervisor.lock.contents import OurPart
from supervisor.owner import INITIAL_PID_NAMESPACE, Owner, in_initial_time_namespace, this_process


def proof_of_death(ours: OurPart, renewed_at: float | None = None) -> str:
    """Return the proof, for a person; empty: there is none.

    `renewed_at`: when that owner was last known to live, in seconds of CLOCK_BOOTTIME; without it, nothing is proved
    by the start of a container.
    """
    me = this_process()
    if "" in (ours.boot_id, me.boot_id):
        return ""
    if ours.boot_id != me.boot_id:
        return f"{me.host} was booted since"
    if ours.cgroup is not None and cgroup.is_gone(ours.cgroup):
        return f"its cgroup {ours.cgroup.path} is gone"
    if renewed_at is not None and _was_of_this_container(ours, me, renewed_at):
        return f"the container {me.host} was started again since"
    return ""


def _was_of_this_container(ours: OurPart, me: Owner, renewed_at: float) -> bool:
    if ours.init_start is None or me.init_start is None or ours.pid_namespace in (0, INITIAL_PID_NAMESPACE):
        return False
    is_elsewhere = (ours.pid_namespace, ours.init_start) != (me.pid_namespace, me.init_start)
    if ours.host != me.host or not is_elsewhere or _share_a_cgroup(ours, me) or not in_initial_time_namespace():
        return False
    return me.init_start / os.sysconf("SC_CLK_TCK") > renewed_at


def _share_a_cgroup(ours: OurPart, me: Owner) -> bool:
    """Tell whether we are in its container: a sandbox that was started there has pids of its own, too."""
    if ours.cgroup is None or me.cgroup is None or me.cgroup.is_root:
        return False
    return ours.cgroup.inode == me.cgroup.inode
