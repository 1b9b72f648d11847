"""Park, begin, go: the lock file in the attempt's name, the attempt's row, then the work in a task of its own."""

import asyncio
from inspect import isawaitable
from pathlib import Path
from typing import Any, NoReturn

from policies.failure import Refusal
from policies.policy import LockedBy
from supervisor.attempt import CURRENT, Attempt, not_awaitable
from supervisor.errors import Failure, SessionLocked
from supervisor.events import AttemptStarted
from supervisor.steps.admit import give_up_place, too_late
from supervisor.steps.running import Running
from supervisor.steps.stop import stop, watch_time
from supervisor.store.contract import Refused
from supervisor.tasks import Now, Pending, settled, start_plain, to_the_end, wait_until
from supervisor.work.contract import ParkedWork


async def park(run: Running, attempt: Attempt) -> Refused | None:
    """Make the work ready and take the lock file that the run names: one try with everything held, and where it is
    busy, wait without a slot.

    Refused (busy): the run holds nothing. A lock that cannot be had at all becomes the attempt's failure.
    """
    attempt.deadline = run.deadline
    run.tree = None
    try:
        return await _park(run, attempt)
    except SessionLocked as busy:
        await give_up_place(run)
        return Refused(Refusal.BUSY, str(busy))
    except Failure as failure:
        attempt._error = failure
        return None
    except BaseException:
        await to_the_end(attempt._unpark(), run.note_cancelled)
        await give_up_place(run)
        raise


async def _park(run: Running, attempt: Attempt) -> Refused | None:
    rule, path = run.policy.lock, run.lock_path
    while not (ready := await _try_to_park(run, attempt, path)):
        assert path is not None, "only a lock can be busy"
        if run.host is not None:
            await run.host.lend(run)
        rule = await attempt._until_free(path, rule)
        if run.host is not None:  # to the head of the host's line, then one try again
            refused = await run.host.enter(run, at_head=True)
            if refused is not None:
                await give_up_place(run)
                return refused
    return ready if isinstance(ready, Refused) else None


async def _try_to_park(run: Running, attempt: Attempt, path: Path | None) -> bool | Refused:
    """Say whether all is ready; False: somebody has the lock. Refused: the run's time was over first."""
    work = run.parks
    if work is None:
        return path is None or attempt._take_now(path)
    rule = run.policy.lock
    if path is not None and rule.by is LockedBy.COMMAND and await run.effects.locks.judge(path, rule.pids) is not None:
        return False
    return await _park_in_time(run, attempt, work, path)


async def _park_in_time(run: Running, attempt: Attempt, work: ParkedWork[Any], path: Path | None) -> bool | Refused:
    """Await the work's parking until the run's deadline: a warden may hang as it starts."""
    parking = start_plain(_parked(work, attempt, path))
    try:
        await wait_until(parking, run.deadline)
        refused = too_late(run)
        if refused is None:
            return parking.result()
    finally:
        parking.cancel()
        await to_the_end(wait_until(parking, None), run.note_cancelled)
        if not parking.cancelled():
            parking.exception()  # it is seen: asyncio has nothing to say of it
    await to_the_end(attempt._unpark(), run.note_cancelled)
    await give_up_place(run)
    return refused


async def _parked(work: ParkedWork[Any], attempt: Attempt, path: Path | None) -> bool:
    return await work.park(attempt, path)


def begin(run: Running, attempt: Attempt) -> Now[Refused | None]:
    """One transaction: the breaker's admission, the fence, the attempt's number. Refused: the run holds nothing.

    A run that waited, or whose loop was blocked, may be here after its deadline: it is refused.
    """
    attempt._started_at = now = run.effects.clock.now()
    if run.deadline is not None and now >= run.deadline:
        return _begin(run, attempt, too_late(run))
    try:
        refused = run.effects.store.begin(run)
    except BaseException as error:
        return _not_begun(run, attempt, error)
    if refused is not None:
        return _begin(run, attempt, refused)
    run.start_charged = False
    return None


async def _begin(run: Running, attempt: Attempt, answer: Now[Refused | None]) -> Refused | None:
    run.is_beginning = True
    try:
        refused = await settled(answer, run.note_cancelled)
    except BaseException as error:
        return await _not_begun(run, attempt, error)
    finally:
        run.is_beginning = False
    attempt._started_at = run.effects.clock.now()
    if refused is not None:
        await to_the_end(attempt._unpark(), run.note_cancelled)
        await give_up_place(run)
        return refused
    run.start_charged = False
    return None


async def _not_begun(run: Running, attempt: Attempt, error: BaseException) -> NoReturn:
    await to_the_end(attempt._unpark(), run.note_cancelled)
    raise error


def go(run: Running, attempt: Attempt) -> Now[None]:
    """Carry the work out, until it has ended or was given up after the grace."""
    effects, limits = run.effects, run.policy.attempt
    attempt.number, attempt.fence = run.number, run.fence
    now = attempt._started_at
    deadline = run.deadline
    if limits.timeout_s is not None:
        timeout = now + limits.timeout_s
        if deadline is None or timeout < deadline:
            deadline = timeout
    attempt.deadline = deadline
    if effects.events.listeners:
        length = None if deadline is None else deadline - now
        effects.events.emit(AttemptStarted(*run.about(), attempt.number, length))
    if attempt._error is not None:
        return None
    if run.cancelled is not None or run.interrupted is not None:
        attempt._cause = run.stopped
        run.never_launched = True
        return None
    task = attempt._task = effects.start_task(_carry_out(attempt, run.work))
    return None if task.done() else _wait_for_end(run, attempt, task)


async def _carry_out(attempt: Attempt, work: Any) -> None:
    """The attempt's task. Whatever the work raises is kept for the run; nothing comes out of here."""
    CURRENT.set(attempt)
    try:
        awaitable = work(attempt) if callable(work) else work.start(attempt)
        if type(awaitable) is not Pending and not isawaitable(awaitable):
            raise not_awaitable(awaitable)  # noqa: TRY301 - the work's failure like any other
        attempt._value = await awaitable
    except BaseException as error:
        attempt._error = error
    attempt._ended_at = attempt._effects.clock.now()
    if attempt._stop_at is not None:
        return  # once told to stop, its end wakes the run: woken from here, the run would go on before the task is gone
    waiter = attempt._waiter
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _wait_for_end(run: Running, attempt: Attempt, task: "asyncio.Task[None]") -> None:
    loop = asyncio.get_running_loop()
    watch_time(run, attempt)
    try:
        while True:
            attempt._waiter = waiter = loop.create_future()
            try:
                await waiter
            except asyncio.CancelledError as error:
                run.note_cancelled(error)
                reason = run.stopped
                assert reason is not None, "a cancellation is by the caller or by an interruption"
                stop(run, attempt, reason)
            if task.done() or attempt._abandoned:
                return
    finally:
        attempt._waiter = None
        attempt._forget_time()
