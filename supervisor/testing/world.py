"""Several processes on one virtual loop. Any of them may be killed, frozen and thawed.

    with virtual_clock() as clock:
        world = World(clock)
        world.run(main(world))

    async def main(world: World) -> None:
        daemon = world.process("daemon")
        daemon.start(serve())
        await world.clock.sleep(1.0)
        daemon.kill()

What `main` does itself is done by no process. Files, locks and trees that outlive a process are told of its death by
`Process.at_death`: `SimulatedLauncher`, `MemoryLockFiles` and `InlineDatabase` see to that themselves.
"""

import asyncio
import random  # noqa: TID251 - seeded: the same seed draws the same order
from collections import deque
from collections.abc import Coroutine
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar

from supervisor.testing.clock import VirtualClock
from supervisor.testing.process import PROCESS, Process

T = TypeVar("T")


class World:
    """Processes, and whose turn it is: first come, first served, but for a `share` of the turns, which are drawn.

    Within one process the order is always asyncio's. `processes` has each that was ever made.
    """

    def __init__(self, clock: VirtualClock, share: float = 0.0) -> None:
        self._share = share
        self._dice = random.Random(f"turns {clock.seed}")  # noqa: S311 - nothing here is secret
        self.clock = clock
        self.processes: list[Process] = []

    def process(self, name: str) -> Process:
        """Make a process."""
        made = Process(name, lambda: self.clock.loop)
        self.processes.append(made)
        return made

    def holds_life(self, life: Path) -> bool:
        """Say whether a process holds its life file: it lives, frozen or not."""
        return any(process.life == life and process.lives for process in self.processes)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, as `VirtualClock.run` does; then let go of what the dead have left."""
        with asyncio.Runner(loop_factory=lambda: self.clock.new_loop(self)) as runner:
            return runner.run(self._then_unwound(main))

    async def _then_unwound(self, main: Coroutine[Any, Any, T]) -> T:
        try:
            return await main
        finally:
            for process in self.processes:
                process.thaw()
                if not process.lives:
                    process.unwind()

    # --- the order of the loop

    def next(self, ready: deque[asyncio.Handle]) -> asyncio.Handle | None:
        while ready:
            handle = self._drawn(ready)
            process = _process_of(handle)
            if process is None or process.may_run(handle):
                return handle
        return None

    def _drawn(self, ready: deque[asyncio.Handle]) -> asyncio.Handle:
        if len(ready) == 1 or self._dice.random() >= self._share:
            return ready.popleft()
        first: dict[Process | None, int] = {}
        for place, handle in enumerate(ready):
            first.setdefault(_process_of(handle), place)
        place = self._dice.choice(list(first.values()))
        handle = ready[place]
        del ready[place]
        return handle


def _process_of(handle: asyncio.Handle) -> Process | None:
    context: Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)
