"""The retry loop, driven by tenacity on values: a verdict says retry, and when."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tenacity import AsyncRetrying, DoAttempt, DoSleep, RetryCallState

from policies.verdict import GiveUp, Reason, Retry, Verdict
from supervisor.steps.running import NotedCancellation, Running
from supervisor.store.contract import Refused
from supervisor.tasks import settled

End = tuple[Verdict | Refused, Any]

_CANCELLED: Final[End] = (GiveUp(Reason.CANCELLED), None)


class _Loop(AsyncRetrying):
    """tenacity's loop, deciding with two plain functions: whether to retry (the verdict says so), and how long to wait.

    Its own `iter` builds a list of actions for each decision, and inspects each to find out whether it must be
    awaited: most of its cost. `stop` is not asked: the verdict has asked attempts, deadline and tokens already.
    """

    async def iter(self, retry_state: RetryCallState) -> Any:
        outcome = retry_state.outcome
        if outcome is None:
            return DoAttempt()
        if not self.retry(retry_state):
            return outcome.result()
        retry_state.upcoming_sleep = self.wait(retry_state)
        return DoSleep(retry_state.upcoming_sleep)


async def retrying(run: Running, first: Retry, attempt_once: Callable[[Running], Awaitable[End]]) -> End:
    """Go on after a first attempt whose verdict was to retry; return how the last one ended.

    The token of a retry was withdrawn with its verdict. It is given back here unless the retry is launched: when it
    is refused, or the run is cancelled while it waits.
    """
    end: End = (first, None)

    async def next_end() -> End:
        nonlocal end
        launched = run.number
        try:
            end = await attempt_once(run)
        except asyncio.CancelledError as error:
            # Not through tenacity: it would keep the exception, in frames that the exception's traceback keeps.
            run.note_cancelled(error)
            end = _CANCELLED
        if end is _CANCELLED or isinstance(end[0], Refused):
            await _give_back_unless_launched(run, launched)
        return end

    def seconds_left(_: RetryCallState) -> float:
        verdict = end[0]
        assert type(verdict) is Retry, "only a retry is waited for"
        return max(0.0, verdict.at - run.effects.clock.now())

    async def wait(seconds: float) -> None:
        try:
            if run.stopped is not None:  # told so while the record was written
                raise NotedCancellation
            if seconds > 0.0:
                await run.effects.clock.sleep(seconds)
        except asyncio.CancelledError:
            await _give_back_unless_launched(run, run.number)
            raise

    # A loop of its own for each run: one that is shared mixes the states of concurrent runs up.
    loop = _Loop(retry=lambda _: type(end[0]) is Retry, wait=seconds_left, sleep=wait)
    await wait(max(0.0, first.at - run.effects.clock.now()))
    await loop(next_end)
    if end is _CANCELLED:
        raise NotedCancellation
    return end


async def _give_back_unless_launched(run: Running, launched: int) -> None:
    if run.number == launched:
        await settled(run.effects.store.give_back(run), run.note_cancelled)
