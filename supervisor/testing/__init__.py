"""For tests, the project's and its users': virtual time, scripted work, recorded events, seeded simulation."""

from supervisor.testing.cancelling import WOKEN, cancelled_at
from supervisor.testing.clock import VirtualClock, virtual_clock
from supervisor.testing.faults import Slowness
from supervisor.testing.launcher import ScriptedWork
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.loop import VirtualLoop
from supervisor.testing.recorded import Recorded
from supervisor.testing.script import fails, hangs, heartbeats, never_awaits, raises, succeeds
from supervisor.testing.slow_store import SlowStore
from supervisor.testing.stuck import Deadlock, Livelock

__all__ = [
    "WOKEN",
    "Deadlock",
    "Livelock",
    "MemoryLockFiles",
    "Recorded",
    "ScriptedWork",
    "SlowStore",
    "Slowness",
    "VirtualClock",
    "VirtualLoop",
    "cancelled_at",
    "fails",
    "hangs",
    "heartbeats",
    "never_awaits",
    "raises",
    "succeeds",
    "virtual_clock",
]
