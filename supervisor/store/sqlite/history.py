"""Runs as they are read, over or under way: in the shape of `--report`, with the job whose tick it was, and what
each verdict was decided on.

Plain functions that change nothing. A run that is under way has the status that it has in its row, and no end.
"""

import json
from typing import Any, Final, NamedTuple

from policies.breaker import Closed, HalfOpen, Open, State
from policies.verdict import Reason
from supervisor.clock import iso_utc
from supervisor.report import Status
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.rows import breaker_of

_RUN: Final = (
    "SELECT seq, id, session, policy, policy_hash, state, status, reason, started_wall, duration_s, detail, parents,"
    " lock, attempts, owner, (SELECT pid FROM owners WHERE owners.id = runs.owner),"
    " (SELECT job FROM ticks WHERE ticks.run_id = runs.id LIMIT 1) FROM runs"
)
_ATTEMPT: Final = (
    "SELECT number, started_wall, duration_s, outcome, failure, receipt, verdict, why, fence, tree_pid FROM attempts"
    " WHERE run = ? ORDER BY fence"
)
_MOST_ALIKE: Final = 12


class Wanted(NamedTuple):
    """Which runs: of a session, asked for since a moment (seconds since 1970), failed, and how many, newest first."""

    session: str | None = None
    since_wall: float | None = None
    failed: bool = False
    limit: int = 50


def runs(database: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """Return runs in the shape of `--report`, with `job`, the newest first."""
    where, given = ["1"], list[Any]()
    if wanted.session is not None:
        where.append("session = ?")
        given.append(wanted.session)
    if wanted.since_wall is not None:
        where.append("started_wall >= ?")
        given.append(wanted.since_wall)
    if wanted.failed:
        where.append("status IN (?, ?)")
        given += [Status.FAILED.value, Status.QUARANTINED.value]
    question = f"{_RUN} WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"
    return [_report(database, row) for row in database.execute(question, (*given, wanted.limit)).fetchall()]


def run(database: Connection, run_id: str) -> dict[str, Any] | None:
    """Return one run in the shape of `--report`, with more: what its attempts were, and their verdicts decided on."""
    row = database.execute(f"{_RUN} WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return None
    seq, *_, detail, parents, lock, attempts, owner, pid, _ = row
    shape = _report(database, row)
    shape |= {"detail": detail, "lock": lock, "parents": json.loads(parents), "attempts_allowed": attempts}
    shape["owner"] = {"id": owner, "pid": pid}
    for attempt, [*_, why, fence, warden] in zip(shape["attempts"], database.execute(_ATTEMPT, (seq,)), strict=True):
        attempt |= {"why": None if why is None else _why(json.loads(why)), "fence": fence, "warden_pid": warden}
    return shape


def ids_like(database: Connection, text: str) -> list[str]:
    """Return the ids of the runs that are meant by what a person typed: the one of that name, or those that begin so.

    `run-` at the beginning may be left out. At most 12.
    """
    if database.execute("SELECT 1 FROM runs WHERE id = ?", (text,)).fetchone() is not None:
        return [text]
    begins = "SELECT id FROM runs WHERE (id >= ? AND id < ?) OR (id >= ? AND id < ?) ORDER BY seq DESC LIMIT ?"
    longer = f"run-{text}"
    last = "\U0010ffff"
    rows = database.execute(begins, (text, text + last, longer, longer + last, _MOST_ALIKE))
    return [run_id for (run_id,) in rows]


def newest_ids(database: Connection, most: int = 500) -> list[str]:
    """Return the ids of the newest runs: what somebody who mistyped one has most likely meant."""
    return [run_id for (run_id,) in database.execute("SELECT id FROM runs ORDER BY seq DESC LIMIT ?", (most,))]


def _report(database: Connection, row: tuple[Any, ...]) -> dict[str, Any]:
    seq, run_id, session, policy, policy_hash, state, status, reason, started_wall, duration_s, *_ = row
    if state == "ended" and status is None:  # its process has given it up, and died before it could say how it ended
        status, reason, duration_s = Status.CANCELLED.value, Reason.LOST.value, duration_s or 0.0
    return {
        "run_id": run_id,
        "session": session,
        "job": row[-1],
        "policy": policy,
        "policy_hash": policy_hash,
        "status": status or under_way(state),
        "reason": reason,
        "started_at": iso_utc(started_wall),
        "ended_at": None if duration_s is None else iso_utc(started_wall + duration_s),
        "duration_s": None if duration_s is None else round(duration_s, 6),
        "attempts": [_attempt(attempt) for attempt in database.execute(_ATTEMPT, (seq,))],
    }


def under_way(state: str) -> str:
    """Return what a run that has not ended is said to do: one that has its permit still waits, for host or lock."""
    return "waiting" if state == "permitted" else state


def _attempt(row: tuple[Any, ...]) -> dict[str, Any]:
    number, started_wall, duration_s, outcome, failure, receipt, verdict, *_ = row
    return {
        "number": number,
        "started_at": iso_utc(started_wall),
        "duration_s": None if duration_s is None else round(duration_s, 6),
        "outcome": outcome,
        "failure": None if failure is None else json.loads(failure),
        "released": None if receipt is None else json.loads(receipt),
        "verdict": None if verdict is None else _verdict(json.loads(verdict)),
    }


def _why(written: dict[str, Any]) -> dict[str, Any]:
    """Return what a verdict was decided on, with its breaker, before and after, in a shape for others."""
    if "breaker" in written:
        written["breaker"] = [breaker_shape(breaker_of(text)) for text in written["breaker"]]
    return written


def breaker_shape(state: State) -> dict[str, Any]:
    """Return a breaker's state for others: no moment of the store's clock is in it."""
    match state:
        case Closed():
            return {"state": "closed", "in_a_row": state.in_a_row}
        case Open():
            return {"state": "open", "opened_in_a_row": state.trips + 1}
        case HalfOpen():
            return {"state": "half_open", "opened_in_a_row": state.trips + 1, "trials": state.taken}


def _verdict(written: dict[str, Any]) -> dict[str, Any]:
    """Return a verdict in the shape of `--report`, from what `rows.verdict_text` has written."""
    delay_s, reason = written.get("delay_s"), written.get("reason")
    if written["action"] == "quarantine":
        reason = ", ".join(written["alive"])
    return {"action": written["action"], "delay_s": None if delay_s is None else round(delay_s, 6), "reason": reason}
