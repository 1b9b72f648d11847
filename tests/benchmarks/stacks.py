"""The full stack of each peer around one function: retry, timeout, breaker, bulkhead. None: it is not installed."""

import asyncio
import logging
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final

Work = Callable[[], Awaitable[Any]]
Stack = Callable[[Work, int], Work | None]

NEVER: Final = 10**9
ATTEMPTS: Final = 5
TIMEOUT_S: Final = 60.0

logging.getLogger("pyresilience").setLevel(logging.CRITICAL)
logging.getLogger("hyx").setLevel(logging.CRITICAL)


class Broken(Exception):
    """What failing work raises."""


def pyresilience_stack(work: Work, permits: int) -> Work | None:
    try:
        import pyresilience as peer
    except ImportError:
        return None
    decorated: Work = peer.resilient(
        retry=peer.RetryConfig(max_attempts=ATTEMPTS, delay=0, jitter=False, retry_on=[Broken]),
        timeout=peer.TimeoutConfig(seconds=TIMEOUT_S),
        circuit_breaker=peer.CircuitBreakerConfig(failure_threshold=NEVER),
        bulkhead=peer.BulkheadConfig(max_concurrent=permits, max_wait=TIMEOUT_S),
    )(work)
    return decorated


def hyx_stack(work: Work, permits: int) -> Work | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from hyx import bulkhead, circuitbreaker, retry, timeout
    except ImportError:
        return None
    decorated: Any = timeout.timeout(TIMEOUT_S)(work)  # type: ignore[type-var]
    decorated = bulkhead.bulkhead(permits, 100)(decorated)
    decorated = circuitbreaker.consecutive_breaker(exceptions=Broken, failure_threshold=NEVER)(decorated)
    stack: Work = retry.retry(on=Broken, attempts=ATTEMPTS - 1, backoff=0)(decorated)
    return stack


def redress_stack(work: Work, permits: int) -> Work | None:
    """It has no bulkhead: `permits` does not count. A budget instead."""
    try:
        import redress as peer
    except ImportError:
        return None
    policy = peer.AsyncPolicy(
        retry=peer.AsyncRetry(
            classifier=lambda _: peer.ErrorClass.TRANSIENT,
            strategy=lambda _: 0.0,
            max_attempts=ATTEMPTS,
            deadline_s=TIMEOUT_S,
            attempt_timeout_s=TIMEOUT_S,
            budget=peer.Budget(max_retries=NEVER, window_s=1e-6),
        ),
        circuit_breaker=peer.CircuitBreaker(failure_threshold=NEVER),
    )
    return lambda: policy.call(work)


def hand_loop(work: Work, permits: int) -> Work | None:
    """The least that a careful person writes by hand."""
    gate = asyncio.Semaphore(permits)
    failures, open_until = 0, 0.0

    async def call() -> Any:
        nonlocal failures, open_until
        for attempt in range(ATTEMPTS):
            if open_until and time.monotonic() < open_until:
                raise RuntimeError("open")
            try:
                async with gate, asyncio.timeout(TIMEOUT_S):
                    value = await work()
            except Broken:
                failures += 1
                if failures >= NEVER:
                    open_until = time.monotonic() + 30.0
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                failures = 0
                return value
        return None

    return call


STACKS: Final[dict[str, Stack]] = {
    "pyresilience": pyresilience_stack,
    "hyx": hyx_stack,
    "redress": redress_stack,
    "hand loop": hand_loop,
}
