"""Runs whose supervisor died, or stands still: found, their trees proved gone, their attempts counted as lost, once.

Any number of processes do so at once. An owner is dead by its life file's word alone, and its session is then free at
once. One that lives and is silent, for longer than the lease, is passed by; the tree of its attempt is asked to stop
by its warden, and only when that is proved gone is the lease taken.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from policies.failure import Failed, Gone, Kind, Receipt, Unknown, not_proved_dead
from policies.policy import Pids
from supervisor.clock import Clock
from supervisor.errors import Failure, StoreUnavailable
from supervisor.events import AttemptLost, Events, SessionQuarantined
from supervisor.lock.life_file import Death, Exited, RecordedOwner
from supervisor.lock.session_lock import LockFiles
from supervisor.owner import RecordedTree
from supervisor.recovery.silence import Silence
from supervisor.store.contract import Store
from supervisor.tasks import start_plain
from supervisor.tree.contract import Launcher

if TYPE_CHECKING:
    from supervisor.store.sqlite.lost import LostAttempt, Quarantined
    from supervisor.store.sqlite.owners import Owner
    from supervisor.store.sqlite.remains import Remains

LOOK_S: Final = 0.1
"""Between two looks at the life files of others: a killed owner's session is free within that, and its tree's end."""

ASK_S: Final = 0.01
CLOSELY_S: Final = 0.25
"""For a tree that was asked to stop without grace, where somebody is refused for it; else the next look finds it."""
TAKING_S: Final = 2.0
"""For one that an operator has told to stop: its warden needs no grace."""

_log = logging.getLogger("turnkeeper")


class Fate(StrEnum):
    """Why an owner does not end its attempts itself, as the receipts say it."""

    DEAD = "died"
    SILENT = "was silent for longer than the lease"
    UNKNOWN = "was silent for longer than the lease, and nothing says whether it lives"
    UNHEARD = "did not answer when it was told to stop"


OwnerDeath = Callable[[RecordedOwner], Death]


class LostRuns:
    """Looks for them: once at the start, and while runs are under way here."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        remains: "Remains",
        events: Events,
        launcher: Callable[[], Launcher],
        locks: LockFiles,
        owner_death: OwnerDeath,
    ) -> None:
        self._clock, self._store, self._remains, self._events = clock, store, remains, events
        self._launcher, self._locks, self._owner_death = launcher, locks, owner_death
        self._silence = Silence(remains.lease_s)
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._wait_s = 0.0
        self._troubles: set[str] = set()  # what could not be looked at the last time, and was told of

    def begin(self) -> None:
        """Go on looking while runs are under way."""
        if self._task is None:
            self._task = start_plain(self._keep_looking())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _keep_looking(self) -> None:
        try:
            while not self._remains.is_idle():
                await self._clock.sleep(LOOK_S)
                try:
                    await self._despite_trouble("the runs of dead processes", self.look())
                except StoreUnavailable as error:
                    _log.debug("no look for lost runs: %s", error)
        finally:
            self._task = None

    async def look_closely(self) -> bool:
        """Look, and wait a little for the trees of the dead; tell whether anything was freed."""
        return await self.look(CLOSELY_S)

    async def look(self, wait_s: float = 0.0) -> bool:
        """Look at every other owner; tell whether anything was freed."""
        async with self._looking:
            self._wait_s = wait_s
            freed = False
            others = await self._remains.others()
            self._silence.see(others, self._clock.now(), self._clock.boottime())
            for owner in others:
                freed = await self._despite_trouble(f"process {owner.pid} ({owner.id})", self._look_at(owner)) or freed
            return await self._lift_quarantines() or freed

    async def _look_at(self, owner: "Owner") -> bool:
        death = self._owner_death(RecordedOwner(owner.id, Path(owner.life), owner.renewed_at))
        if death is Death.GONE:
            return await self._bury(owner)
        if self._silence.is_too_long(owner.id):
            return await self._pass_by(owner, Fate.UNKNOWN if death is Death.UNKNOWN else Fate.SILENT)
        return False

    async def _despite_trouble(self, what: str, step: Coroutine[Any, Any, bool]) -> bool:
        """Do one step of a look; trouble with it is logged once until it is over, and keeps nobody from the rest."""
        try:
            done = await step
        except StoreUnavailable:
            raise
        except Exception as error:
            if what not in self._troubles:
                is_foreseen = isinstance(error, OSError | Failure)
                _log.warning("%s cannot be looked after: %s", what, error, exc_info=None if is_foreseen else error)
            self._troubles.add(what)
            return False
        self._troubles.discard(what)
        return done

    async def lift_quarantines(self) -> bool:
        """Lift what is seen to have ended; tell whether anything was."""
        async with self._looking:
            return await self._lift_quarantines()

    async def _bury(self, owner: "Owner") -> bool:
        """End everything that a dead owner has under way, then forget it."""
        freed = await self._remains.end_between(owner.id) > 0
        for attempt in await self._remains.attempts_of(owner.id):
            freed = await self._end(attempt, owner, Fate.DEAD) or freed
        if await self._remains.forget(owner.id):
            self._silence.forget(owner.id)
            _remove(Path(owner.life))
        return freed

    async def _pass_by(self, owner: "Owner", fate: Fate) -> bool:
        """Let nobody wait for a silent owner.

        What one that lives does in its own process is left alone: that cannot be stopped. Of one that nothing is known
        of it becomes a quarantine. It may wake at any moment: each step is taken only if it was not heard meanwhile.
        """
        wardens = {lock: self._locks.warden_of(lock, owner.pid) for lock in await self._remains.locks_of(owner.id)}
        freed = await self._remains.pass_by(owner) > 0
        await self._end_parked(owner, {lock: warden for lock, warden in wardens.items() if warden is not None})
        for attempt in await self._remains.attempts_of(owner.id, owner.renewed_at):
            if fate is Fate.UNKNOWN if attempt.tree is None else await self._remains.take(attempt, owner):
                freed = await self._end(attempt, owner, fate) or freed
        return freed

    async def _end_parked(self, owner: "Owner", wardens: dict[Path, RecordedTree]) -> None:
        """Have the wardens end that were seen to have a lock for a run which has no permit now: it begins nothing."""
        for lock in await self._remains.unused(owner, wardens) if wardens else ():
            self._launcher().stop_tree(wardens[lock])

    async def bury_if_dead(self, owner: "Owner") -> None:
        """End everything that an owner has under way, if it is dead."""
        async with self._looking:
            self._wait_s = CLOSELY_S
            if self._owner_death(RecordedOwner(owner.id, Path(owner.life), owner.renewed_at)) is Death.GONE:
                await self._bury(owner)

    async def take(self, owner: "Owner", run_ids: Collection[str]) -> None:
        """End attempts of an owner that was asked to end these runs, and did not answer: those of commands."""
        async with self._looking:
            self._wait_s = TAKING_S
            for attempt in await self._remains.attempts_of(owner.id):
                if attempt.tree is not None and attempt.run_id in run_ids:
                    await self._end(attempt, owner, Fate.UNHEARD)

    async def _end(self, attempt: "LostAttempt", owner: "Owner", fate: Fate) -> bool:
        what = f"attempt {attempt.number} of run {attempt.run_id}"
        return await self._despite_trouble(what, self._end_one(attempt, owner, fate))

    async def _end_one(self, attempt: "LostAttempt", owner: "Owner", fate: Fate) -> bool:
        death, exited = Death.GONE, Exited(None, None)
        if attempt.tree is not None:
            death, exited = await self._tree_gone(attempt.tree, owner.renewed_at)
        if death is Death.ALIVE:
            return False  # it was asked to stop: its end comes later
        receipt = _receipt(attempt, death, fate)
        failed = _failure(exited, fate)
        if isinstance(receipt, Unknown):
            failed = not_proved_dead(failed)
        judged_at = owner.renewed_at if fate in (Fate.SILENT, Fate.UNKNOWN) else None
        end = await self._remains.end_lost(attempt, owner.id, failed, receipt, judged_at)
        if end is None:
            return False
        self._tell(attempt, end.failed, receipt)
        if attempt.tree is not None and isinstance(receipt, Gone) and attempt.tree.life is not None:
            _remove(attempt.tree.life)
        if attempt.lock is not None and isinstance(receipt, Gone):
            with suppress(Failure, OSError):  # its folder may be gone by now
                await self._locks.judge(attempt.lock, Pids.UNKNOWN)  # it is reclaimed, if its holder is proved dead
        return True

    async def _tree_gone(self, tree: RecordedTree, renewed_at: float) -> tuple[Death, Exited]:
        launcher, until = self._launcher(), self._clock.now() + self._wait_s
        asked = False
        while True:
            death, exited = launcher.tree_gone(tree, renewed_at)
            if death is Death.ALIVE and not asked:
                asked = launcher.stop_tree(tree)
            if death is not Death.ALIVE or self._clock.now() >= until:
                return death, exited
            await self._clock.sleep(ASK_S)

    def _tell(self, attempt: "LostAttempt", failed: Failed | None, receipt: Receipt) -> None:
        if not self._events.listeners:
            return
        about = (attempt.session, attempt.run_id, self._clock.wall())
        if failed is not None and failed.kind is not Kind.CANCELLED:  # else somebody has told it to stop
            self._events.emit(AttemptLost(*about, attempt.number, failed.message))
        if isinstance(receipt, Unknown):
            self._events.emit(SessionQuarantined(*about, receipt))

    async def _lift_quarantines(self) -> bool:
        """Lift what is seen to have ended, whoever had left it: a far end can only be asked by those who know it."""
        lifted = False
        for left in await self._remains.quarantines():
            what = f"what run {left.run_id} of session {left.session!r} left"
            lifted = await self._despite_trouble(what, self._lift_if_gone(left)) or lifted
        return lifted

    async def _lift_if_gone(self, left: "Quarantined") -> bool:
        if left.elsewhere:
            return False
        if left.tasks:
            if left.owner_life is None:
                return False
            if self._owner_death(RecordedOwner(left.owner, Path(left.owner_life), 0.0)) is not Death.GONE:
                return False
        if left.tree is not None and self._launcher().tree_gone(left.tree, left.known_at)[0] is not Death.GONE:
            return False
        if left.tree is None and not left.tasks:
            return False
        await self._store.lift(left.session, left.run_id)
        if left.tree is not None and left.tree.life is not None:
            _remove(left.tree.life)
        return True


def _receipt(attempt: "LostAttempt", death: Death, fate: Fate) -> Receipt:
    if attempt.elsewhere:
        return Unknown((f"the far end of attempt {attempt.number} of run {attempt.run_id}, whose supervisor died",))
    if attempt.tree is None and fate is Fate.UNKNOWN:
        return Unknown((f"attempt {attempt.number} of run {attempt.run_id}: nothing says whether its process lives",))
    if attempt.tree is None:
        return Gone(("its process is dead",))
    if death is Death.GONE:
        return Gone((f"its supervisor {fate}", "its warden says that the tree is gone"))
    return Unknown((f"what warden {attempt.tree.pid} had below it, which was killed, as its supervisor was",))


def _failure(exited: Exited, fate: Fate) -> Failed | None:
    """Return what a lost attempt failed by. One whose command had succeeded did not fail, whatever became of us."""
    if exited.code == 0:
        return None
    return Failed(
        Kind.LOST,
        f"its supervisor {fate} during the attempt" if fate is Fate.DEAD else f"its supervisor {fate}",
        None,
        exited.code,
        exited.signal,
    )


def _remove(life: Path) -> None:
    with suppress(OSError):  # a sweep finds it later
        life.unlink(missing_ok=True)
