"""A command as users run it, but for its streams and its processes: `supervisor.Command` itself, simulated."""

from typing import Any

from supervisor.attempt import Attempt
from supervisor.testing.streams import SimulatedStreams
from supervisor.testing.tree_script import TreeScript
from supervisor.work.command import Command


class SimulatedCommand(Command):
    """Work for a supervisor with a SimulatedLauncher: attempt n of a run does what the nth script says.

    The last script is for all further attempts too.
    """

    def __init__(self, *scripts: TreeScript) -> None:
        super().__init__(["simulated"], env={})
        if not scripts:
            raise ValueError("a simulated command has one script or more, got none")
        self._scripts = scripts

    def script_of(self, number: int) -> TreeScript:
        """Return what an attempt with this number does."""
        return self._scripts[min(number, len(self._scripts)) - 1]

    def _open_streams(self, attempt: Attempt) -> Any:
        return SimulatedStreams(self.script_of(attempt._run.number + 1), attempt.heartbeat)

    def _kernel_kills(self) -> int:
        return 0
