"""The look: may a session be tried now? Paused, quarantined, or its breaker open: it may not."""

import json
from typing import Final

from policies.breaker import Refused as BreakerRefused
from policies.breaker import State, look
from policies.failure import Refusal
from supervisor.report import way_out
from supervisor.store.contract import Refused
from supervisor.store.sqlite.asking import Asking, Connection, Moment
from supervisor.store.sqlite.rows import breaker_of

# One statement for all that is asked: each costs more than what it looks up.
PAUSED: Final = (
    "(EXISTS(SELECT 1 FROM pauses WHERE session = '') OR EXISTS(SELECT 1 FROM pauses WHERE session = :session))"
)
QUARANTINED: Final = "EXISTS(SELECT 1 FROM quarantines WHERE session = :session)"
_TO_LOOK: Final = (
    f"SELECT {PAUSED}, {QUARANTINED},"  # noqa: S608 - of constants
    " (SELECT breaker FROM sessions WHERE session = :session)"
)


def look_at(database: Connection, run: Asking, moment: Moment) -> Refused | None:
    """Refuse a session that is paused or quarantined, or whose breaker is open."""
    paused, quarantined, breaker = database.execute(_TO_LOOK, {"session": run.session}).fetchone()
    if paused or quarantined:
        return closed_to_all(database, run.session, paused=paused)
    if breaker is None:
        return None
    state = breaker_of(breaker)
    answer = look(run.policy.breaker, state, moment.at)
    return None if answer is None else breaker_refused(answer, state, moment.at)


def closed_to_all(database: Connection, session: str, *, paused: bool) -> Refused:
    if paused:
        return Refused(Refusal.PAUSED, "an operator has paused it")
    receipts = database.execute("SELECT receipt FROM quarantines WHERE session = ?", (session,)).fetchall()
    alive = [what for (receipt,) in receipts for what in json.loads(receipt).get("alive", ())]
    return Refused(Refusal.QUARANTINED, f"may still live: {', '.join(alive)}; {way_out(session)}")


def breaker_refused(answer: BreakerRefused, state: State, now: float) -> Refused:
    if answer.until is None:
        return Refused(Refusal.BREAKER_OPEN, "half open, and its trial is under way", seen=state)
    return Refused(Refusal.BREAKER_OPEN, f"open for {answer.until - now:.1f} s more", answer.until, state)
