"""The store that many processes share, each call one transaction: see `store.contract`.

The rows are the truth; what is kept here is who of this process waits for which of them to change.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policies.breaker import Admitted, State
from policies.budget import Bucket
from policies.failure import Failed, Receipt, Unknown
from policies.gate import Overlap
from policies.verdict import Reason, Retry, Verdict
from supervisor.clock import Clock
from supervisor.errors import StoreUnavailable
from supervisor.events import Events
from supervisor.lock.life_file import LifeFile
from supervisor.owner import this_process
from supervisor.store.contract import WAITING, Ending, Refused, Standing, Waiting
from supervisor.store.sqlite import admission, at_once, endings, hosting, ledger, lost, outcome, owners, waits
from supervisor.store.sqlite.asking import Asking, Began, Changed, Ended, Moment, Recorded, asking_of
from supervisor.store.sqlite.database import Database, FileDatabase
from supervisor.store.sqlite.late import LateEnds, record_late, without_a_store
from supervisor.store.sqlite.owners import Life, Owner
from supervisor.store.sqlite.retention import Retention
from supervisor.store.sqlite.telling import Telling
from supervisor.store.sqlite.watching import Watching

if TYPE_CHECKING:
    from supervisor.alerts.ledger import AlertLedger

_log = logging.getLogger("turnkeeper")

DEFAULT_LEASE_S: Final = 30.0


class SqliteStore:
    """State in the SQLite file at `path`.

    `make_life` makes the life file of this process in a folder; `lease_s`: how long a silent process is believed;
    `keep_age_s` (None: of any age), `keep_runs`: which of the runs that are over are kept, and how many. The file is
    opened by `open`, which raises StoreUnavailable, as every call does that must be sure of what it is told.
    """

    def __init__(
        self,
        path: Path,
        lease_s: float = DEFAULT_LEASE_S,
        database: Database | None = None,
        make_life: Callable[[Path, str, float], Life] = LifeFile.make,
        keep_age_s: float | None = None,
        keep_runs: int = 100_000,
    ) -> None:
        self.path = path
        self.lease_s = lease_s
        self.alive: Path = path.parent / "alive"
        self.life_prefix = f"{sha256(path.name.encode()).hexdigest()[:8]}-"
        self.database: Database = database or FileDatabase(path)
        self._make_life = make_life
        self._life: Life | None = None
        self.owner = ""
        self.standing: dict[str, Standing] = {}
        self.adopted: set[str] = set()  # from the row that says so until `go_on`
        self._came: dict[str, tuple[int, int]] = {}  # the places of runs that wait and do not stand in line yet
        self._begun: dict[str, Began] = {}  # attempts that began as their runs arrived, until `begin` asks for them
        self.on_begin: Callable[[], None] | None = None
        self.on_refused: Callable[[], Awaitable[bool]] | None = None
        self._retention = Retention(self, keep_age_s, keep_runs)
        self.missed = 0
        """Ends of runs that could not be written: what a run came to is never changed by that."""

    @property
    def alert_ledger(self) -> "AlertLedger":
        """What all who share this store decide their alerts by."""
        from supervisor.store.sqlite.alerts import SharedLedger

        return SharedLedger(self)

    async def open(self, clock: Clock, events: Events, host: Bucket | None) -> None:
        self.clock, self.host = clock, host
        self._telling = Telling(clock, events)
        await self.database.open()
        try:
            self.owner = self.life_prefix + clock.token(8)
            self._life = self._make_life(self.alive, self.owner, clock.wall())
            me = this_process()
            owner = Owner(self.owner, me.pid, str(self._life.path), 0.0)
            newest = await self.database.run(owners.register, owner, me.boot_id, self.moment())
        except BaseException:
            if self._life is not None:
                self._life.close()
            await self.database.close()
            raise
        self.watching = Watching(self, newest)
        self._late = LateEnds(self)

    def change_host(self, host: Bucket | None) -> None:
        self.host = host

    async def close(self) -> None:
        await self.watching.close()
        await self._late.close()
        await self._retention.close()
        try:
            await self.watching.renew()  # every run is over: what is under way all the same is ended
            may_go = await self.database.run(owners.unregister, self.owner)
        except StoreUnavailable as error:
            _log.warning("the state could not be told that this process ends: %s", error)
            may_go = False
        if may_go and self._life is not None:  # else it says that we live, for as long as we do
            self._life.close()
        await self.database.close()

    def moment(self) -> Moment:
        """Return now, as transactions want it."""
        return Moment(self.clock.boottime(), self.clock.wall(), self.clock.draw)

    def ends_later(self, run_id: str) -> bool:
        """Tell whether the end of a run is not written yet: under its id nothing may begin before that."""
        return self._late.has(run_id)

    def go_on(self, run: Standing) -> None:
        """Take note of a run that was adopted: it is under way, though it asks for nothing before its retry is due."""
        self.standing[run.run_id] = run
        self.adopted.discard(run.run_id)
        self.watching.begin()
        if self.on_begin is not None:
            self.on_begin()

    def ahead_s(self) -> float:
        """Return by how much the store's clock is ahead of the loop's."""
        return self.clock.boottime() - self.clock.now()

    def asking(self, run: Standing) -> Asking:
        """Return a run as it asks now."""
        return asking_of(run, self.owner, self.clock.now(), self.ahead_s())

    # --- admission

    async def arrive(self, run: Standing) -> Refused | Waiting | None:
        self.standing[run.run_id] = run
        await self.watching.renew_if_silent()
        answer = await self._arrive(run)
        hopeless = isinstance(answer, Refused) and answer.until is None
        if hopeless and self.on_refused is not None and await self.on_refused():  # it was for somebody who is dead
            answer = await self._arrive(run)
        answer = self.on_our_clock(answer)
        self.watching.begin()
        if self.on_begin is not None:
            self.on_begin()
        if isinstance(answer, Waiting):  # here, too, they stand as they came
            self._came[run.run_id] = self.watching.next_place(int(answer is admission.AS_NEWEST))
            answer = WAITING
            if run.number == 0 and run.policy.gate.overlap is not Overlap.QUEUE:
                self.watching.wake(run.session, everybody=True)  # one may be displaced
                with suppress(StoreUnavailable):  # the tick hears them
                    await self.watching.hear_stops()
        if answer is WAITING or answer is None:
            run.holds_permit = answer is None
        return answer

    async def _arrive(self, run: Standing) -> Refused | Waiting | None:
        if run.number or not run.begins_at_once:
            return await self.database.run(admission.arrive, self.asking(run), self.moment())
        answer, began = await self.database.run(at_once.arrive_and_begin, self.asking(run), self.host, self.moment())
        if began is not None:
            self._begun[run.run_id] = began
        return answer

    def on_our_clock(self, answer: Refused | Waiting | None) -> Refused | Waiting | None:
        """Return an answer, with the moment of a refusal as the loop counts it."""
        if isinstance(answer, Refused) and answer.until is not None:
            return Refused(answer.reason, answer.detail, answer.until - self.ahead_s(), answer.seen)
        return answer

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        return await waits.for_turn(self, run, self._came.pop(run.run_id, None), until)

    async def leave(self, run: Standing) -> None:
        self._came.pop(run.run_id, None)
        run.holds_permit = False
        began = self._begun.pop(run.run_id, None)
        try:
            if began is None:
                await self.database.run(admission.leave, self.asking(run))
            else:
                await self.database.run(at_once.leave_begun, self.asking(run), began.fence, self.moment())
        except StoreUnavailable as error:
            self._miss("a place could not be given up", error)
        if began is not None:
            self._telling.breaker(run, began.breaker)
        self._wake_others(run, everybody=began is not None)

    # --- the attempt

    async def begin(self, run: Standing) -> Refused | None:
        began = self._begun.pop(run.run_id, None)
        if began is None:
            began = await self.database.run(admission.begin, self.asking(run), self.host, self.moment())
        self._telling.breaker(run, began.breaker)
        if began.refused is not None:
            run.holds_permit = False
            self._wake_others(run)
            refused = self.on_our_clock(began.refused)
            assert isinstance(refused, Refused), "it was one"
            return refused
        run.fence, run.admitted = began.fence, Admitted(began.generation, began.trial)
        run.number += 1
        run.retry_reserved = False
        if began.stop is not None:  # told to end since it got its permit: what is begun is not launched
            run.interrupt(Reason(began.stop))
        return None

    async def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        tokens = run.tokens if run.never_launched and run.number > 1 else None
        asked = (self.asking(run), Ended(run, failed, receipt, stopped, tokens, self.host))
        run.holds_permit = False
        try:
            recorded = await self._late.try_now(outcome.record_attempt, *asked)
        except StoreUnavailable as error:
            self._miss(f"the end of an attempt of {run.session!r} is not written yet", error)
            run.is_written = False
            self._late.add(run, record_late, asked, partial(self._late_is_written, run, receipt))
            return without_a_store(failed, receipt, stopped)
        verdict: Verdict = recorded.verdict
        if isinstance(verdict, Retry):
            run.retry_reserved, run.tokens = True, recorded.tokens
            verdict = verdict._replace(at=verdict.at - self.ahead_s())
        else:
            self._over(run)
        self._heed(run, receipt, recorded)
        return verdict

    def _heed(self, run: Standing, receipt: Receipt, recorded: Recorded) -> None:
        """Tell what the end of an attempt has changed."""
        changed = recorded.breaker
        self._telling.breaker(run, changed)
        if recorded.quarantined and isinstance(receipt, Unknown):
            self._telling.quarantined(run, receipt)
        self._wake_others(run, everybody=recorded.quarantined or (changed is not None and changed.is_one))

    async def end(self, run: Standing, ending: Ending) -> None:
        asked = (self.asking(run), ending, self.host)
        try:
            changed = await self.database.run(endings.end_run, *asked, self.moment())
        except StoreUnavailable as error:  # what it came to stands; what it had comes back later
            self._miss(f"the end of a run of {run.session!r} is not written yet", error)
            self._late.add(run, endings.end_run, asked, partial(self._ended, run))
        else:
            self._ended(run, changed)

    def _ended(self, run: Standing, changed: Changed | None) -> None:
        run.retry_reserved = False
        self._telling.breaker(run, changed)
        self._over(run)
        self._wake_others(run, everybody=run.number > 0)

    def _wake_others(self, run: Standing, *, everybody: bool = False) -> None:
        self.watching.wake(run.session, everybody=everybody)
        self.watching.wake(ledger.HOST)

    def _late_is_written(self, run: Standing, receipt: Receipt, recorded: Recorded) -> None:
        """Its end is in the database at last: it holds its session no more."""
        run.is_written = True
        if run.when_written is not None:
            run.when_written()
            run.when_written = None
        self._over(run)
        self._heed(run, receipt, recorded)

    async def forget_ticks(self) -> None:
        """Forget old ticks of jobs: many end without a run. Raises StoreUnavailable."""
        await self._retention.forget_ticks()

    async def end_undriven(self, run_id: str) -> None:
        """End a run of ours that nobody carries out: one of its calls had happened, though it was told it failed."""
        if await self.database.run(lost.end_undriven, run_id, self.owner, self.moment()):
            _log.warning("run %s was under way, and nobody carried it out: it is ended", run_id)
            self.watching.wake_all()

    def _over(self, run: Standing) -> None:
        if self.standing.get(run.run_id) is run:  # another one may go on under its id: it was taken, and adopted
            del self.standing[run.run_id]
            self._came.pop(run.run_id, None)
            self._begun.pop(run.run_id, None)
        self._retention.run_ended()

    # --- the host's slots

    async def slot(self, run: Standing, slots: Callable[[], int], rank: int, until: float | None) -> bool:
        return await waits.for_slot(self, run, slots, rank, until)

    async def give_slot(self, run: Standing) -> None:
        await self.database.run(hosting.give_slot, self.asking(run))
        self.watching.wake(ledger.HOST)

    # --- what lasts

    async def breaker_moved(self, session: str, seen: State | None, until: float | None) -> None:
        await waits.for_breaker(self, session, seen, until)

    async def lift(self, session: str, run_id: str) -> None:
        if not self._late.lift_later(run_id):
            await self.lift_now(session, run_id)

    async def lift_now(self, session: str, run_id: str) -> None:
        """Lift a quarantine that is written."""
        if await self.database.run(lost.lift, session, run_id, self.owner):
            self._telling.lifted(session, run_id)
        self.watching.wake(session, everybody=True)

    async def reset(self, session: str) -> None:
        from supervisor.store.sqlite import operate  # what only an operator asks for

        await self.database.run(operate.reset, session, self.owner)
        self.watching.wake(session, everybody=True)

    def _miss(self, what: str, error: StoreUnavailable) -> None:
        self.missed += 1
        _log.warning("%s: %s", what, error)
