"""Tasks, futures and generators that a virtual loop tells apart by number: by address, no two runs are alike."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class NumberedTask(asyncio.Task[T]):
    """A task that is hashed by its number within its virtual loop.

    TaskGroup, `asyncio.wait` and `all_tasks` keep tasks in sets, and go through them in the order of their hashes.
    An eager task bypasses its loop: start it as `NumberedTask(work, loop=loop, eager_start=True)`.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: Any = None,
        name: object = None,
        **options: Any,
    ) -> None:
        numbering: Any = loop or asyncio.get_running_loop()
        self.number: int = numbering.next_number()  # first: a task is hashed while it is made
        super().__init__(coro, loop=loop, name=str(name or f"Task-{self.number}"), **options)

    def __hash__(self) -> int:
        return self.number


class NumberedFuture(asyncio.Future[T]):
    """A future that is hashed by its number within its virtual loop."""

    def __init__(self, *, loop: Any) -> None:
        self.number: int = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class OldestFirst(WeakKeyDictionary[Any, None]):
    """A WeakSet that keeps the order in which its members came."""

    def add(self, member: Any) -> None:
        """Add a member as the newest, unless it is one."""
        self.setdefault(member)

    def discard(self, member: Any) -> None:
        """Remove a member, if it is one."""
        self.pop(member, None)
