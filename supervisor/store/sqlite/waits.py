"""Who waits, and for what: a turn in line, a slot of the host, a breaker that moves. Each asks again at every news."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from policies.breaker import State
from policies.failure import Refusal
from supervisor.store.contract import Refused, Standing
from supervisor.store.sqlite import admission, hosting, ledger
from supervisor.tasks import wait_until

if TYPE_CHECKING:
    from supervisor.store.sqlite.store import SqliteStore


async def for_turn(
    store: "SqliteStore", run: Standing, came: tuple[int, int] | None, until: float | None
) -> Refused | None:
    """Wait in line, at the place that was kept since it came; see `Store.turn`."""
    with store.watching.in_line(run.session, came) as place:
        while True:
            woken = place.next_news()
            answer = store.on_our_clock(
                await store.database.run(admission.take_turn, store.asking(run), store.moment())
            )
            if answer is None:
                run.holds_permit = True
                return None
            if isinstance(answer, Refused):
                await store.leave(run)
                return answer
            if answer is admission.STANDS_ANEW:  # it may be first there: nobody else would tell it
                store.watching.to_the_end(place)
                continue
            if not await wait_until(woken, until):
                await store.leave(run)
                return Refused(Refusal.WAIT_OVER, f"its turn did not come within {run.policy.gate.wait_s:g} s")


async def for_slot(
    store: "SqliteStore", run: Standing, slots: Callable[[], int], rank: int, until: float | None
) -> bool:
    """Wait in the host's line; see `Store.slot`."""
    with store.watching.in_line(ledger.HOST, store.watching.next_place(rank)) as place:
        while True:
            woken = place.next_news()
            if await store.database.run(hosting.take_slot, store.asking(run), slots(), rank):
                return True
            if not await wait_until(woken, until):
                return False


async def for_breaker(store: "SqliteStore", session: str, seen: State | None, until: float | None) -> None:
    """Wait until a session's breaker is not as it was; see `Store.breaker_moved`."""
    with store.watching.of_session(session) as place:
        while True:
            woken = place.next_news()
            state, _ = await store.database.read(ledger.read, session)
            seen = state if seen is None else seen
            if state != seen:
                return
            if not await wait_until(woken, until):
                return
