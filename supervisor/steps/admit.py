"""Look and gate: may the session be tried now, and is there a permit? Then the host's line."""

import asyncio
from contextlib import suppress
from typing import Final

from policies.failure import Refusal
from supervisor.events import RunQueued
from supervisor.report import Status
from supervisor.steps.running import NotedCancellation, Running
from supervisor.store.contract import Ending, Refused, Waiting
from supervisor.tasks import Now, Pending, settled, to_the_end

BROKEN: Final = Ending(Status.FAILED, "broken", "an exception that is not the work's ended it")


def admit(run: Running) -> Now[Refused | None]:
    """Get what one attempt needs before it may begin: a permit of the session, and what the host allows.

    None: the run holds them. Refused: it holds nothing. A retry that meets an open breaker waits on, uncharged,
    until the run's deadline. Cancelled in between, it passes on what was granted in that instant.
    """
    if run.parent is not None and (refused := _refused_within(run)) is not None:
        return refused
    answer = run.effects.store.arrive(run)
    if answer is None and run.host is None:
        return None
    return _admit_again(run, answer) if run.number else _admit_first(run, answer)


def too_late(run: Running) -> Refused | None:
    """Refuse a run whose deadline has passed: nothing of it could be done, and nothing of that be counted."""
    if run.deadline is None or run.effects.clock.now() < run.deadline:
        return None
    return Refused(Refusal.DEADLINE, "its deadline had passed before it could start")


async def _admit_first(run: Running, answer: Now[Refused | Waiting | None]) -> Refused | None:
    answer = await _answered(run, answer)
    if isinstance(answer, Refused):
        return answer
    if isinstance(answer, Waiting):
        until, over = run.started_at + run.policy.gate.wait_s, Refusal.WAIT_OVER
        if run.deadline is not None and run.deadline < until:
            until, over = run.deadline, Refusal.DEADLINE
        refused = await _stand_in_line(run, until)
        if refused is not None:
            return Refused(over, refused.detail) if refused.reason is Refusal.WAIT_OVER else refused
    return await _pass_host(run)


async def _admit_again(run: Running, asked: Now[Refused | Waiting | None]) -> Refused | None:
    """The same for a retry: its wait is bounded by the deadline alone, and it waits a cooldown out."""
    while True:
        answer = await _answered(run, asked)
        if isinstance(answer, Waiting):
            answer = await _stand_in_line(run, run.deadline)
        if answer is None:
            return await _pass_host(run)
        if answer.reason is Refusal.WAIT_OVER:
            return Refused(Refusal.DEADLINE, answer.detail)
        if answer.reason is not Refusal.BREAKER_OPEN:
            return answer
        if not await _breaker_lets_ask_again(run, answer):
            return Refused(Refusal.DEADLINE, answer.detail)
        asked = run.effects.store.arrive(run)


async def _answered(run: Running, answer: Now[Refused | Waiting | None]) -> Refused | Waiting | None:
    """Await the store's answer to its end; hand it back where a cancellation came meanwhile."""
    if isinstance(answer, Pending):
        answer = await to_the_end(answer, run.note_cancelled)
        if run.stopped is not None:
            await give_up_place(run)
            raise NotedCancellation
    return answer


async def _pass_host(run: Running) -> Refused | None:
    if run.host is None:
        return None
    try:
        refused = await run.host.enter(run)
    except BaseException:
        await give_up_place(run)
        raise
    if refused is not None:
        await give_up_place(run)
    return refused


def _refused_within(run: Running) -> Refused | None:
    """Refuse a nested run on a session of its ancestors, and one whose deadline has passed, which is theirs."""
    above = run.parent
    while above is not None:
        if above.session == run.session:
            who = f"{above.run_id}, within which it was started,"
            return Refused(Refusal.ANCESTOR, f"{who} is on that session itself")
        above = above.parent
    return too_late(run)


async def _breaker_lets_ask_again(run: Running, refused: Refused) -> bool:
    """Wait until the breaker may say something else; False where that lies past the run's deadline."""
    clock, deadline, until = run.effects.clock, run.deadline, refused.until
    if until is None:
        await run.effects.store.breaker_moved(run.session, refused.seen, deadline)
        return deadline is None or clock.now() < deadline
    if deadline is not None and until >= deadline:
        return False
    await clock.sleep(max(0.0, until - clock.now()))
    return True


async def _stand_in_line(run: Running, until: float | None) -> Refused | None:
    if run.effects.events.listeners:
        run.effects.events.emit(RunQueued(*run.about(), "gate"))
    try:
        return await run.effects.store.turn(run, until)
    except asyncio.CancelledError:
        await give_up_place(run)
        raise


async def abandon(run: Running) -> None:
    """Give back all that a run has that ends by an exception: the store's, or one of the machine's.

    It is that exception that the caller must see, also where the store cannot even be told of the end.
    """
    if run.host is not None:
        run.host.leave(run)
    with suppress(Exception):
        await settled(run.effects.store.end(run, BROKEN), run.note_cancelled)


async def give_up_place(run: Running) -> None:
    """Give back permit, slot and place in line; each goes to whoever is next. A start that was charged is lost."""
    if run.host is not None:
        run.host.leave(run)
        run.start_charged = False
    await settled(run.effects.store.leave(run), run.note_cancelled)
