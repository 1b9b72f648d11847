"""What work writes of itself with O_APPEND, and who looks for two at once in it."""

from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """One line of what work has written: `start` or `end`, and by whom."""

    what: str
    who: str


class Bodies:
    """The file that bodies of work write to: when each starts, and when it ends by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def command(self, seconds: float, then: str = "") -> str:
        """Return a line of shell that writes, sleeps, writes and goes on."""
        who = '"$TURNKEEPER_RUN_ID.$TURNKEEPER_ATTEMPT"'
        return f"echo start {who} >> {self.path}; sleep {seconds}; echo end {who} >> {self.path}; {then}"

    def lines(self) -> list[Line]:
        """Return what was written, in the order of its writing."""
        text = self.path.read_text() if self.path.exists() else ""
        return [Line(*line.split()) for line in text.splitlines()]

    def started(self) -> list[str]:
        """Return the runs whose bodies started, in that order."""
        return [line.who.rpartition(".")[0] for line in self.lines() if line.what == "start"]

    def started_after(self) -> dict[str, int]:
        """Return how many had ended when each run's body started."""
        ended, found = 0, {}
        for line in self.lines():
            if line.what == "end":
                ended += 1
            else:
                found[line.who.rpartition(".")[0]] = ended
        return found

    def most_at_once(self) -> int:
        """Return how many ran at once, at the most."""
        running: set[str] = set()
        most = 0
        for line in self.lines():
            if line.what == "start":
                running.add(line.who)
            else:
                running.discard(line.who)
            most = max(most, len(running))
        return most
