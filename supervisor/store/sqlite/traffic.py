"""What goes on in a session, as its gate asks."""

from policies import gate
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.nobody import NOBODY


def traffic_of(database: Connection, session: str, *, silent: bool = False) -> gate.Traffic:
    """Count what goes on. `silent`: with the runs that were passed by; who replaces others ends those too.

    One in nobody's hands is counted likewise: nothing of it runs, and who adopts it has it wait in line as any retry.
    """
    standing, running, passed = database.execute(
        "SELECT count(*), coalesce(sum(state IN ('permitted', 'running')), 0),"
        " coalesce(sum(owner = ? OR state = 'waiting' AND seq NOT IN (SELECT run FROM places)), 0)"
        " FROM runs INDEXED BY runs_under_way WHERE session = ? AND state <> 'ended'",
        (NOBODY, session),
    ).fetchone()
    standing -= 0 if silent else passed
    if not standing:
        return gate.Traffic()
    retries, newest, places = database.execute(
        "SELECT coalesce(sum(retry), 0), coalesce(sum(newest), 0), count(*) FROM places WHERE session = ?", (session,)
    ).fetchone()
    in_line = places - retries - newest
    return gate.Traffic(running, in_line, standing - in_line - newest, retries)


def running_in(database: Connection, session: str) -> int:
    """Count the permits of a session that are held."""
    [running] = database.execute(
        "SELECT count(*) FROM runs INDEXED BY runs_under_way"
        " WHERE session = ? AND state <> 'ended' AND state IN ('permitted', 'running')",
        (session,),
    ).fetchone()
    return int(running)
