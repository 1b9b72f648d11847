"""A simulated process: what is done in its context is its own, and ends, or stands still, with it.

Each handle of a loop carries the context that it was made in, and in the context stands the process.
"""

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

from supervisor.tasks import context_of

T = TypeVar("T")

PROCESS: "ContextVar[Process | None]" = ContextVar("process", default=None)
"""In whose context something is done. None: the simulation itself, which nothing stops."""


class State(Enum):
    RUNS = auto()
    FROZEN = auto()
    DEAD = auto()


class Process:
    """One process of a `World`, which makes it.

    `life` is where its life file would be: held until it dies, however silent it is.
    """

    def __init__(self, name: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = loop
        self._kept: deque[asyncio.Handle] = deque()  # due while it was frozen; and once it is dead, for ever
        self._left: list[asyncio.Task[Any]] = []  # what ran when it died: no `finally` of it may run, so it is kept
        self._wills: list[Callable[[], None]] = []
        self._thawing: asyncio.TimerHandle | None = None
        self.name = name
        self.life = Path(f"/alive/{name}")
        self.state = State.RUNS
        self.died_at: float | None = None
        self.frozen_at: float | None = None  # when it was last frozen

    def __repr__(self) -> str:
        return f"<Process {self.name}: {self.state.name.lower()}>"

    @property
    def lives(self) -> bool:
        return self.state is not State.DEAD

    # --- what it does

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task of it."""
        return self._loop().create_task(work, context=self.context(copy_context()))

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in its name, now."""
        return self.context(copy_context()).run(function, *args)

    def context(self, context: Context | None = None) -> Context:
        """Return a context, an empty one if none is given, in which all is done in its name."""
        context = Context() if context is None else context
        context.run(PROCESS.set, self)
        return context

    # --- what is done to it

    def at_death(self, will: Callable[[], None]) -> None:
        """Do something as it dies, as a kernel does for a process that is killed."""
        self._wills.append(will)

    def kill(self) -> None:
        """End it as kill -9 does: nothing of it runs again, no `finally`, no callback. It may be the one that runs."""
        if not self.lives:
            return
        loop = self._loop()
        self.state, self.died_at = State.DEAD, loop.time()
        self._left += [task for task in asyncio.all_tasks(loop) if self._owns(task)]
        for will in self._wills:
            will()

    def freeze(self, for_s: float | None = None) -> None:
        """Stop it as SIGSTOP does; what falls due meanwhile runs when it is thawed, in order. None: until `thaw`."""
        if not self.lives:
            return
        self.state, self.frozen_at = State.FROZEN, self._loop().time()
        if self._thawing is not None:
            self._thawing.cancel()
        if for_s is not None:
            self._thawing = self._loop().call_later(for_s, self.thaw, context=of_nobody())

    def thaw(self) -> None:
        """Let a frozen process go on; nothing for any other."""
        if self.state is not State.FROZEN:
            return
        self.state = State.RUNS
        loop: Any = self._loop()
        loop._ready.extend(self._kept)
        self._kept.clear()

    def may_run(self, handle: asyncio.Handle) -> bool:
        """Say whether a handle of it may run now; one that may not is kept."""
        if self.state is State.RUNS:
            return True
        self._kept.append(handle)
        return False

    def _owns(self, task: "asyncio.Task[Any]") -> bool:
        return context_of(task).get(PROCESS) is self

    def unwind(self) -> None:
        """Let go of what a dead process left, once nobody looks any more: its `finally` blocks run now, unseen."""
        loop = self._loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that a coroutine of the dead was never awaited
            for _ in range(_MOST_LAYERS):
                left = [task for task in asyncio.all_tasks(loop) if self._owns(task)]
                if not left:
                    break
                for task in left:
                    _close(task)
            self._left.clear()
            self._kept.clear()


_MOST_LAYERS = 10
_MOST_AWAITS = 50


def _close(task: "asyncio.Task[Any]") -> None:
    """Close a task's coroutine, whose `finally` blocks may await again and again, and take it off the loop's list."""
    coroutine: Any = task.get_coro()
    for _ in range(_MOST_AWAITS):
        try:
            context_of(task).run(coroutine.close)
        except RuntimeError:  # it awaited on
            continue
        except BaseException:  # noqa: S110 - of a dead process nobody is told anything
            pass
        break
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def of_caller(context: Context) -> Context:
    """Make a context the caller's process's, unless it is somebody's, or nobody's, already; return it."""
    process = PROCESS.get()
    if process is not None and PROCESS not in context:
        context.run(PROCESS.set, process)
    return context


def of_nobody() -> Context:
    """Return an empty context in which what is done is done by no process."""
    context = Context()
    context.run(PROCESS.set, None)
    return context
