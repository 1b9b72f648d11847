"""Everything the engine does to the world goes through one of these, handed in: so a simulation can replace it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor.alarms import Alarms
from supervisor.clock import Clock
from supervisor.events import Events
from supervisor.lock.session_lock import LockFiles
from supervisor.report import RunReport
from supervisor.store.contract import Store
from supervisor.tasks import StartTask
from supervisor.tree.contract import Launcher

if TYPE_CHECKING:
    from supervisor.attempt import Attempt
    from supervisor.recovery.left_behind import Recovery


@dataclass(slots=True)
class Effects:
    """The effects of one supervisor.

    Attributes:
        start_task: starts the task of an attempt; its first step may run at once.
        available_memory: bytes that the machine, or its cgroup, can still give.
        alarms: rings for an attempt whose timeout has passed.
        recovery: watches what an unconfirmed attempt left.
        over: is told each run that has ended.
        launcher: what starts commands, made when it is first asked for.
        job_of: tells by a run's id whose tick it is; None: no job's.
        supervise: starts a run: (session, work, policy name) to its report. Children of attempts come in here.
    """

    clock: Clock
    store: Store
    locks: LockFiles
    events: Events
    start_task: StartTask[Any]
    available_memory: Callable[[], int]
    alarms: "Alarms[Attempt]"
    recovery: "Recovery"
    supervise: Callable[..., Awaitable[RunReport]]
    over: Callable[[Any], None]
    launcher: Callable[[], Launcher]
    job_of: Callable[[str], str | None] = lambda _run_id: None
