"""For tests, the project's and its users': virtual time, scripted work, recorded events, seeded simulation."""

from supervisor.testing.clock import VirtualClock, virtual_clock
from supervisor.testing.launcher import ScriptedWork
from supervisor.testing.loop import VirtualLoop
from supervisor.testing.recorded import Recorded
from supervisor.testing.script import fails, hangs, heartbeats, never_awaits, raises, succeeds
from supervisor.testing.stuck import Deadlock, Livelock

__all__ = [
    "Deadlock",
    "Livelock",
    "Recorded",
    "ScriptedWork",
    "VirtualClock",
    "VirtualLoop",
    "fails",
    "hangs",
    "heartbeats",
    "never_awaits",
    "raises",
    "succeeds",
    "virtual_clock",
]
