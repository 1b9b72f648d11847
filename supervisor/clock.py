"""Time and dice: the only file that reads a clock, sleeps or draws."""

import asyncio
import time
from contextvars import Context
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the engine gets its moments and its randomness from.

    `now` is monotonic seconds, the same scale as the running loop's `time()`; `boottime` is seconds since the boot, the
    same for every process of this kernel, a suspend counted in; `wall` is seconds since 1970 in UTC and may be stepped.
    `draw` is uniform in [0, 1). `token` returns 2 * `size` hexadecimal digits that nobody else has.
    """

    def now(self) -> float: ...
    def boottime(self) -> float: ...
    def wall(self) -> float: ...
    def draw(self) -> float: ...
    def token(self, size: int) -> str: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks, and its randomness."""

    def __init__(self) -> None:
        import random
        import secrets

        self.now = time.monotonic
        self.wall = time.time
        self.draw = random.random
        self.token = secrets.token_hex

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Sleep as asyncio does, but keep no context: a cancelled timer has the one it was set in until it was due."""
        if seconds <= 0.0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken, context=Context())
        try:
            await woken
        finally:
            timer.cancel()


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the clock that belongs to a loop: a virtual loop brings its own, any other runs on the machine's."""
    clock: Clock = getattr(loop, "turnkeeper_clock", None) or SystemClock()
    return clock


def utc(wall: float) -> datetime:
    """Return a moment of `Clock.wall` as an aware datetime."""
    return datetime.fromtimestamp(wall, UTC)


def iso_utc(wall: float) -> str:
    """Return a moment of `Clock.wall` as ISO 8601 text in UTC, with milliseconds."""
    return utc(wall).isoformat(timespec="milliseconds").replace("+00:00", "Z")
