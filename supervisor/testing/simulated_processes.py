"""The processes of a simulated tree: its command, and the daemons that it has started, as timers of the loop."""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.lock.life_file import Exited
from supervisor.testing.tree_script import TreeScript

if TYPE_CHECKING:
    from supervisor.testing.streams import OutputOf

Later = Callable[..., None]
"""`later(seconds, do, *args)`; seconds of None never come."""

_ASKED: Final = Exited(None, int(signal.SIGTERM))
_KILLED: Final = Exited(None, int(signal.SIGKILL))


class Processes:
    """Whoever made them is told of the command's exit, of each output, and each time that fewer of them live."""

    def __init__(
        self,
        script: TreeScript,
        output: "OutputOf | None",
        later: Later,
        on_exit: Callable[[Exited], None],
        on_said: Callable[[], None],
        on_fewer: Callable[[], None],
    ) -> None:
        self._script, self._output, self._later = script, output, later
        self._on_exit, self._on_said, self._on_fewer = on_exit, on_said, on_fewer
        self._command_lives = False
        self.daemons = 0
        self.steps: dict[str, int] = {}
        self._signalled: tuple[int, int] = (0, 0)  # of the command, of its daemons

    @property
    def count(self) -> int:
        return self._command_lives + self.daemons

    @property
    def killed(self) -> int:
        """How many were signalled to end."""
        return sum(self._signalled)

    def start(self) -> None:
        script = self._script
        self._command_lives, self.daemons = True, script.daemons
        self._later(script.runs_s, self._exit, Exited(None if script.signal else script.code, script.signal))
        if script.daemons:
            self._later(script.daemons_run_s, self._end_daemons)
        if script.says_every_s:
            self._later(script.says_every_s, self._say_again)

    def ask(self) -> None:
        self._signal("SIGTERM")
        if self._command_lives:
            self._later(self._script.ignores_sigterm_s, self._exit, _ASKED)
        if self.daemons:
            self._later(self._script.daemons_ignore_sigterm_s, self._end_daemons)

    def kill(self) -> None:
        self._signal("SIGKILL")
        self._exit(_KILLED)
        self._end_daemons()

    def close_output(self) -> None:
        """Nobody has it open any more, unless one of them lives."""
        output = None if self._output is None else self._output()
        if self.count == 0 and output is not None:
            output.end()

    def _signal(self, step: str) -> None:
        if self.count:
            self.steps[step] = self.count
            self._signalled = (self._signalled[0] or int(self._command_lives), self._signalled[1] or self.daemons)

    def _exit(self, exited: Exited) -> None:
        if self._command_lives:
            self._say(self._script.output)
            self._command_lives = False
            self._on_exit(exited)
            self._are_fewer()

    def _end_daemons(self) -> None:
        if self.daemons:
            self.daemons = 0
            self._are_fewer()

    def _are_fewer(self) -> None:
        self.close_output()
        self._on_fewer()

    def _say_again(self) -> None:
        if self._command_lives:
            self._say(".")
            self._later(self._script.says_every_s, self._say_again)

    def _say(self, text: str) -> None:
        output = None if self._output is None else self._output()
        if text and output is not None:
            output.say(text)
            self._on_said()
