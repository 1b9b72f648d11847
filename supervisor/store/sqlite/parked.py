"""The lock files that a silent process's parked wardens may hold: until an attempt begins, no row names its warden."""

from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.lost import is_heard


def locks_of(database: Connection, owner: str) -> list[str]:
    """Return the lock files that an owner's runs have named which are in no attempt."""
    return [
        lock
        for (lock,) in database.execute(
            "SELECT DISTINCT lock FROM runs WHERE owner = ? AND state <> 'ended' AND state <> 'running'"
            " AND lock IS NOT NULL",
            (owner,),
        )
    ]


def locks_in_use(database: Connection, owner: str, judged_at: float) -> frozenset[str] | None:
    """Return the lock files of runs that hold a permit, of all that are of a silent owner's process.

    None: it was heard since.
    """
    if is_heard(database, owner, judged_at):
        return None
    rows = database.execute(
        "SELECT lock FROM runs JOIN owners ON owners.id = owner WHERE pid = (SELECT pid FROM owners WHERE id = ?)"
        " AND state <> 'ended' AND state IN ('permitted', 'running') AND lock IS NOT NULL",
        (owner,),
    )
    return frozenset(lock for (lock,) in rows)
