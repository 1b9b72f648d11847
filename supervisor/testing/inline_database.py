"""A database without a thread: each process of a world has one, and all of them write to one connection.

A transaction is done in one step of the loop; before it and after it, time may pass and blows may fall.
"""

import asyncio
import random  # noqa: TID251 - seeded: the same seed is slow in the same places
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from supervisor.errors import StoreUnavailable
from supervisor.testing.faults import Blow, Slowness, Strike
from supervisor.testing.process import Process

P = ParamSpec("P")
T = TypeVar("T")

Commits = Callable[[Process, str, tuple[Any, ...]], None]
"""Told of the commit of a transaction that has changed something: by whom, its name, and its arguments."""


class _ForgottenQuietly(sqlite3.Connection):
    """Python 3.13 warns of a connection that is only forgotten; one in memory may be, with the world that it is of."""

    def __del__(self) -> None:
        self.close()


class SharedFile:
    """What stands for the file: one connection, in memory, for all. `on_commit` is called in each commit's own step."""

    def __init__(self, on_commit: Commits | None = None) -> None:
        self.connection = sqlite3.connect(
            ":memory:", check_same_thread=False, isolation_level=None, cached_statements=512, factory=_ForgottenQuietly
        )
        self.on_commit = on_commit
        self.commits: dict[Process, int] = {}

    def by_others(self, process: Process) -> int:
        """Return how many commits other processes have made."""
        return sum(self.commits.values()) - self.commits.get(process, 0)


class _Asked(NamedTuple):
    name: str
    transaction: Callable[[sqlite3.Connection], Any]
    args: tuple[Any, ...]
    answer: "asyncio.Future[Any]"


class InlineDatabase:
    """`supervisor.store.sqlite.database.Database` for a simulated process.

    As its worker thread does, it takes one transaction after the other, goes on with those whose caller was cancelled,
    and stands still or ends with its process: what was handed over and is not committed is committed on thaw, or never.
    Not simulated: a process that is stopped inside a transaction, which blocks all others.

    `strikes` are the blows for this process.
    """

    path = Path(":memory:")

    def __init__(
        self, file: SharedFile, process: Process, *, slowness: Slowness | None = None, strikes: Iterable[Strike] = ()
    ) -> None:
        self._file, self._process = file, process
        self._slowness = slowness or Slowness()
        self._dice = random.Random(f"database of {process.name}")  # noqa: S311 - nothing here is secret
        self._strikes = {
            (strike.transaction, strike.nth + more, strike.committed): strike
            for strike in strikes
            for more in range(strike.times)
        }
        self._context = process.context()  # its own: what a caller's variables hold must not live on in it
        self._asked: deque[_Asked] = deque()
        self._times: dict[str, int] = {}
        self._seen = -1

    async def open(self) -> None:
        """Make the tables, if nobody has."""
        from supervisor.store.sqlite import schema

        schema.prepare(self._file.connection, self.path)

    async def close(self) -> None:
        """Nothing: the file is everybody's."""

    async def changed(self) -> bool:
        """Tell whether another process has committed anything since this was last asked."""
        before, self._seen = self._seen, self._file.by_others(self._process)
        return before != self._seen

    async def run(
        self, transaction: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do `transaction(connection, ...)` between BEGIN IMMEDIATE and COMMIT and return its answer.

        Raises StoreUnavailable where a blow says so; what the transaction raises comes out, and nothing is committed.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        name = getattr(transaction, "__name__", "transaction")
        self._asked.append(_Asked(name, partial(_given, transaction, args, kwargs), args, answer))
        if len(self._asked) == 1:
            self._later(self._take_next)
        return await answer

    read = run

    # --- its thread

    def _later(self, do: Callable[..., None], *args: Any) -> None:
        seconds = 0.0
        if self._dice.random() < self._slowness.share and self._slowness.seconds:
            seconds = round(self._dice.random() * self._slowness.seconds, 3)
        self._in(seconds, do, *args)

    def _in(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        loop = asyncio.get_running_loop()
        if seconds:
            loop.call_later(seconds, do, *args, context=self._context)
        else:
            loop.call_soon(do, *args, context=self._context)

    def _take_next(self) -> None:
        name = self._asked[0].name
        nth = self._times[name] = self._times.get(name, 0) + 1
        strike = self._strikes.get((name, nth, False))
        if strike is None:
            self._do(nth)
        elif strike.blow == Blow.FAILS:
            self._answered(None, StoreUnavailable(f"{name} was not committed: the disk is full"))
        else:
            self._in(0.0, self._do, nth)
            self._befall(strike)

    def _do(self, nth: int) -> None:
        asked, connection = self._asked[0], self._file.connection
        before = connection.total_changes
        connection.execute("BEGIN IMMEDIATE")
        try:
            value = asked.transaction(connection)
        except BaseException as error:
            connection.execute("ROLLBACK")
            self._answered(None, error)
            return
        connection.execute("COMMIT")
        if connection.total_changes != before:
            self._file.commits[self._process] = self._file.commits.get(self._process, 0) + 1
            if self._file.on_commit is not None:
                self._file.on_commit(self._process, asked.name, asked.args)
        strike = self._strikes.get((asked.name, nth, True))
        if strike is not None and strike.blow == Blow.FAILS:
            self._answered(None, StoreUnavailable(f"{asked.name} may have been committed: its answer was lost"))
            return
        self._answered(value, None)
        if strike is not None:
            self._befall(strike)

    def _answered(self, value: Any, error: BaseException | None) -> None:
        answer = self._asked.popleft().answer
        self._later(_resolve, answer, value, error)
        if self._asked:
            self._later(self._take_next)

    def _befall(self, strike: Strike) -> None:
        if strike.blow == Blow.KILLED:
            self._process.kill()
        else:
            self._process.freeze(strike.for_s)


def _given(
    transaction: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: sqlite3.Connection
) -> T:
    return transaction(connection, *args, **kwargs)


def _resolve(answer: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if answer.done():  # its caller was cancelled: the transaction stands
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
