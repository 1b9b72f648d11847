"""What may still live: a quarantined session is watched, and freed when what it names was seen to end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.attempt import Attempt, Held
from supervisor.clock import Clock
from supervisor.errors import StoreUnavailable
from supervisor.store.contract import Standing, Store
from supervisor.tasks import start_plain
from supervisor.work.let_go import let_go

FIRST_ASK_S: Final = 5.0
LAST_ASK_S: Final = 300.0
"""Work that could not confirm its end is asked again after 5 s, then at twice the distance, at most each 5 minutes."""


@dataclass(slots=True)
class Left:
    """What an unconfirmed attempt left.

    Attributes:
        tasks: still running; their end is the proof.
        guards: what keeps others out of the session until then.
        ask: asks the work whether it has stopped meanwhile.
        below: what runs within it left. One may be added later: an attempt that was given up may still have them.
    """

    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    guards: list[Held] = field(default_factory=list)
    ask: list[Callable[[], Awaitable[bool]]] = field(default_factory=list)
    below: "list[Left]" = field(default_factory=list)

    def living(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that have not ended, those below included."""
        here = [task for task in self.tasks if not task.done()]
        return here + [task for left in self.below for task in left.living()]

    def asking(self) -> list[Callable[[], Awaitable[bool]]]:
        """Return whom to ask, those below included."""
        return self.ask + [ask for left in self.below for ask in left.asking()]


class Recovery:
    """Watches what is quarantined, one task for each; they end with the supervisor, the quarantines stay."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._watching: dict[asyncio.Task[None], str] = {}

    def watch(self, run: Standing, attempt: Attempt, left: Left) -> None:
        """Lift the run's quarantine once everything that is left was seen to end."""
        task = start_plain(self._lift_when_ended(run.session, run.run_id, attempt, left))
        self._watching[task] = f"session {run.session!r}, run {run.run_id}"
        task.add_done_callback(lambda done: self._watching.pop(done, None))

    async def _lift_when_ended(self, session: str, run_id: str, attempt: Attempt, left: Left) -> None:
        asked: list[Callable[[], Awaitable[bool]]] = []
        while (living := left.living()) or any(ask not in asked for ask in left.asking()):
            if living:
                await asyncio.wait(living)
                continue
            asked.append(next(ask for ask in left.asking() if ask not in asked))
            await self._ask_until_stopped(asked[-1])
        for guard in left.guards:
            guard.let_go(None)
        error, attempt._error = attempt._error, None
        if error is not None:
            let_go(error)
        await self._lift(session, run_id)

    async def _lift(self, session: str, run_id: str) -> None:
        """Lift it, asking again while the store cannot take that: nobody else would know of tasks that have ended."""
        while True:
            try:
                await self._store.lift(session, run_id)
            except StoreUnavailable:
                await self._clock.sleep(FIRST_ASK_S)
            else:
                return

    async def _ask_until_stopped(self, ask: Callable[[], Awaitable[bool]]) -> None:
        wait_s = FIRST_ASK_S
        while True:
            await self._clock.sleep(wait_s)
            if await ask():
                return
            wait_s = min(2 * wait_s, LAST_ASK_S)

    async def close(self) -> tuple[str, ...]:
        """Stop watching; return what was not seen to end."""
        watching = dict(self._watching)
        for task in watching:
            task.cancel()
        if watching:
            await asyncio.wait(watching)
        return tuple(watching.values())
