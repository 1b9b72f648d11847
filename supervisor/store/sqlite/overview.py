"""Which sessions are not at rest: what runs or waits in them, whose it is, and what holds them back."""

import json
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policies import budget
from policies.breaker import CLOSED, Closed, HalfOpen, Open, State
from policies.budget import Bucket
from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.rows import breaker_of, tokens_of

_LEASE: Final = (
    "SELECT runs.id, runs.session, runs.policy, runs.state, runs.number, runs.attempts, runs.started_wall, runs.stop,"
    " attempts.started_wall, attempts.tree_pid, owners.id, owners.pid, owners.life, owners.renewed_at"
    " FROM runs INDEXED BY runs_under_way"
    " LEFT JOIN attempts ON attempts.run = runs.seq AND attempts.outcome IS NULL"
    " LEFT JOIN owners ON owners.id = runs.owner WHERE runs.state <> 'ended' ORDER BY runs.session, runs.seq"
)

# Of many thousands that have failed before, few are open: the others are not worth being parsed.
_NOT_CLOSED: Final = "SELECT session, breaker FROM sessions WHERE breaker NOT LIKE '[\"closed\"%'"


class Holder(NamedTuple):
    """The process that carries a run out; `renewed_at` is of the store's clock."""

    id: str
    pid: int
    life: str
    renewed_at: float


class UnderWay(NamedTuple):
    """A run that has not ended. `since_wall`: of its attempt that runs; else of the run. `warden`: of a command."""

    run_id: str
    session: str
    policy: str
    state: str
    number: int
    attempts: int
    since_wall: float
    stop: str | None
    warden: int | None
    holder: Holder | None


class Quarantine(NamedTuple):
    """What keeps a session closed until it is seen to end, or reset."""

    run_id: str
    since_wall: float
    alive: tuple[str, ...]


@dataclass(slots=True)
class Session:
    """One session, and why it is not at rest. `tokens`: left, and in a full bucket, by the rule that it ran under last.

    `until_wall`: when its open breaker lets a trial through.
    """

    session: str
    runs: list[UnderWay] = field(default_factory=list)
    breaker: State = CLOSED
    until_wall: float | None = None
    tokens: tuple[float, float] | None = None
    quarantines: list[Quarantine] = field(default_factory=list)
    paused_wall: float | None = None


class Overview(NamedTuple):
    """Everything that is not at rest. `host_spent`: tokens of the host's bucket, as it was left at `host_spent_at`."""

    now_at: float
    sessions: list[Session]
    all_paused_wall: float | None
    host_spent: float
    host_spent_at: float


def overview(database: Connection, boot_id: str, at: float, wall: float) -> Overview:
    """Return what is not at rest; `at` is CLOCK_BOOTTIME, `wall` seconds since 1970."""
    now = _stored_now(database, boot_id, at, wall)
    found: dict[str, Session] = {}

    def of(session: str) -> Session:
        return found.setdefault(session, Session(session))

    for run in runs_under_way(database):
        of(run.session).runs.append(run)
    for session, run_id, since_wall, receipt in database.execute(
        "SELECT session, run_id, since_wall, receipt FROM quarantines ORDER BY since_wall"
    ):
        of(session).quarantines.append(Quarantine(run_id, since_wall, tuple(json.loads(receipt).get("alive", ()))))
    pauses = dict(database.execute("SELECT session, since_wall FROM pauses").fetchall())
    all_paused = pauses.pop("", None)
    for session, since_wall in pauses.items():
        of(session).paused_wall = since_wall
    for session, text in database.execute(_NOT_CLOSED):
        if not isinstance(breaker := breaker_of(text), Closed):
            of(session).breaker = breaker
            of(session).until_wall = wall + _until(breaker) - now
    for session in found.values():
        _add_ledger(database, session, now)
    _, host = ledger.read(database, ledger.HOST)
    return Overview(now, sorted(found.values(), key=_by_name), all_paused, host.spent, host.at)


def runs_under_way(database: Connection) -> list[UnderWay]:
    """Return every run that has not ended."""
    runs = []
    for run_id, session, policy, state, number, attempts, asked, stop, began, warden, *owner in database.execute(
        _LEASE
    ):
        holder = None if owner[0] is None else Holder(*owner)
        since = asked if began is None else began
        runs.append(UnderWay(run_id, session, policy, state, number, attempts, since, stop, warden, holder))
    return runs


def _by_name(session: Session) -> str:
    return session.session


def _until(state: Open | HalfOpen) -> float:
    return state.until if isinstance(state, Open) else state.not_before


def _add_ledger(database: Connection, session: Session, now: float) -> None:
    row = database.execute("SELECT spent, spent_at FROM sessions WHERE session = ?", (session.session,)).fetchone()
    rule = _rule(database, session.session)
    if rule is not None:
        tokens = budget.FULL if row is None else tokens_of(*row)
        session.tokens = (budget.left(rule, tokens, now), rule.capacity)


def _rule(database: Connection, session: str) -> Bucket | None:
    row = database.execute(
        "SELECT json_extract(rules, '$.budget.session') FROM policies WHERE hash ="
        " (SELECT policy_hash FROM runs WHERE session = ? ORDER BY seq DESC LIMIT 1)",
        (session,),
    ).fetchone()
    return None if row is None else Bucket(**json.loads(row[0]))


def _stored_now(database: Connection, boot_id: str, at: float, wall: float) -> float:
    """Return now on the clock of the rows: after a reboot they are of the old boot's until somebody writes."""
    meta = dict(database.execute("SELECT key, value FROM meta").fetchall())
    if "boot_id" not in meta or meta["boot_id"] == boot_id:
        return at
    return float(meta["at"]) + max(0.0, wall - float(meta["wall"]))
