"""For tests, the project's and its users': virtual time, scripted work, recorded events, seeded simulation."""

from supervisor.testing.cancelling import WOKEN, cancelled_at
from supervisor.testing.clock import VirtualClock, virtual_clock
from supervisor.testing.command import SimulatedCommand
from supervisor.testing.faults import Slowness
from supervisor.testing.launcher import ScriptedWork
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.loop import VirtualLoop
from supervisor.testing.recorded import Recorded
from supervisor.testing.script import fails, hangs, heartbeats, never_awaits, raises, succeeds
from supervisor.testing.slow_store import SlowStore
from supervisor.testing.stuck import Deadlock, Livelock
from supervisor.testing.tree_script import Happening, TreeScript
from supervisor.testing.trees import SimulatedLauncher

__all__ = [
    "WOKEN",
    "Deadlock",
    "Happening",
    "Livelock",
    "MemoryLockFiles",
    "Recorded",
    "ScriptedWork",
    "SimulatedCommand",
    "SimulatedLauncher",
    "SlowStore",
    "Slowness",
    "TreeScript",
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
