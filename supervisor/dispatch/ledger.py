"""The ledger of ticks in the store, as its dispatcher asks for it. Each call is one transaction."""

from collections.abc import Collection, Iterable, Mapping

from policies.failure import Gone
from policies.verdict import Retry
from supervisor.settings.values import Job
from supervisor.steps.running import Running
from supervisor.store.sqlite import adopting, open_ticks, owners, ticks
from supervisor.store.sqlite import jobs as job_rows
from supervisor.store.sqlite.adopting import Adopted
from supervisor.store.sqlite.jobs import Asked, JobState
from supervisor.store.sqlite.store import SqliteStore
from supervisor.store.sqlite.ticks import Claimed


class TickLedger:
    """What every `turnkeeper serve` on one state shares. Raises StoreUnavailable."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def sync(self, jobs: Iterable[Job], gone: Collection[str] = ()) -> dict[str, JobState]:
        """Take note of the jobs that there are, and of those that are `gone`; return what is remembered of each.

        From now on this process counts as one that runs jobs.
        """
        await self._store.database.run(owners.note_serving, self._store.owner)
        return await self._store.database.run(job_rows.sync, _asked(jobs), self._store.clock.wall, gone)

    async def name_again(self, names: Collection[str]) -> None:
        """Say that these jobs are still ours: what others do not know is nobody's after a time."""
        await self._store.database.run(job_rows.name_again, names, self._store.clock.wall())

    async def states(self) -> dict[str, JobState]:
        """Return what is remembered of each job."""
        return await self._store.database.read(job_rows.states)

    async def claim(self, jobs: Iterable[Job]) -> list[Claimed]:
        """Find the due ticks of jobs that nobody has found yet; return those to start here."""
        store = self._store
        await store.watching.renew_if_silent()
        return await store.database.run(ticks.claim, _asked(jobs), store.owner, store.clock.wall)

    async def take_over(self, jobs: Iterable[Job], carried: Collection[str]) -> list[Claimed]:
        """Take the ticks that their finder has not started, and cannot any more; none of those `carried` out here."""
        store = self._store
        if not await store.database.read(open_ticks.left, store.owner) - set(carried):  # mostly: no writer has to wait
            return []
        await store.watching.renew_if_silent()
        return await store.database.run(open_ticks.take_over, _asked(jobs), store.owner, store.clock.wall(), carried)

    async def adopt(self, jobs: Iterable[Job], carried: Collection[str]) -> list[Adopted]:
        """Take the runs whose retry is in nobody's hands; none of those `carried` out here. `go_on` must follow."""
        store = self._store
        left = await store.database.read(adopting.left, store.owner)
        if not any(self._is_nobodys(run_id, carried) for run_id in left):
            return []
        await store.watching.renew_if_silent()
        # Of this very moment: one that was in its attempt when they were read may wait for its retry by now.
        ours = {*carried, *store.standing, *filter(store.ends_later, left)}
        hashes: Mapping[str, str] = {job.name: job.policy.hash for job in jobs}
        adopted = await store.database.run(adopting.adopt, hashes, store.owner, store.moment(), ours)
        store.adopted.update(run.run_id for run in adopted)
        return adopted

    def _is_nobodys(self, run_id: str, carried: Collection[str]) -> bool:
        return run_id not in carried and run_id not in self._store.standing and not self._store.ends_later(run_id)

    def go_on(self, run: Running, adopted: Adopted) -> None:
        """Have a run be one that was adopted: it goes on, here, where its process has left it."""
        clock, ahead_s = self._store.clock, self._store.ahead_s()
        run.number, run.retries_below = adopted.number, adopted.retries_below
        run.retry_reserved, run.tokens = True, adopted.tokens
        run.started_unix = adopted.started_wall
        run.started_at = clock.now() - max(0.0, clock.wall() - adopted.started_wall)
        run.deadline = None if adopted.deadline_at is None else adopted.deadline_at - ahead_s
        at = adopted.retry_at - ahead_s
        run.resumes = Retry(at, max(0.0, at - clock.now()), adopted.tokens, Gone(("proved when it was found",)))
        self._store.go_on(run)

    def may_ask_again(self, run_id: str) -> bool:
        """Tell whether a run that the store did not let begin has ended there."""
        return not self._store.ends_later(run_id)

    async def give_up(self, reasons: Mapping[str, str]) -> None:
        """End the ticks of these runs, which nobody will start, each with its reason; those that are open, and ours."""
        await self._store.database.run(ticks.give_up, reasons, self._store.owner)

    async def forget(self) -> None:
        """Forget old ticks, as runs are forgotten."""
        await self._store.forget_ticks()

    async def claim_overdue(self, name: str, succeeded: float | None) -> bool:
        """Note that a job is told to be overdue; tell whether nobody else has told it."""
        store = self._store
        return await store.database.run(job_rows.claim_overdue, name, succeeded, store.clock.wall())


def asked(job: Job) -> Asked:
    """Return a job as the ledger is asked about it."""
    return Asked(job.name, job.schedule, job.schedule_text, job.offset_s, job.catch_up)


def _asked(jobs: Iterable[Job]) -> list[Asked]:
    return [asked(job) for job in jobs]
