"""Look, gate and begin, as transactions: may the session be tried now, whose turn is it, and one attempt's lease."""

import json
from typing import Final

from policies import gate
from policies.breaker import Admitted, admit
from policies.breaker import Refused as BreakerRefused
from policies.budget import Bucket
from policies.failure import Refusal
from supervisor.store.contract import WAITING, Refused, Waiting
from supervisor.store.sqlite import ledger, open_ticks, ticks
from supervisor.store.sqlite.asking import Asking, Began, Changed, Connection, Moment
from supervisor.store.sqlite.looking import PAUSED, QUARANTINED, breaker_refused, closed_to_all, look_at
from supervisor.store.sqlite.nobody import end_left
from supervisor.store.sqlite.rows import breaker_of, rules_text, tokens_of
from supervisor.store.sqlite.traffic import running_in, traffic_of

STANDS_ANEW: Final = Waiting()
"""It waits as before, but has a new place in line."""

AS_NEWEST: Final = Waiting()
"""It waits behind everybody, also behind those who come later."""

_TO_BEGIN: Final = (
    f"SELECT seq, state, owner, stop, {PAUSED}, {QUARANTINED}, breaker, spent, spent_at"  # noqa: S608 - of constants
    " FROM runs LEFT JOIN sessions ON sessions.session = runs.session WHERE id = :run"
)

LEFT: Final = "left"
"""The reason of a first attempt's run that has left its line, and did not say why yet."""

_TAKEN = "its place was taken while its process stood still for longer than the lease"


def arrive(database: Connection, run: Asking, moment: Moment) -> Refused | Waiting | None:
    """Look, and ask the gate. None: it holds a permit; Waiting: it has a place in line."""
    if (refused := look_at(database, run, moment)) is not None:
        return refused
    row = database.execute("SELECT seq, state, owner FROM runs WHERE id = ?", (run.run_id,)).fetchone()
    if run.is_tick and run.number == 0 and (row is None or row[1] == "ended" or row[2] != run.owner):
        if (refused := _start_tick(database, run, row)) is not None:
            return refused
    elif row is not None:
        return _come_back(database, run, *row[:2])
    return _ask_gate(database, run, moment)


def _start_tick(database: Connection, run: Asking, row: tuple[int, str, str] | None) -> Refused | None:
    """Begin a tick's run, perhaps once more, unless somebody took it, and has started it, or decided otherwise.

    Of one whose process died, or stood still, before its first attempt nothing is left: it arrives again.
    """
    if not open_ticks.is_open(database, run.run_id, run.owner):
        return Refused(Refusal.BUSY, _TAKEN)
    if row is not None:
        give_up(database, run.session, run.owner, row[0], "ended")
        database.execute("DELETE FROM runs WHERE seq = ?", row[:1])
    return _look_at_tick(database, run.run_id)


def _look_at_tick(database: Connection, run_id: str) -> Refused | None:
    """Refuse a tick that somebody has decided on, or whose job an operator has paused since it was found."""
    if not open_ticks.is_undecided(database, run_id):
        return Refused(Refusal.BUSY, _TAKEN)
    return Refused(Refusal.PAUSED, "its job is paused") if open_ticks.is_of_paused(database, run_id) else None


def _ask_gate(database: Connection, run: Asking, moment: Moment) -> Refused | Waiting | None:
    traffic = traffic_of(database, run.session, silent=run.policy.gate.overlap is gate.Overlap.REPLACE)
    match answer := gate.arrive(run.policy.gate, traffic):
        case Refusal():
            return Refused(answer)
        case gate.Answer.ENTER:
            _add(database, run, moment, "permitted")
            return None
        case gate.Answer.WAIT:
            _stand(database, run, _add(database, run, moment, "waiting"))
        case gate.Answer.REPLACE:
            end_left(database, run.session, "replaced", moment.wall)
            database.execute(
                "UPDATE runs INDEXED BY runs_under_way SET stop = 'replaced'"
                " WHERE session = ? AND state <> 'ended' AND stop IS NULL",
                (run.session,),
            )
            ledger.tell(database, run.session, "stop", run.owner)
            _stand(database, run, _add(database, run, moment, "waiting", replaces=True))
        case gate.Answer.WAIT_AS_NEWEST:
            _displace_newest(database, run)
            _stand(database, run, _add(database, run, moment, "waiting"), newest=True)
            return AS_NEWEST
    return WAITING


# --- the line


def _add(database: Connection, run: Asking, moment: Moment, state: str, *, replaces: bool = False) -> int:
    policy = run.policy
    known = "INSERT OR IGNORE INTO policies VALUES (?, ?, ?)"
    if database.execute("SELECT 1 FROM policies WHERE hash = ?", (policy.hash,)).fetchone() is None:
        database.execute(known, (policy.hash, policy.name, rules_text(policy)))
    cursor = database.execute(
        "INSERT INTO runs(id, session, owner, policy, policy_hash, state, attempts, parents, deadline_at, replaces,"
        " lock, started_wall, arrived_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.run_id,
            run.session,
            run.owner,
            policy.name,
            policy.hash,
            state,
            policy.budget.attempts,
            json.dumps(run.parents),
            run.deadline_at,
            replaces,
            run.lock,
            run.started_wall,
            moment.at,
        ),
    )
    return cursor.lastrowid or 0


def _stand(database: Connection, run: Asking, seq: int, *, newest: bool = False) -> None:
    database.execute(
        "INSERT INTO places(run, session, owner, retry, newest) VALUES (?, ?, ?, ?, ?)",
        (seq, run.session, run.owner, run.number > 0, newest),
    )


def _come_back(database: Connection, run: Asking, seq: int, state: str) -> Refused | Waiting | None:
    """Let a retry in, behind those who came meanwhile. A first attempt comes back only if it asks again."""
    match state:
        case "permitted" | "running":  # asked again: the one that was let in, or begun at once
            return None
        case "ended":
            return Refused(Refusal.BUSY, _TAKEN)
        case "waiting" if _place_of(database, seq) is not None:
            return WAITING
    line = "SELECT 1 FROM places WHERE session = ? AND NOT newest LIMIT 1"
    waits = database.execute(line, (run.session,)).fetchone()
    if waits is None and gate.may_enter(run.policy.gate, running_in(database, run.session)):
        _set_state(database, seq, "permitted")
        return None
    _set_state(database, seq, "waiting")
    _stand(database, run, seq)
    return WAITING


def _displace_newest(database: Connection, run: Asking) -> None:
    displaced = database.execute("SELECT run FROM places WHERE session = ? AND newest", (run.session,)).fetchone()
    if displaced is not None:  # it is over at once: nobody waits until its process has heard of it, and said so
        ledger.tell(database, run.session, "changed", run.owner)
        database.execute("DELETE FROM places WHERE run = ?", displaced)
        database.execute(
            "UPDATE runs SET displaced = 1, state = 'ended', status = 'cancelled', reason = ? WHERE seq = ?",
            (LEFT, *displaced),
        )


def _place_of(database: Connection, seq: int) -> tuple[int, bool] | None:
    row = database.execute("SELECT place, newest FROM places WHERE run = ?", (seq,)).fetchone()
    return None if row is None else (row[0], bool(row[1]))


def _set_state(database: Connection, seq: int, state: str) -> None:
    database.execute("UPDATE runs SET state = ? WHERE seq = ?", (state, seq))


def take_turn(database: Connection, run: Asking, moment: Moment) -> Refused | Waiting | None:
    """Enter, if it is the run's turn. None: it holds a permit; Waiting: not yet. Nobody passes the head of the line."""
    row = database.execute(
        "SELECT seq, state, displaced, replaces, owner FROM runs WHERE id = ?", (run.run_id,)
    ).fetchone()
    if row is not None and row[2]:
        return Refused(Refusal.OVERLAP, "a newer run took its place")
    if row is None or row[1] == "ended" or row[4] != run.owner:
        return Refused(Refusal.BUSY, _TAKEN)
    seq, state, _, replaces, _ = row
    if state == "permitted":
        return None
    if run.number == 0 and (refused := look_at(database, run, moment)) is not None:
        return refused
    place = _place_of(database, seq)
    if place is None:  # it was silent for longer than the lease: behind those who came meanwhile
        _set_state(database, seq, "waiting")
        _stand(database, run, seq)
        return STANDS_ANEW
    if not _is_first(database, run, seq, *place, replaces=bool(replaces)):
        return WAITING
    database.execute("DELETE FROM places WHERE run = ?", (seq,))
    _set_state(database, seq, "permitted")
    ledger.tell(database, run.session, "freed", run.owner)  # with more than one permit, the next one may enter too
    return None


def _is_first(database: Connection, run: Asking, seq: int, place: int, newest: bool, *, replaces: bool) -> bool:  # noqa: FBT001 - as it is in its row
    if newest:
        return gate.newest_may_enter(run.policy.gate, traffic_of(database, run.session))
    ahead = "SELECT 1 FROM places WHERE session = ? AND place < ? AND NOT newest LIMIT 1"
    if database.execute(ahead, (run.session, place)).fetchone() is not None:
        return False
    older = "SELECT 1 FROM runs INDEXED BY runs_under_way WHERE session = ? AND state <> 'ended' AND seq < ? LIMIT 1"
    if replaces and database.execute(older, (run.session, seq)).fetchone() is not None:
        return False  # an older run is not over yet: it may be in its backoff, or hold another permit
    return gate.may_enter(run.policy.gate, running_in(database, run.session))


def leave(database: Connection, run: Asking) -> None:
    """Take the run out of the line, or its permit and slot back, and let whoever is next know."""
    row = database.execute("SELECT seq, state FROM runs WHERE id = ? AND owner = ?", (run.run_id, run.owner)).fetchone()
    if row is None or row[1] in ("ended", "running"):
        return
    give_up(database, run.session, run.owner, row[0], "backoff" if run.number else "ended")
    if run.number == 0:  # until `end` says why; a process that dies before that cannot
        database.execute(
            "UPDATE runs SET status = 'cancelled', reason = ?, duration_s = ? WHERE seq = ? AND status IS NULL",
            (LEFT, run.duration_s, row[0]),
        )


def give_up(database: Connection, session: str, owner: str, seq: int, state: str) -> None:
    """Take from a run its place, permit and slot, and let whoever is next know."""
    database.execute("DELETE FROM places WHERE run = ?", (seq,))
    database.execute("DELETE FROM host_places WHERE run = ?", (seq,))
    database.execute("UPDATE runs SET state = ?, slot = 0 WHERE seq = ?", (state, seq))
    tell_next(database, session, owner)


def tell_next(database: Connection, session: str, owner: str) -> None:
    """Let whoever of another process is next know: for the session's permit, and for the host's slot."""
    ledger.tell(database, session, "freed", owner)
    ledger.tell_host(database, owner)


# --- the attempt


def begin(database: Connection, run: Asking, host: Bucket | None, moment: Moment) -> Began:
    """Admit one attempt: the breaker's place, the lease with its fence, and the attempt's row. Refused: no permit is
    left to the run. Asked again, it gives the same attempt.
    """
    row = database.execute(_TO_BEGIN, {"session": run.session, "run": run.run_id}).fetchone()
    if row is None or row[1] not in ("permitted", "running") or row[2] != run.owner:
        return Began(Refused(Refusal.BUSY, _TAKEN))
    seq, state, _, stop, paused, quarantined, breaker, spent, spent_at = row
    if state == "running":
        return _begun_before(database, seq, run, stop)
    refused = closed_to_all(database, run.session, paused=paused) if paused or quarantined else None
    if refused is None and run.is_tick and run.number == 0:
        refused = _look_at_tick(database, run.run_id)
    before = breaker_of(breaker)
    after, answer = admit(run.policy.breaker, before, moment.at)
    if refused is None and isinstance(answer, BreakerRefused):
        refused = breaker_refused(answer, after, moment.at)
    if refused is not None:
        leave(database, run)
        return Began(refused)
    assert isinstance(answer, Admitted), "what is not refused is admitted"
    if after is not before:
        ledger.write(database, run.session, after, tokens_of(spent or 0.0, spent_at or 0.0))
        ledger.tell(database, run.session, "changed", run.owner)
    if run.number == 0 and (spent or host is not None):
        ledger.deposit(database, run.session, run.policy.budget.session, host, moment.at)
    fence = _add_attempt(database, run, seq, answer, moment)
    database.execute(
        "UPDATE runs SET state = 'running', number = ?, reserved = NULL WHERE seq = ?", (run.number + 1, seq)
    )
    if run.is_tick and run.number == 0:
        ticks.note_started(database, run.run_id)
    return Began(None, fence, answer.generation, answer.trial, Changed(before, after), stop)


def _begun_before(database: Connection, seq: int, run: Asking, stop: str | None) -> Began:
    row = database.execute(
        "SELECT fence, generation, trial FROM attempts WHERE run = ? AND number = ? AND outcome IS NULL",
        (seq, run.number + 1),
    ).fetchone()
    return Began(Refused(Refusal.BUSY, _TAKEN)) if row is None else Began(None, row[0], row[1], bool(row[2]), stop=stop)


def _add_attempt(database: Connection, run: Asking, seq: int, admitted: Admitted, moment: Moment) -> int:
    tree = run.tree
    cursor = database.execute(
        "INSERT INTO attempts(run, session, number, owner, generation, trial, tree_pid, tree_starttime, tree_life,"
        " elsewhere, began_at, started_wall) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            run.session,
            run.number + 1,
            run.owner,
            admitted.generation,
            admitted.trial,
            None if tree is None else tree.pid,
            None if tree is None else tree.starttime,
            None if tree is None or tree.life is None else str(tree.life),
            run.reaches_out,
            moment.at,
            moment.wall,
        ),
    )
    return cursor.lastrowid or 0
