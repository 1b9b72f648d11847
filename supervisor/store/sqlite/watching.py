"""What wakes the runs of this process: its own changes, and the news of other processes, looked for by polling.

While runs are under way here, one task ticks: 5 ms apart while anybody waits in a line, else 100 ms. It reads the news
(`PRAGMA data_version` says for nothing whether there can be any), ends runs that others want ended, and renews our
owner's row.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from policies.verdict import Reason
from supervisor.errors import StoreUnavailable
from supervisor.store.sqlite import ledger, owners
from supervisor.store.sqlite.asking import Connection
from supervisor.tasks import start_plain, wait_until

if TYPE_CHECKING:
    from supervisor.store.sqlite.store import SqliteStore

POLL_S: Final = 0.005
IDLE_POLL_S: Final = 0.1
_log = logging.getLogger("turnkeeper")


class Place:
    """Somebody who waits for news of a session, or of the host."""

    __slots__ = ("_future", "order", "stands")

    def __init__(self, order: tuple[int, int], *, stands: bool) -> None:
        self.order = order
        self.stands = stands
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_news(self) -> "asyncio.Future[None]":
        """Return what is done once there is news that came after this call."""
        if self._future.done():
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class Watching:
    """Those who wait, by session; and the task that ticks for them."""

    def __init__(self, store: "SqliteStore", newest: int, poll_s: float = POLL_S) -> None:
        self._store = store
        self._newest = newest
        self._poll_s = poll_s
        self._waiting: dict[str, list[Place]] = {}
        self._count = 0
        self._in_line = 0
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._renewed_at = store.clock.boottime()
        self._failing = False
        self._heard = True  # False: there may be news that were not read to the end
        self._stops_heard = True
        self._closed = False

    # --- who waits

    @contextmanager
    def in_line(self, session: str, order: tuple[int, int] | None = None) -> Iterator[Place]:
        """Keep a place in the line of a session, or of the host; its news are polled for often.

        `order`: the place that was kept for it by `next_place`.
        """
        self._in_line += 1
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        try:
            with self._place(session, order, stands=True) as place:
                yield place
        finally:
            self._in_line -= 1
            self.wake(session)  # it may have been woken in vain: the next one looks

    @contextmanager
    def of_session(self, session: str) -> Iterator[Place]:
        """Be woken by any news of a session."""
        with self._place(session, None, stands=False) as place:
            yield place

    @contextmanager
    def _place(self, session: str, order: tuple[int, int] | None, *, stands: bool) -> Iterator[Place]:
        place = Place(order or self.next_place(), stands=stands)
        self._waiting.setdefault(session, []).append(place)
        self.begin()
        try:
            yield place
        finally:
            places = self._waiting[session]
            places.remove(place)
            if not places:
                del self._waiting[session]

    def next_place(self, rank: int = 0) -> tuple[int, int]:
        """Return the place behind all that were given; those of a higher rank stand behind all of a lower one."""
        self._count += 1
        return rank, self._count

    def to_the_end(self, place: Place) -> None:
        """It has lost its place in line, and has a new one behind those who came meanwhile."""
        place.order = self.next_place()

    def wake(self, session: str, *, everybody: bool = False) -> None:
        """Have those of this process look again who wait for a session: of those in line the first, unless all must."""
        places = self._waiting.get(session)
        if not places:
            return
        first = min((place.order for place in places if place.stands), default=None)
        for place in places:
            if everybody or not place.stands or place.order == first:
                place.wake()

    def wake_all(self) -> None:
        """Have everybody look again."""
        for session in tuple(self._waiting):
            self.wake(session, everybody=True)

    # --- the tick

    def begin(self) -> None:
        """Tick, if that is not done already."""
        if self._task is None and not self._closed:
            self._task = start_plain(self._tick())

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _tick(self) -> None:
        store = self._store
        try:
            while store.standing or self._waiting:
                await self._pause()
                try:
                    await self._look()
                except StoreUnavailable as error:
                    if not self._failing:
                        _log.warning("the state cannot be read, it is tried again: %s", error)
                    self._failing = True
                    await store.clock.sleep(IDLE_POLL_S)
                else:
                    self._failing = False
        finally:
            self._task = None

    async def _pause(self) -> None:
        """Sleep until the next tick; one who joins a line meanwhile does not wait for an idle one."""
        clock = self._store.clock
        if self._in_line:
            await clock.sleep(self._poll_s)
            return
        self._idle = asyncio.get_running_loop().create_future()
        await wait_until(self._idle, clock.now() + IDLE_POLL_S)
        self._idle = None

    async def _look(self) -> None:
        store = self._store
        heard, self._heard = self._heard, False  # a look that fails is made again
        if await store.database.changed() or not heard:
            await self._hear()
        self._heard = True
        if not self._stops_heard:
            await self.hear_stops()
        if store.clock.boottime() - self._renewed_at >= store.lease_s / 3:
            await self.renew()
            await self.hear_stops()

    async def renew_if_silent(self) -> None:
        """Renew before something is begun, where nothing was under way for a while."""
        if self._store.clock.boottime() - self._renewed_at >= self._store.lease_s / 6:
            await self.renew()

    async def renew(self) -> None:
        """Write that we live, and end what is under way of ours with nobody to carry it out."""
        store = self._store
        now = store.clock.boottime()
        ours = await store.database.run(owners.renew, store.owner, store.moment())
        self._renewed_at = now
        for run_id in ours:
            if run_id not in store.standing and run_id not in store.adopted:
                await store.end_undriven(run_id)

    async def _hear(self) -> None:
        """Read the news. They count as read only when all that they ask for was done."""
        news = await self._store.database.read(_news_after, self._newest)
        if not news:
            return
        changes = {(session, kind) for _, session, kind in news}
        must_stop = any(kind == "stop" for _, kind in changes)
        sessions = {session for session, _ in changes}
        if news[0][0] > self._newest + 1 or (ledger.HOST, "changed") in changes:  # some are forgotten; about everybody
            sessions = set(self._waiting)
            changes = {(session, "changed") for session in sessions}
            must_stop = True
        for session in sessions:
            self.wake(session, everybody=(session, "changed") in changes)
        if must_stop:
            await self.hear_stops()
        self._newest = news[-1][0]

    async def hear_stops(self) -> None:
        """End the runs of this process that somebody wants ended. Where they cannot be read, the tick reads them."""
        self._stops_heard = False
        stops = await self._store.database.read(_stops, self._store.owner)
        self._stops_heard = True
        for run_id, reason in stops:
            run = self._store.standing.get(run_id)
            if run is not None:
                run.interrupt(Reason(reason))


def _news_after(database: Connection, newest: int) -> list[tuple[int, str, str]]:
    return database.execute("SELECT seq, session, kind FROM news WHERE seq > ? ORDER BY seq", (newest,)).fetchall()


def _stops(database: Connection, owner: str) -> list[tuple[str, str]]:
    return database.execute(
        "SELECT id, stop FROM runs WHERE owner = ? AND stop IS NOT NULL AND state <> 'ended'", (owner,)
    ).fetchall()
