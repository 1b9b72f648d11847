"""What recovery asks of the store: who else has it open, what the dead have left, and how that ends."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from policies.failure import Failed, Receipt
from supervisor.store.sqlite import lost, owners, parked
from supervisor.store.sqlite.lost import LostAttempt, LostEnd, Quarantined
from supervisor.store.sqlite.owners import Owner

if TYPE_CHECKING:
    from supervisor.store.sqlite.store import SqliteStore


class Remains:
    """The part of a store that is about others. Each call is one transaction; it changes only what is still so."""

    def __init__(self, store: "SqliteStore") -> None:
        self._store = store
        self.lease_s = store.lease_s

    async def others(self) -> list[Owner]:
        """Return every other owner."""
        return await self._store.database.read(owners.others, self._store.owner)

    async def attempts_of(self, owner: str, judged_at: float | None = None) -> list[LostAttempt]:
        """Return the attempts that an owner has under way; none, if it has renewed since it was judged silent."""
        return await self._store.database.read(lost.attempts_of, owner, judged_at)

    async def take(self, attempt: LostAttempt, owner: Owner) -> bool:
        """Take an attempt from its silent owner, so that its tree may be stopped; False: it was heard, and keeps it."""
        if attempt.is_told:  # it ends in any case: nobody need wait for a writer again
            return True
        return await self._store.database.run(lost.take, attempt, owner.id, owner.renewed_at)

    async def end_between(self, owner: str) -> int:
        """End the runs of a dead owner that are in no attempt; return how many."""
        ended = await self._store.database.run(lost.end_between, owner, self._store.owner, self._store.moment())
        self._store.watching.wake_all()
        return ended

    async def pass_by(self, owner: Owner) -> int:
        """Take place and permit from the runs of a silent owner that are in no attempt; return of how many."""
        store, database = self._store, self._store.database
        if not await database.read(lost.has_anything, owner.id):  # mostly: nobody waits for a writer for that
            return 0
        passed = await database.run(lost.pass_by, owner.id, owner.renewed_at, store.owner, store.moment())
        store.watching.wake_all()
        return passed

    async def locks_of(self, owner: str) -> list[Path]:
        """Return the lock files that an owner's runs have named which are in no attempt."""
        return [Path(lock) for lock in await self._store.database.read(parked.locks_of, owner)]

    async def unused(self, owner: Owner, locks: Collection[Path]) -> list[Path]:
        """Return those of these lock files that no run with a permit has named; none, if the owner was heard since."""
        in_use = await self._store.database.read(parked.locks_in_use, owner.id, owner.renewed_at)
        return [] if in_use is None else [lock for lock in locks if str(lock) not in in_use]

    async def end_lost(
        self,
        attempt: LostAttempt,
        owner: str,
        failed: Failed | None,
        receipt: Receipt,
        judged_at: float | None = None,
    ) -> LostEnd | None:
        """End a lost attempt and its run; None: it had ended already, or its owner, judged silent, was heard since."""
        store = self._store
        asked = (attempt, owner, store.owner, failed, receipt, store.host, store.moment(), judged_at)
        end = await store.database.run(lost.end_lost, *asked)
        store.watching.wake_all()
        return end

    async def forget(self, owner: str) -> bool:
        """Forget an owner of whom nothing is left."""
        return await self._store.database.run(owners.unregister, owner)

    async def quarantines(self) -> list[Quarantined]:
        """Return every quarantine."""
        return await self._store.database.read(lost.quarantines)

    def is_idle(self) -> bool:
        """Whether no run of this process is under way."""
        return not self._store.standing
