"""What an operator does to sessions, as transactions."""

import json
from collections.abc import Collection
from typing import NamedTuple

from policies.breaker import CLOSED, State
from policies.breaker import reset as closed_again
from policies.budget import FULL, Tokens
from policies.verdict import Reason
from supervisor.report import Status
from supervisor.store.contract import Ending
from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.admission import give_up
from supervisor.store.sqlite.asking import Connection, Moment
from supervisor.store.sqlite.endings import write_ending
from supervisor.store.sqlite.nobody import end_left
from supervisor.store.sqlite.owners import Owner


class Left(NamedTuple):
    """What a run left that may still live. `lock`: the session's file that it named."""

    session: str
    run_id: str
    alive: tuple[str, ...]
    lock: str | None


class Stands(NamedTuple):
    """What a reset forgets. `is_known`: there was anything of the session, or its history is there."""

    breaker: State
    tokens: Tokens
    quarantines: list[Left]
    is_known: bool


class Stopping(NamedTuple):
    """A run that was asked to end, and has not: whose it is, and the grace that its attempt has."""

    run_id: str
    session: str
    state: str
    owner: Owner
    grace_s: float


def stands(database: Connection, session: str) -> Stands:
    """Return what a reset of the session would forget."""
    return Stands(*ledger.read(database, session), quarantined(database, session), is_known(database, session))


def is_known(database: Connection, session: str) -> bool:
    """Tell whether anything is known of a session; '' is all of them."""
    tables = ("runs", "sessions", "quarantines", "pauses")
    where = " UNION ALL ".join(f"SELECT 1 FROM {table} WHERE session = :session" for table in tables)  # noqa: S608
    return session == "" or database.execute(f"{where} LIMIT 1", {"session": session}).fetchone() is not None


def quarantined(database: Connection, session: str) -> list[Left]:
    """Return what may still live of a session; of '', of every one."""
    rows = database.execute(
        "SELECT quarantines.session, run_id, receipt, lock FROM quarantines LEFT JOIN runs ON runs.id = run_id"
        " WHERE :session IN ('', quarantines.session) ORDER BY since_wall",
        {"session": session},
    )
    return [Left(of, run_id, tuple(json.loads(receipt).get("alive", ())), lock) for of, run_id, receipt, lock in rows]


def reset(database: Connection, session: str, me: str) -> None:
    """Forget a session's breaker, tokens and quarantines. Attempts that run now report too late to matter."""
    state, _ = ledger.read(database, session)
    runs = database.execute("SELECT 1 FROM runs WHERE session = ? AND state <> 'ended' LIMIT 1", (session,)).fetchone()
    ledger.write(database, session, CLOSED if runs is None else closed_again(state), FULL)
    database.execute("DELETE FROM quarantines WHERE session = ?", (session,))
    ledger.tell(database, session, "changed", me)


def pause(database: Connection, session: str, wall: float, me: str) -> bool:
    """Let nothing new start for a session; '': for any. Tell whether it was not paused before."""
    is_new = database.execute("INSERT OR IGNORE INTO pauses VALUES (?, ?)", (session, wall)).rowcount > 0
    _tell(database, session, "changed", me)
    return is_new


def resume(database: Connection, session: str, me: str) -> bool:
    """Undo a pause; tell whether there was one."""
    resumed = database.execute("DELETE FROM pauses WHERE session = ?", (session,)).rowcount > 0
    _tell(database, session, "changed", me)
    return resumed


def paused(database: Connection) -> list[str]:
    """Return what is paused; '' stands for all sessions."""
    return [session for (session,) in database.execute("SELECT session FROM pauses ORDER BY session")]


def stop(database: Connection, session: str, reason: str, me: str, wall: float) -> list[str]:
    """Ask every run of a session to end ('': every run), wherever it is; return their ids.

    Those in nobody's hands end at once: there is nobody to ask.
    """
    where = "state <> 'ended'" if session == "" else "state <> 'ended' AND session = ?"
    given = () if session == "" else (session,)
    runs = [run_id for (run_id,) in database.execute(f"SELECT id FROM runs WHERE {where}", given)]  # noqa: S608
    end_left(database, session, reason, wall)
    database.execute(f"UPDATE runs SET stop = coalesce(stop, ?) WHERE {where}", (reason, *given))  # noqa: S608
    _tell(database, session, "stop", me)
    return runs


def stopping(database: Connection, run_ids: Collection[str]) -> list[Stopping]:
    """Return those of these runs that were asked to end, and have not."""
    rows = database.execute(
        "SELECT runs.id, session, state, owners.id, pid, life, renewed_at, json_extract(rules, '$.grace_s')"
        " FROM runs JOIN owners ON owners.id = owner JOIN policies ON hash = policy_hash"
        " WHERE stop IS NOT NULL AND state <> 'ended'"
    )
    return [
        Stopping(run_id, session, state, Owner(*owner), grace_s)
        for run_id, session, state, *owner, grace_s in rows
        if run_id in run_ids
    ]


def end_unheard(database: Connection, run_ids: Collection[str], me: str, moment: Moment) -> None:
    """End those of these runs that are in no attempt: their processes do not answer, and will ask in vain."""
    for run_id in run_ids:
        row = database.execute(
            "SELECT seq, session, stop, started_wall FROM runs"
            " WHERE id = ? AND state IN ('waiting', 'permitted', 'backoff') AND stop IS NOT NULL",
            (run_id,),
        ).fetchone()
        if row is not None:
            seq, session, reason, started_wall = row
            give_up(database, session, me, seq, "ended")
            ending = Ending(Status.CANCELLED, Reason(reason), "its process did not answer")
            write_ending(database, seq, ending, max(0.0, moment.wall - started_wall))


def _tell(database: Connection, session: str, kind: str, me: str) -> None:
    """Tell those whom it is about; '' is about everybody."""
    if session == "":
        ledger.post(database, session, kind)
    else:
        ledger.tell(database, session, kind, me)
