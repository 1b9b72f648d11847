"""Children of an attempt: runs of their own, under its budget and deadline, that never outlive it."""

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from policies.failure import Kind
from supervisor.effects import Effects
from supervisor.errors import Failure
from supervisor.report import RunReport
from supervisor.store.contract import Standing
from supervisor.tasks import start_plain


class Child:
    """The handle of one child. Await it for its report; it raises the child's RunFailed or RunRefused.

    An error that was awaited was dealt with; one that nobody awaited is raised when the parent leaves the scope.
    """

    __slots__ = ("_seen", "_task", "session")

    def __init__(self, session: str, task: "asyncio.Task[RunReport]") -> None:
        self.session = session
        self._task = task
        self._seen = False

    def __await__(self) -> Generator[Any, None, RunReport]:
        return self._wait().__await__()

    async def _wait(self) -> RunReport:
        await asyncio.wait((self._task,))  # cancelling who waits does not cancel the child
        self._seen = True
        return self._task.result()

    @property
    def done(self) -> bool:
        """Whether the child's run is over."""
        return self._task.done()

    def cancel(self) -> None:
        """Cancel the child's run; its attempt is stopped and released as on any cancellation."""
        self._seen = True
        self._task.cancel()


class Subagents:
    """`async with attempt.subagents() as children:` waits for every child on leaving.

    Where the body raises or is cancelled, the children are cancelled first. Errors that nobody awaited come out
    together, as an ExceptionGroup.
    """

    __slots__ = ("_children", "_effects", "_limit", "_max_depth", "_open", "_run")

    def __init__(self, run: Standing, effects: Effects, limit: int, max_depth: int) -> None:
        if limit < 1 or max_depth < 1:
            raise ValueError(f"subagents needs limit >= 1 and max_depth >= 1, got limit={limit}, max_depth={max_depth}")
        self._run = run
        self._effects = effects
        self._limit = asyncio.Semaphore(limit)
        self._max_depth = max_depth
        self._children: list[Child] = []
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    def spawn(self, session: str, work: Any, *, policy: str | None = None) -> Child:
        """Start a child and return its handle. Without a policy it has its parent's.

        Raises Failure (kind invalid) where it would be nested deeper than `max_depth`.
        """
        if not self._open:
            raise RuntimeError("spawn() is for the inside of `async with attempt.subagents() as children:`")
        depth = 1 + sum(1 for _ in _above(self._run))
        if depth > self._max_depth:
            raise Failure(
                Kind.INVALID,
                f"a child of session {session!r} would be nested {depth} deep, and max_depth is {self._max_depth}",
            )
        child = Child(session, start_plain(self._carry_out(session, work, policy)))
        self._children.append(child)
        return child

    async def _carry_out(self, session: str, work: Any, policy: str | None) -> RunReport:
        async with self._limit:
            return await self._effects.supervise(session, work, policy=policy or self._run.policy)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        if error is not None:
            for child in self._children:
                child.cancel()
        cancelled = await self._wait_for_all()
        try:
            if cancelled is not None:
                raise cancelled
            if error is None:
                self._raise_unseen()
        finally:
            del cancelled  # it leads to this frame, and from here to all that the attempt has made
            self._children = []  # so does the exception that the task of each keeps

    async def _wait_for_all(self) -> asyncio.CancelledError | None:
        """Wait until every child is over, whoever cancels meanwhile; return that cancellation."""
        cancelled = None
        while pending := [child._task for child in self._children if not child._task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as caught:
                cancelled = caught
                for child in self._children:
                    child.cancel()
        try:
            return cancelled
        finally:
            del cancelled

    def _raise_unseen(self) -> None:
        errors = []
        for child in self._children:
            if child._seen:
                continue
            if child._task.cancelled():
                continue
            if (raised := child._task.exception()) is not None:
                errors.append(raised)
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} of {len(self._children)} subagents failed", errors)


def _above(run: Standing) -> Generator[Standing, None, None]:
    above = run.parent
    while above is not None:
        yield above
        above = above.parent
