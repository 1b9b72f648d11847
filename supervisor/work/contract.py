"""The seam between a run and how its attempts are carried out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from policies.failure import Failed
from supervisor.attempt import Attempt

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing of the attempt is left at the other side. `step` says so in the receipt."""

    step: str = ""
    processes_killed: int = 0
    lock_reclaimed: bool = False


@dataclass(frozen=True, slots=True)
class Alive:
    """Something of the attempt may still live there; `what` names it for a person."""

    what: str


@runtime_checkable
class Work(Protocol[T_co]):
    """Work that reaches beyond this process, and can say whether it has ended there.

    `start` is carried out in a task of its own and cancelled to stop it; `confirm_stopped` is asked after every
    attempt, within the policy's `grace`: an answer that does not come in time is taken for `Alive`.
    """

    def start(self, attempt: Attempt) -> Awaitable[T_co]: ...
    def confirm_stopped(self, attempt: Attempt) -> Awaitable[Stopped | Alive]: ...


@runtime_checkable
class ParkedWork(Work[T_co], Protocol[T_co]):
    """Work that is made ready before its attempt begins, and then waits for the word: a command, with its warden.

    `park` is asked before the attempt is written down. It takes the session's lock in the work's own name where a path
    is given, unless the policy has the command take it (`lock.by`); False: somebody has it, and nothing was made ready.
    All else that it makes goes on the attempt's scope.
    Its stop may take `proof_s` longer than `grace`: the time to prove it.
    """

    proof_s: float

    def park(self, attempt: Attempt, lock: Path | None) -> Awaitable[bool]: ...
    def known(self, attempt: Attempt, failed: Failed) -> Failed:
        """Add to a failure what the work knows of it."""
        ...

    def over(self, run_id: str) -> None:
        """The run has ended: let go of what was kept for another attempt of it. Also of one that was never parked."""
        ...


AnyWork = Callable[[Attempt], Awaitable[Any]] | Work[Any]
