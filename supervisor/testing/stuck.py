"""What a virtual loop raises when nothing can go on, and how it says where each task waits."""

import asyncio
from types import FrameType
from typing import Any

from supervisor.errors import SupervisorError

_NAMED = 20  # a crowd that waits for one thing is described by a few of it


class Deadlock(SupervisorError):
    """Nothing is ready and no timer is set: what is left waits for ever. `waiting` has one line for each task."""

    def __init__(self, moment: float, waiting: tuple[str, ...]) -> None:
        super().__init__(
            f"deadlock at {moment:.6f}: nothing is ready and no timer is set; find out who should have woken these, "
            f"or bound their wait by asyncio.timeout: {_listed(waiting)}"
        )
        self.moment = moment
        self.waiting = waiting


class Livelock(SupervisorError):
    """Time stands still while callbacks run on and on. `waiting` has one line for each task."""

    def __init__(self, moment: float, rounds: int, waiting: tuple[str, ...]) -> None:
        super().__init__(
            f"livelock at {moment:.6f}: {rounds} rounds of the loop and no time has passed; find out which of these "
            f"asks again and again without waiting: {_listed(waiting)}"
        )
        self.moment = moment
        self.rounds = rounds
        self.waiting = waiting


def tasks_waiting(loop: asyncio.AbstractEventLoop) -> tuple[str, ...]:
    """Return one line for each pending task of a loop, oldest first: its name, and the place where it waits."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: getattr(task, "number", 0))
    return tuple(f"{task.get_name()} waits at {_place(task)}" for task in tasks)


def _place(task: "asyncio.Task[Any]") -> str:
    """Return the innermost place of a task that is not asyncio's own, as file:line in function."""
    frames = _await_chain(task.get_coro())
    if not frames:
        return "a place unknown"
    own = [frame for frame in frames if not frame.f_globals.get("__name__", "").startswith("asyncio.")]
    frame = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def _await_chain(awaited: Any) -> list[FrameType]:
    """Return the frames from a coroutine down to what it waits for; an asynchronous generator ends the chain."""
    frames: list[FrameType] = []
    while awaited is not None:
        frame = _first(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append(frame)
        awaited = _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return frames


def _first(owner: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(owner, name, None)) is not None), None)


def _listed(waiting: tuple[str, ...]) -> str:
    if not waiting:
        return "(no task is pending)"
    more = len(waiting) - _NAMED
    return "\n  ".join(("", *waiting[:_NAMED], *([f"and {more} more"] if more > 0 else [])))
