"""What really happened, as the work, the lock files, the store and the callers saw it: the checker's only source."""

import asyncio
import math
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from policies.failure import Failed, Receipt
from policies.policy import Policy
from policies.verdict import Reason, Verdict
from supervisor.clock import Clock
from supervisor.lock.life_file import Death
from supervisor.testing.lock_files import MemoryLock
from supervisor.testing.process import Process
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.tree_script import Happening
from supervisor.testing.trees import FIRST_PID
from supervisor.tree.contract import TreeGone, TreeUnknown

WHO: "ContextVar[RunFacts]" = ContextVar("who")
"""The run in whose name something happens: callers set it, attempts inherit it."""


@dataclass(slots=True, eq=False)
class BodyFacts:
    """One attempt, seen from within the work. `open` names what is on its scope and not released."""

    run: "RunFacts"
    number: int
    started_at: float
    beat_at: float
    attempt_deadline: float
    last_at: float = 0.0  # when it, or a step of its release, was last seen to end
    told_at: float | None = None
    thrown_at: list[float] = field(default_factory=list)  # cancellations, some perhaps for a run within
    within: int = 0  # runs that it awaits itself
    ended_at: float | None = None
    how: str = ""  # returned | raised | cancelled
    raised: str = ""  # the class of its exception
    kind: str = ""  # of failure, where it raised
    text: str = ""
    open: dict[str, str] = field(default_factory=dict)
    closing: list[str] = field(default_factory=list)
    locking: bool = False  # it waits for a lock, or did so when it was told to end
    had_scope: bool = False
    limbo_at: int = 0  # in lines of the log: recorded as unconfirmed
    forgiven: bool = False  # an operator said that the session is well
    remote_until: float | None = None
    confirm_trouble: bool = False
    context: "weakref.ref[Any] | None" = None
    tree: SimulatedTree | None = None  # where it is a command

    def alive(self, now: float) -> bool:
        if self.ended_at is None or self.open:
            return True
        if self.tree is not None and not is_gone(self.tree):
            return True
        return self.remote_until is not None and now < self.remote_until - 1e-9


def is_gone(tree: SimulatedTree) -> bool:
    """Say whether a tree was proved gone; one whose warden was killed never is."""
    return isinstance(tree.outcome, TreeGone)


def is_unknown(tree: SimulatedTree) -> bool:
    """Say whether the warden of a tree was killed: what it started may live for ever."""
    return isinstance(tree.outcome, TreeUnknown)


def is_unproved(tree: SimulatedTree) -> bool:
    """Say whether nobody but its supervisor can know that a tree is gone: its warden was killed, parked or not."""
    return tree.life()[0] is Death.UNKNOWN


@dataclass(slots=True)
class Recorded:
    """One attempt, as the engine recorded it."""

    number: int
    called_at: float
    failed: Failed | None
    receipt: Receipt
    stopped: Reason | None
    verdict: Verdict | None = None
    at: float = 0.0
    waited: bool = False  # its backoff has begun


@dataclass(slots=True, eq=False)
class RunFacts:
    """One run. `deadline` is the run's, its parents' counted in; `reserved` the tokens of a retry not yet launched.

    `process`: that carries it out, where there are several; `taken`: another process has ended an attempt of it.
    """

    key: str
    session: str
    policy: Policy
    parent: "RunFacts | None"
    lock: str = ""
    asked_at: float = 0.0
    deadline: float = 0.0
    run_id: str = ""
    arrived_at: float = 0.0
    granted_at: float = math.inf  # when it last got a permit
    number: int = 0
    begun: bool = False
    begun_at: int = 0  # in lines of the log
    reserved: float | None = None
    retries_in_tree: int = 0
    cancelled: bool = False
    parents_attempt: int = 0
    unconfirmed: bool = False
    had_locks: bool = False
    bodies: dict[int, BodyFacts] = field(default_factory=dict)
    records: list[Recorded] = field(default_factory=list)
    children: "list[RunFacts]" = field(default_factory=list)
    locks: list[MemoryLock] = field(default_factory=list)
    trees: list[SimulatedTree] = field(default_factory=list)  # each that was parked for it
    ended_at: float | None = None
    task: "weakref.ref[asyncio.Task[Any]] | None" = None  # of a subagent
    events: list[Any] = field(default_factory=list)
    process: Process | None = None
    taken: bool = False

    def is_over(self) -> bool:
        if self.ended_at is not None:
            return True
        task = None if self.task is None else self.task()
        return self.task is not None and (task is None or task.done())

    def tree_of_runs(self) -> "list[RunFacts]":
        """It and every run below it."""
        return [self, *(each for child in self.children for each in child.tree_of_runs())]

    def line(self) -> "list[RunFacts]":
        """It and every run above it."""
        above: list[RunFacts] = []
        run: RunFacts | None = self
        while run is not None:
            above.append(run)
            run = run.parent
        return above


class Facts:
    """The log, and who is told of each entry as it is made."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.start = clock.now()
        self.log: list[str] = []
        self.violations: list[str] = []
        self.runs: dict[str, RunFacts] = {}
        self.by_id: dict[str, RunFacts] = {}
        self.limbo: dict[str, list[BodyFacts]] = {}  # what was recorded as unconfirmed, by session
        self.store: Any = None  # what keeps the state in the end: its numbers are facts too
        self.slack_s = 0.0  # what a slow store may add to any bound
        self.leaving_at: float | None = None
        self.is_over = False  # nobody looks any more
        self._told: dict[str, list[Callable[..., None]]] = {}

    def watch(self, checker: object) -> None:
        for name in dir(checker):
            if name.startswith("on_"):
                self._told.setdefault(name[3:], []).append(getattr(checker, name))

    def note(self, name: str, *args: Any, shown: str = "") -> None:
        """Write down what happened, and tell the checkers."""
        if self.is_over:
            return
        key = ""
        match args[:1]:
            case (RunFacts() as run,):
                key = run.key
            case (BodyFacts() as body,):
                key = body.run.key
            case (str() as key,):
                pass
            case _:
                pass
        self.log.append(f"{self.clock.now() - self.start:.4f} {name} {key} {shown}".rstrip())
        for tell in self._told.get(name, ()):
            tell(*args)

    def admitted(self, run: RunFacts) -> None:
        """A run is asked for now: its deadline begins to count."""
        run.asked_at = self.clock.now()
        run.deadline = run.asked_at + (run.policy.budget.deadline_s or 0.0)
        if run.parent is not None:
            run.deadline = min(run.deadline, run.parent.deadline)

    def violation(self, rule: str, text: str) -> None:
        if self.is_over:
            return
        line = f"{rule}: {text}"
        if len(self.violations) < 20:
            self.violations.append(line)
        self.log.append(f"{self.clock.now() - self.start:.4f} VIOLATION {line}")

    # --- trees

    def tree(self, tree: SimulatedTree, happening: Happening) -> None:
        if happening is Happening.SPAWNED:
            tree.owner = run = WHO.get()
            run.trees.append(tree)
        if happening is Happening.SAID:
            body = tree.owner.bodies.get(tree.owner.number)
            if body is not None and body.tree is tree and body.told_at is None:
                body.beat_at = self.clock.now()
            return
        self.note(f"tree_{happening.value}", tree.owner, tree, shown=str(tree.recorded.pid - FIRST_PID))

    # --- lock files

    def taken(self, lock: MemoryLock) -> None:
        lock.owner = run = WHO.get()
        run.locks.append(lock)
        run.had_locks = True
        self.note("lock_taken", run, shown=lock.path.name)

    def released(self, lock: MemoryLock) -> None:
        lock.owner.locks.remove(lock)
        self.note("lock_released", lock.owner, lock, shown=lock.path.name)
