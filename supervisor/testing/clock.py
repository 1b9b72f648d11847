"""A clock that stands still until a virtual loop moves it, and dice that fall the same way each time."""

import asyncio
import random  # noqa: TID251 - seeded: the same seed draws the same numbers on every Python
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from supervisor.testing.loop import Order, VirtualLoop

START: Final = 1_000.0  # not 0, which code may take for "not set"
WALL: Final = 1_767_225_600.0  # 2026-01-01T00:00:00Z

T = TypeVar("T")


class VirtualClock:
    """Time and dice for tests: a `supervisor.clock.Clock`, and what runs a coroutine on it.

    Its loops share one moment, in seconds, which only moves when a loop has nothing left to do at it. Draws and
    tokens come from the seed, each from dice of its own: an id more or less does not change the jitter.
    """

    def __init__(self, seed: int = 0, start: float = START, wall: float = WALL) -> None:
        dice = random.Random(seed)  # noqa: S311 - nothing here is secret
        self._ids = random.Random(f"token {seed}")  # noqa: S311
        self._moment = float(start)
        self._wall_at_zero = wall - self._moment
        self._loops: list[VirtualLoop] = []
        self.seed = seed
        self.draw = dice.random

    def now(self) -> float:
        """Return the moment, in seconds: what the loop's `time()` says."""
        return self._moment

    def boottime(self) -> float:
        """Return the same: the virtual machine was booted at zero, and is never suspended."""
        return self._moment

    def wall(self) -> float:
        """Return the time of the day at this moment, in seconds since 1970 in UTC."""
        return self._wall_at_zero + self._moment

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back for a negative number, as an operator or NTP does."""
        self._wall_at_zero += seconds

    def token(self, size: int) -> str:
        """Return 2 * `size` hexadecimal digits."""
        return self._ids.randbytes(size).hex()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)  # noqa: TID251 - on a virtual loop, where sleeping takes no time

    def advance_to(self, moment: float) -> None:
        """Move time to a later moment; an earlier one changes nothing. For loops; a test sleeps instead."""
        self._moment = max(self._moment, moment)

    @property
    def loop(self) -> "VirtualLoop":
        """The newest loop of this clock. RuntimeError when there is none yet."""
        if not self._loops:
            raise RuntimeError("this clock has no loop yet: use clock.run(main()) or clock.new_loop()")
        return self._loops[-1]

    def new_loop(self, order: "Order | None" = None) -> "VirtualLoop":
        """Return a new loop at this clock's moment: the `loop_factory` of an `asyncio.Runner`."""
        from supervisor.testing.loop import VirtualLoop  # a loop needs its clock first

        self._loops = [loop for loop in self._loops if not loop.is_closed()]
        self._loops.append(VirtualLoop(self, order))
        return self._loops[-1]

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on a new loop and return its value, as `asyncio.run` does.

        What it raises comes out, so do KeyboardInterrupt and SystemExit; tasks left over are cancelled and awaited,
        however long they take in virtual time. Raises Deadlock and Livelock.
        """
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(main)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for loop in self._loops:
            if not loop.is_closed():
                loop.close()


def virtual_clock(seed: int = 0, start: float = START, wall: float = WALL) -> VirtualClock:
    """Return a clock on which an hour passes in milliseconds, and always in the same way.

    `start` is its first moment in seconds, `wall` the time of the day then, in seconds since 1970 in UTC. Three ways:

        with virtual_clock() as clock:
            clock.run(main())            # each run in one `with` goes on where the last one ended

        with asyncio.Runner(loop_factory=virtual_clock().new_loop) as runner:
            runner.run(main())

        def pytest_asyncio_loop_factories(config, item):       # in conftest.py: async tests of that folder
            return {"virtual": lambda: virtual_clock().new_loop()}

    A `Supervisor()` made on such a loop finds the clock by itself: `supervisor.clock.clock_of(loop)`.
    """
    return VirtualClock(seed, start, wall)
