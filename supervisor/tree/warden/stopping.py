"""How a tree is stopped: ask, and after the grace freeze and kill, again and again, until waitpid says it is gone."""

import _signal  # type: ignore[import-not-found] # see processes.py
import posix

from .processes import Process, descendants, is_warden, may_still_fork, send

NESTED_WARDENS_HAVE_S = 1.0
FREEZES = 200
"""Passes over the tree, at most, before what was found is killed. A few beat a fork bomb: what stands forks no more.
On a busy machine it takes more until each is seen to stand."""

FIRST_PATIENCE_S, LAST_PATIENCE_S = 0.01, 1.0
"""When to kill again, if no child's end calls for it before: each time later, for what may not be signalled."""


class Stopping:
    """What was done to the tree below one process. Each process counts once for each step."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.steps: dict[str, set[Process]] = {}
        self.patience_s = FIRST_PATIENCE_S
        self.survivors: set[Process] = set()
        self.only_wardens_since: float | None = None

    def killed(self) -> int:
        """Return how many processes were signalled to end."""
        return len(set().union(*self.steps.values()))

    def ask(self) -> None:
        """Ask each process to end, also one that was stopped. Not wardens: theirs ask, when their supervisor ends."""
        for process in descendants(self.root):
            if not is_warden(process):
                self._send("SIGTERM", process, _signal.SIGTERM, _signal.SIGCONT)

    def kill(self, now: float) -> float:
        """Kill what is there. Returns when to do so again, in seconds, if no child ends before.

        Nested wardens go last: each stops its own tree, and says so in its files, once its supervisor is dead.
        """
        frozen, wardens = self.freeze()
        for process in frozen:
            self._send("SIGKILL", process, _signal.SIGKILL)
        patience_s = self.grown_patience_s({*frozen, *wardens})
        if frozen or not wardens:
            self.only_wardens_since = None
            return patience_s
        self.only_wardens_since = self.only_wardens_since or now
        left_s = self.only_wardens_since + NESTED_WARDENS_HAVE_S - now
        if left_s > 0:
            return left_s
        for process in wardens:
            self._send("SIGKILL to nested wardens", process, _signal.SIGKILL)
        return patience_s

    def grown_patience_s(self, found: set[Process]) -> float:
        """Return how long to wait before the next look: longer each time that nothing has changed."""
        is_unchanged = found == self.survivors
        self.survivors = found
        self.patience_s = min(2 * self.patience_s, LAST_PATIENCE_S) if is_unchanged else FIRST_PATIENCE_S
        return self.patience_s

    def freeze(self) -> tuple[list[Process], list[Process]]:
        """Stop each process until no new one appears, and each was seen to stand; return them, and wardens apart.

        What is killed one by one could fork meanwhile.
        """
        frozen: list[Process] = []
        wardens: list[Process] = []
        known: set[Process] = set()
        told: list[Process] = []
        for _ in range(FREEZES):
            told = [process for process in told if may_still_fork(process)]  # before the walk: then it misses none
            appeared = [process for process in descendants(self.root) if process not in known]
            if not appeared and not told:
                break
            if not appeared:
                posix.sched_yield()
            for process in appeared:
                known.add(process)
                if is_warden(process):
                    wardens.append(process)
                else:
                    frozen.append(process)
                    if send(process, _signal.SIGSTOP):
                        told.append(process)
        return frozen, wardens

    def _send(self, step: str, process: Process, *signals: int) -> None:
        if send(process, *signals):
            self.steps.setdefault(step, set()).add(process)
