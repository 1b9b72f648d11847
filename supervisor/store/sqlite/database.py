"""One connection to the database, on one thread of its own: a transaction is a plain function that runs there whole.

Nothing but SQLite opens the file: to close it elsewhere in the process would drop SQLite's locks on it.
"""

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar

from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite import schema
from supervisor.store.sqlite.place import is_there
from supervisor.store.sqlite.unavailable import is_busy, unavailable

P = ParamSpec("P")
T = TypeVar("T")

BUSY_S: Final = 5.0
"""A writer that is stopped within its transaction blocks all others: for longer than this nobody waits."""

_MOST_TOGETHER: Final = 64
"""Transactions that are committed as one: other processes wait no longer than that many take."""

_LOOKS_AFTER_A_CHANGE: Final = 10
"""The kernel's clock moves in steps of up to 10 ms: within one, a second change of the log leaves its time as it is."""

_LOOKS_IN_VAIN: Final = 20

Transaction = Callable[Concatenate[sqlite3.Connection, P], T]


class Database(Protocol):
    """What the store asks: each call is one transaction, committed when it returns; StoreUnavailable: it was not."""

    async def open(self) -> None: ...
    async def run(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def read(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the same with one that changes nothing: it waits for no writer, and none waits for it."""
        ...

    async def changed(self) -> bool:
        """Tell whether another connection has committed anything since this was last asked, by polling."""
        ...

    async def close(self) -> None: ...


class _Asked(NamedTuple):
    """Something for the thread to do. `transaction` is None for what is done outside of any."""

    answer: "asyncio.Future[Any]"
    transaction: Callable[[sqlite3.Connection], Any] | None
    alone: Callable[[], Any] | None = None
    writes: bool = False


class FileDatabase:
    """The database in a file, made with its folder if it is missing, for its owner's eyes only.

    Transactions that are asked for while others are on their way are committed together: each is answered when that
    is done, and one that fails is done again by itself, as are those beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection
        self._inode = (0, 0)
        self._version = -1
        self._log = f"{path}-wal"
        self._log_facts = (-1, -1)
        self._looks = 0

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="turnkeeper-store", daemon=True)
        self._thread.start()
        try:
            await self._call(self._open)
        except BaseException:
            self._asked.put(None)
            self._thread = None
            raise

    async def run(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._ask(transaction, args, kwargs, writes=True)

    async def read(self, transaction: Transaction[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._ask(transaction, args, kwargs, writes=False)

    async def changed(self) -> bool:
        return self._log_may_have_changed() and await self._call(self._has_changed)

    async def close(self) -> None:
        if self._thread is not None:
            closed = self._hand_over(None, self._close)
            self._asked.put(None)
            self._thread = None  # what is asked from here on would never be answered
            await closed

    def _log_may_have_changed(self) -> bool:
        """Look at the log's time and size, which costs next to nothing; now and then say yes without them."""
        try:
            facts = os.stat(self._log)
        except OSError:
            return True
        self._looks += 1
        if (facts.st_mtime_ns, facts.st_size) != self._log_facts:
            self._log_facts, self._looks = (facts.st_mtime_ns, facts.st_size), 0
        return self._looks < _LOOKS_AFTER_A_CHANGE or self._looks % _LOOKS_IN_VAIN == 0

    # --- between the loop and the thread

    def _ask(
        self, transaction: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], *, writes: bool
    ) -> "asyncio.Future[T]":
        """Have the thread do it. Cancelled, the caller goes; the transaction does not: it commits, or has."""
        return self._hand_over(lambda connection: transaction(connection, *args, **kwargs), None, writes=writes)

    async def _call(self, function: Callable[[], T]) -> T:
        return await self._hand_over(None, function)

    def _hand_over(
        self,
        transaction: Callable[[sqlite3.Connection], T] | None,
        alone: Callable[[], T] | None,
        *,
        writes: bool = False,
    ) -> "asyncio.Future[T]":
        if self._thread is None:
            raise StoreUnavailable(f"the state {self.path} is not open")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._asked.put(_Asked(answer, transaction, alone, writes))
        return answer

    def _serve(self) -> None:
        waiting: deque[_Asked | None] = deque()
        while True:
            if not waiting:
                waiting.append(self._asked.get())
            while not self._asked.empty():
                waiting.append(self._asked.get())
            first = waiting[0]
            if first is None:
                return
            if first.alone is not None:
                waiting.popleft()
                self._answer([_outcome(first, first.alone)])
            else:
                self._answer(self._do(_first_together(waiting)))

    def _answer(self, outcomes: "Sequence[_Outcome]") -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, outcomes)

    # --- on the thread

    def _open(self) -> None:
        is_there(self.path)
        try:
            schema.make_file(self.path)
            facts = os.stat(self.path)
            self._inode = (facts.st_dev, facts.st_ino)
            # check_same_thread stays on: a call from elsewhere would be a mistake of ours
            self._connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, cached_statements=256)
        except OSError as error:
            why = f"{error.filename or self.path}: {error.strerror}"
            raise StoreUnavailable(f"the state {self.path} cannot be opened: {why}") from error
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        try:
            schema.prepare(self._connection, self.path)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unavailable(error) from error
        except BaseException:
            self._connection.close()
            raise

    def _do(self, together: "Sequence[_Asked]") -> "Sequence[_Outcome]":
        """Do transactions as one; where that fails and they are several, each by itself."""
        try:
            values = self._commit(together)
        except BaseException as error:
            if len(together) == 1 or is_busy(error.__cause__):  # all of them have waited for the writer
                return [_Outcome(asked.answer, None, error) for asked in together]
            return [self._do((asked,))[0] for asked in together]
        return [_Outcome(asked.answer, value, None) for asked, value in zip(together, values, strict=True)]

    def _commit(self, together: "Sequence[_Asked]") -> list[Any]:
        connection = self._connection
        self._must_be_the_same()
        try:
            connection.execute("BEGIN IMMEDIATE" if any(asked.writes for asked in together) else "BEGIN")
            try:
                values = [asked.transaction(connection) for asked in together if asked.transaction is not None]
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself where the disk failed
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return values

    def _has_changed(self) -> bool:
        self._must_be_the_same()
        try:
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        before, self._version = self._version, version
        return before != version

    def _close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _must_be_the_same(self) -> None:
        """A file that was deleted, or put in its place, is not what other processes see."""
        try:
            facts = os.stat(self.path)
        except OSError as error:
            raise StoreUnavailable(
                f"the state {self.path} is gone while it is in use ({error.strerror}): start anew"
            ) from error
        if (facts.st_dev, facts.st_ino) != self._inode:
            raise StoreUnavailable(f"the state {self.path} was replaced while it is in use: start anew")

    def _unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        return unavailable(self.path, error, BUSY_S)


class _Outcome(NamedTuple):
    answer: "asyncio.Future[Any]"
    value: Any
    error: BaseException | None


def _outcome(asked: _Asked, function: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(asked.answer, function(), None)
    except BaseException as error:
        return _Outcome(asked.answer, None, error)


def _first_together(waiting: "deque[_Asked | None]") -> list[_Asked]:
    """Take out those that come first and may be committed together."""
    together: list[_Asked] = []
    while waiting and len(together) < _MOST_TOGETHER:
        asked = waiting[0]
        if asked is None or asked.transaction is None:
            break
        together.append(asked)
        waiting.popleft()
    return together


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for answer, value, error in outcomes:
        if answer.done():  # its caller was cancelled: the transaction stands
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
