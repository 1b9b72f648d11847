"""The seam between a run and how its attempts are carried out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from supervisor.attempt import Attempt

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing of the attempt is left at the other side."""

    step: str = ""


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


AnyWork = Callable[[Attempt], Awaitable[Any]] | Work[Any]
