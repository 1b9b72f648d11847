"""For tests, the project's and its users': virtual time, scripted work, recorded events, seeded simulation."""

from supervisor.testing.cancelling import WOKEN, cancelled_at
from supervisor.testing.clock import VirtualClock, virtual_clock
from supervisor.testing.command import SimulatedCommand
from supervisor.testing.faults import Blow, Slowness, Strike
from supervisor.testing.inline_database import InlineDatabase, SharedFile
from supervisor.testing.launcher import ScriptedWork
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.loop import VirtualLoop
from supervisor.testing.process import Process
from supervisor.testing.recorded import Recorded
from supervisor.testing.script import fails, hangs, heartbeats, never_awaits, raises, succeeds
from supervisor.testing.slow_store import SlowStore
from supervisor.testing.stuck import Deadlock, Livelock
from supervisor.testing.tree_script import Happening, TreeScript
from supervisor.testing.trees import SimulatedLauncher
from supervisor.testing.world import World

__all__ = [
    "WOKEN",
    "Blow",
    "Deadlock",
    "Happening",
    "InlineDatabase",
    "Livelock",
    "MemoryLockFiles",
    "Process",
    "Recorded",
    "ScriptedWork",
    "SharedFile",
    "SimulatedCommand",
    "SimulatedLauncher",
    "SlowStore",
    "Slowness",
    "Strike",
    "TreeScript",
    "VirtualClock",
    "VirtualLoop",
    "World",
    "cancelled_at",
    "fails",
    "hangs",
    "heartbeats",
    "never_awaits",
    "raises",
    "succeeds",
    "virtual_clock",
]
