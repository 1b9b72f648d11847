"""Ends that the database could not take: asked again for a while, then kept, and written when it can."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.failure import Failed, Receipt, Unknown
from policies.verdict import FINISH, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.errors import StoreUnavailable
from supervisor.store.contract import Standing
from supervisor.store.sqlite.asking import Asking, Connection, Ended, Moment, Recorded
from supervisor.store.sqlite.endings import end_run, end_with
from supervisor.store.sqlite.outcome import record_attempt
from supervisor.tasks import start_plain

if TYPE_CHECKING:
    from supervisor.store.sqlite.store import SqliteStore

_AGAIN_AFTER_S: Final = (0.05, 0.2, 0.75)
_AGAIN_WITHIN_S: Final = 2.0
_LATER_S: Final = 1.0
_log = logging.getLogger("turnkeeper")

Record = Callable[..., Recorded]


def without_a_store(failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
    """Return the verdict on an attempt that cannot be written down: nothing is tried again that nobody can count."""
    if isinstance(receipt, Unknown):
        return Quarantine(receipt.alive)
    if stopped is not None:
        return GiveUp(stopped)
    return FINISH if failed is None else GiveUp(Reason.STORE_UNAVAILABLE)


def record_late(database: Connection, run: Asking, ended: Ended, moment: Moment) -> Recorded:
    """Write the end of an attempt whose run is over since: the verdict is what that was told, and no retry is left."""
    written = database.execute("SELECT verdict FROM attempts WHERE fence = ?", (run.fence,)).fetchone()
    recorded = record_attempt(database, run, ended, moment)
    told = without_a_store(ended.failed, ended.receipt, ended.stopped)
    if recorded.verdict in {told, GiveUp(Reason.LOST)}:  # lost: somebody else has written how it ended
        return recorded
    ending = ended.standing.ending_of(told, ended.failed)
    if isinstance(recorded.verdict, Retry):  # granted now, or by a call whose answer was lost: it comes back
        end_run(database, run, ending, ended.host, moment)
    before = None if written is None else written[0]  # what was written once, by a call whose answer was lost, stays
    end_with(database, run, told if before is None else None, ending)
    return recorded._replace(verdict=told, tokens=0.0)


@dataclass(slots=True)
class _Late:
    """An end that is kept: its transaction, and whom to tell of the answer.

    Attributes:
        is_lifted: the quarantine that it writes is over already.
    """

    run: Standing
    transaction: Callable[..., Any]
    asked: tuple[Any, ...]
    then: Callable[[Any], None]
    is_lifted: bool = False
    is_written: bool = False


class LateEnds:
    """Those of one store. Their runs are over, by what they came to; until it is written they hold their sessions."""

    def __init__(self, store: "SqliteStore") -> None:
        self._store = store
        self._waiting: list[_Late] = []
        self._task: asyncio.Task[None] | None = None

    async def try_now(self, record: Record, *asked: Any) -> Recorded:
        """Write it, asking a few times; StoreUnavailable if it cannot be written now."""
        until = self._store.clock.now() + _AGAIN_WITHIN_S
        for again_after_s in _AGAIN_AFTER_S:
            try:
                return await self._store.database.run(record, *asked, self._store.moment())
            except StoreUnavailable:
                if self._store.clock.now() >= until:  # it was locked for long: a run does not wait for that twice
                    raise
                await self._store.clock.sleep(again_after_s)
        return await self._store.database.run(record, *asked, self._store.moment())

    def add(
        self, run: Standing, transaction: Callable[..., Any], asked: tuple[Any, ...], then: Callable[[Any], None]
    ) -> None:
        """Keep it, and write it when that can be done; then tell `then` the answer."""
        self._waiting.append(_Late(run, transaction, asked, then))
        if self._task is None:
            self._task = start_plain(self._write_later())

    def has(self, run_id: str) -> bool:
        """Tell whether an end of a run is not written yet."""
        return any(late.run.run_id == run_id for late in self._waiting)

    def lift_later(self, run_id: str) -> bool:
        """Have a quarantine that is not written yet lifted once it is; tell whether there is one."""
        for late in self._waiting:
            if late.run.run_id == run_id:
                late.is_lifted = True
                return True
        return False

    async def _write_later(self) -> None:
        while self._waiting:
            await self._store.clock.sleep(_LATER_S)
            await self._write_all()
        self._task = None

    async def _write_all(self) -> None:
        while self._waiting:
            try:
                await self._write(self._waiting[0])
            except StoreUnavailable:
                return
            self._waiting.pop(0)

    async def _write(self, late: _Late) -> None:
        if not late.is_written:
            answer = await self._store.database.run(late.transaction, *late.asked, self._store.moment())
            late.is_written = True
            late.then(answer)
        if late.is_lifted:
            await self._store.lift_now(late.run.session, late.run.run_id)

    async def close(self) -> None:
        """Write what is left, if it can be written now."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None
        await self._write_all()
        for late in self._waiting:
            _log.warning("the end of a run of session %r was never written: it will be found lost", late.run.session)
