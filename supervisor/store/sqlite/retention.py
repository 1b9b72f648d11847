"""What is forgotten of what is over: by age and by number, in batches that stop nobody for long.

The file does not shrink; what is freed in it is used again. No run ever fails, or waits, for this.
"""

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

from policies.breaker import Closed, HalfOpen, Open
from supervisor.errors import StoreUnavailable
from supervisor.lock.life_file import sweep
from supervisor.store.forgetting import FORGET_AFTER_S
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.database import Database
from supervisor.store.sqlite.jobs import forget_jobs
from supervisor.store.sqlite.rows import breaker_of, breaker_text
from supervisor.store.sqlite.ticks import forget_ticks
from supervisor.tasks import start_plain

if TYPE_CHECKING:
    from supervisor.store.sqlite.store import SqliteStore

BATCH: Final = 500
EVERY_RUNS: Final = 200
SWEEP_EVERY_S: Final = 3600.0
_OLDEST: Final = 1000
"""So many of the oldest runs are looked at for their age: no more is read where nothing is old."""
_MOST_BATCHES_AT_CLOSE: Final = 4

_log = logging.getLogger("turnkeeper")


class Retention:
    """Forgets for one store: beside its runs, once in 200 of them, and when it closes."""

    def __init__(self, store: "SqliteStore", keep_age_s: float | None, keep_runs: int) -> None:
        self._store = store
        self._keep = (keep_age_s, keep_runs)
        self._ended = 0
        self._task: asyncio.Task[None] | None = None

    def run_ended(self) -> None:
        """Count a run that has ended."""
        self._ended += 1
        if self._ended >= EVERY_RUNS and self._task is None:
            self._task = start_plain(self._forget(None))

    async def close(self) -> None:
        """Forget a last time, but no more than takes a moment."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._ended:
            await self._forget(_MOST_BATCHES_AT_CLOSE)

    async def forget_ticks(self) -> None:
        """Forget old ticks of jobs, a batch at a time, and jobs that are nobody's. Raises StoreUnavailable."""
        store = self._store
        await store.database.run(forget_jobs, store.clock.wall())
        while await store.database.run(forget_ticks, *self._keep, store.clock.wall(), BATCH) == BATCH:
            pass

    async def _forget(self, batches: int | None) -> None:
        store, self._ended = self._store, 0
        try:
            await retain(store.database, *self._keep, store.clock.wall(), batches)
            await self.forget_ticks()
            if await store.database.run(claim_sweep, store.clock.wall()):
                await _forget_sessions(store.database, store.clock.boottime())
                wanted = await store.database.read(wanted_lives)
                sweep(store.alive, lambda life: self._is_kept(life.name, wanted), store.clock.wall())
        except (StoreUnavailable, OSError) as error:
            _log.warning("what is old could not be forgotten: %s", error)
        finally:
            self._task = None

    def _is_kept(self, life: str, wanted: frozenset[str]) -> bool:
        """Say whether the word of a life file may still be asked for: of another database's this one does not know."""
        return life in wanted or ("-" in life and not life.startswith(self._store.life_prefix))


async def retain(
    database: Database, keep_age_s: float | None, keep_runs: int, wall: float, batches: int | None = None
) -> int:
    """Forget runs that ended longer than an age ago (None: at any), and all but the newest; return how many.

    `batches`: so many at most, of 500 each.
    """
    forgotten, done = 0, 0
    while batches is None or done < batches:
        number = await database.run(forget_runs, keep_age_s, keep_runs, wall)
        forgotten, done = forgotten + number, done + 1
        if number < BATCH:
            break
    return forgotten


def forget_runs(database: Connection, keep_age_s: float | None, keep_runs: int, wall: float) -> int:
    """Forget a batch of runs that are over, with their attempts and the policies that no other run is under."""
    [newest] = database.execute("SELECT coalesce(max(seq), 0) FROM runs").fetchone()
    is_over = "state = 'ended' AND id NOT IN (SELECT run_id FROM quarantines)"
    rows = database.execute(
        f"SELECT seq, policy_hash FROM runs WHERE seq <= ? AND {is_over} ORDER BY seq LIMIT ?",  # noqa: S608
        (newest - keep_runs, BATCH),
    ).fetchall()
    if keep_age_s is not None and len(rows) < BATCH:
        rows += database.execute(
            "SELECT seq, policy_hash FROM (SELECT * FROM runs WHERE seq > ? ORDER BY seq LIMIT ?)"  # noqa: S608
            f" WHERE {is_over} AND started_wall + coalesce(duration_s, 0) < ? ORDER BY seq LIMIT ?",
            (newest - keep_runs, _OLDEST, wall - keep_age_s, BATCH - len(rows)),
        ).fetchall()
    seqs = [(seq,) for seq, _ in rows]
    database.executemany("DELETE FROM attempts WHERE run = ?", seqs)
    database.executemany("DELETE FROM runs WHERE seq = ?", seqs)
    for policy_hash in {policy_hash for _, policy_hash in rows}:
        # One that is in use is met among the first rows; to look in vain takes all of them, once for each policy.
        if database.execute("SELECT 1 FROM runs WHERE policy_hash = ? LIMIT 1", (policy_hash,)).fetchone() is None:
            database.execute("DELETE FROM policies WHERE hash = ?", (policy_hash,))
    return len(rows)


# --- once an hour


def claim_sweep(database: Connection, wall: float) -> bool:
    """Tell whether it is time to sweep, and note that it is done now: by one process in an hour."""
    row = database.execute("SELECT value FROM meta WHERE key = 'swept_wall'").fetchone()
    if row is not None and abs(wall - row[0]) < SWEEP_EVERY_S:  # also after a clock was set back
        return False
    database.execute("INSERT OR REPLACE INTO meta VALUES ('swept_wall', ?)", (wall,))
    return True


async def _forget_sessions(database: Database, now: float) -> None:
    after: str | None = ""  # the host's own row stays
    while after is not None:
        after = await database.run(forget_sessions, after, now)


def forget_sessions(database: Connection, after: str, now: float) -> str | None:
    """Forget, of a batch of sessions, what nothing was added to for a week; return the last of them, None at the end.

    A session key may be new for each run: a row of failures is not kept for ever.
    """
    rows = database.execute(
        "SELECT session, breaker, spent, spent_at FROM sessions WHERE session > ? ORDER BY session LIMIT ?",
        (after, BATCH),
    ).fetchall()
    for session, text, spent, spent_at in rows:
        busy = "SELECT 1 FROM runs INDEXED BY runs_under_way WHERE session = ? AND state <> 'ended' LIMIT 1"
        if database.execute(busy, (session,)).fetchone() is not None:
            continue
        breaker = _lapsed(text, now)
        missing = 0.0 if spent_at < now - FORGET_AFTER_S else spent
        if breaker is None and not missing:
            database.execute("DELETE FROM sessions WHERE session = ?", (session,))
        else:
            database.execute(
                "UPDATE sessions SET breaker = ?, spent = ? WHERE session = ?", (breaker, missing, session)
            )
    return rows[-1][0] if len(rows) == BATCH else None


def _lapsed(text: str | None, now: float) -> str | None:
    """Return what is left of a breaker in which nothing is under way."""
    match state := breaker_of(text):
        case Closed():
            last = state.outcomes[-3] if state.outcomes else -math.inf
        case Open():
            last = state.until
        case HalfOpen():  # nobody is on trial: as good as open until now, and that has a moment
            return breaker_text(Open(state.generation, max(state.not_before, now), state.trips, state.wait_s))
    return None if last < now - FORGET_AFTER_S else text


def wanted_lives(database: Connection) -> frozenset[str]:
    """Return the names of the life files whose word somebody may still ask for."""
    named = database.execute(
        "SELECT life FROM owners UNION SELECT tree_life FROM runs JOIN attempts ON run = seq"
        " WHERE state <> 'ended' AND outcome IS NULL AND tree_life IS NOT NULL"
        " UNION SELECT tree_life FROM quarantines WHERE tree_life IS NOT NULL"
    )
    return frozenset(life.rpartition("/")[2] for (life,) in named)
