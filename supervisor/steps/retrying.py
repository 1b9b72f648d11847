"""The retry loop, driven by tenacity on values: a verdict says retry, and when."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tenacity import AsyncRetrying, DoAttempt, DoSleep, RetryCallState

from policies.verdict import GiveUp, Reason, Retry, Verdict
from supervisor.steps.running import NotedCancellation, Running
from supervisor.store.contract import Refused

End = tuple[Verdict | Refused, Any]

_CANCELLED: Final[End] = (GiveUp(Reason.CANCELLED), None)


class _Loop(AsyncRetrying):
    """tenacity's loop, asking one plain function how long to wait; None: no retry follows.

    Its own `iter` builds a list of actions for each decision, and inspects each to find out whether it must be
    awaited; its statistics and the future that it makes of each value cost the rest. `stop` is not asked: the verdict
    has asked attempts, deadline and tokens already.
    """

    def __init__(self, next_wait_s: Callable[[], float | None], sleep: Callable[[float], Awaitable[None]]) -> None:
        super().__init__(sleep=sleep)
        self._next_wait_s = next_wait_s
        self._attempted = False

    def begin(self) -> None:
        """Keep no statistics."""

    async def iter(self, retry_state: RetryCallState) -> Any:
        if not self._attempted:
            self._attempted = True
            retry_state.set_result = _forget  # type: ignore[method-assign, assignment]
            return DoAttempt()
        if retry_state.outcome is not None:  # an attempt raises only where the store fails
            return retry_state.outcome.result()
        self._attempted = False
        wait_s = self._next_wait_s()
        return None if wait_s is None else DoSleep(wait_s)


def _forget(_: Any) -> None:
    """Keep nothing of an attempt: how it ended is the run's to keep."""


async def retrying(run: Running, first: Retry, attempt_once: Callable[[Running], Awaitable[End]]) -> End:
    """Go on after a first attempt whose verdict was to retry; return how the last one ended.

    The token of a retry was withdrawn with its verdict. Unless the retry is launched, it comes back with the run's end.
    """
    end: End = (first, None)

    async def next_end() -> End:
        nonlocal end
        try:
            end = await attempt_once(run)
        except asyncio.CancelledError as error:
            # Not through tenacity: it would keep the exception, in frames that the exception's traceback keeps.
            run.note_cancelled(error)
            end = _CANCELLED
        return end

    def next_wait_s() -> float | None:
        verdict = end[0]
        return max(0.0, verdict.at - run.effects.clock.now()) if type(verdict) is Retry else None

    async def wait(seconds: float) -> None:
        if run.stopped is not None:  # told so while the record was written
            raise NotedCancellation
        if seconds > 0.0:
            run.rests_until = run.effects.clock.now() + seconds
            try:
                await run.effects.clock.sleep(seconds)
            finally:
                run.rests_until = None

    # A loop of its own for each run: one that is shared mixes the states of concurrent runs up.
    loop = _Loop(next_wait_s, wait)
    await wait(max(0.0, first.at - run.effects.clock.now()))
    await loop(next_end)
    if end is _CANCELLED:
        raise NotedCancellation
    return end
