"""Breaker and tokens, read and written; and what tells other processes to look again."""

from policies import budget
from policies.breaker import CLOSED, State
from policies.budget import FULL, Bucket, Tokens
from policies.verdict import Ledger
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.rows import breaker_of, breaker_text, tokens_of

HOST = ""
"""Its bucket's row is that of a session that nobody can have."""

KEPT_NEWS = 4096


def read(database: Connection, session: str) -> tuple[State, Tokens]:
    """Return a session's breaker and tokens."""
    row = database.execute("SELECT breaker, spent, spent_at FROM sessions WHERE session = ?", (session,)).fetchone()
    return (CLOSED, FULL) if row is None else (breaker_of(row[0]), tokens_of(row[1], row[2]))


def read_ledger(database: Connection, session: str, host: Bucket | None) -> Ledger:
    """Return what a verdict reads."""
    breaker, tokens = read(database, session)
    return Ledger(breaker, tokens, FULL if host is None else read(database, HOST)[1])


def write(database: Connection, session: str, breaker: State, tokens: Tokens) -> None:
    """Write both; what is the default has no row."""
    text = breaker_text(breaker)
    if text is None and not tokens.spent:
        database.execute("DELETE FROM sessions WHERE session = ?", (session,))
        return
    database.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?) ON CONFLICT(session)"
        " DO UPDATE SET breaker = excluded.breaker, spent = excluded.spent, spent_at = excluded.spent_at",
        (session, text, tokens.spent, tokens.at),
    )


def deposit(database: Connection, session: str, rule: Bucket, host: Bucket | None, now: float) -> None:
    """Put in what a first attempt puts in."""
    breaker, tokens = read(database, session)
    if tokens.spent:
        write(database, session, breaker, budget.deposit(rule, tokens, now))
    if host is not None and (spent := read(database, HOST)[1]).spent:
        write(database, HOST, CLOSED, budget.deposit(host, spent, now))


def give_back(database: Connection, session: str, rule: Bucket, host: Bucket | None, tokens: float, now: float) -> None:
    """Return what a retry took that was not launched."""
    if not tokens:
        return
    breaker, spent = read(database, session)
    write(database, session, breaker, budget.give_back(rule, spent, tokens, now))
    if host is not None:
        write(database, HOST, CLOSED, budget.give_back(host, read(database, HOST)[1], tokens, now))


def tell(database: Connection, session: str, kind: str, owner: str) -> None:
    """Have other processes that have a run of the session under way look again."""
    others = (
        "SELECT 1 FROM runs INDEXED BY runs_under_way WHERE session = ? AND state <> 'ended' AND owner <> ? LIMIT 1"
    )
    if database.execute(others, (session, owner)).fetchone() is not None:
        post(database, session, kind)


def tell_host(database: Connection, owner: str) -> None:
    """Have other processes that wait for a slot of the host look again."""
    if database.execute("SELECT 1 FROM host_places WHERE owner <> ? LIMIT 1", (owner,)).fetchone() is not None:
        post(database, HOST, "host")


def post(database: Connection, session: str, kind: str) -> None:
    """Add to the news, and forget the oldest."""
    seq = database.execute("INSERT INTO news(session, kind) VALUES (?, ?)", (session, kind)).lastrowid or 0
    if seq % 256 == 0:
        database.execute("DELETE FROM news WHERE seq <= ?", (seq - KEPT_NEWS,))
