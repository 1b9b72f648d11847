"""The slots of `limits.running`, one count for every process of the host."""

from supervisor.store.sqlite import ledger
from supervisor.store.sqlite.asking import Asking, Connection


def take_slot(database: Connection, run: Asking, slots: int, rank: int) -> bool:
    """Take a slot, or a place in the host's line; True: it has one, or an ancestor has one that it uses.

    A run whose permit was taken meanwhile gets none, and does not wait for one: `begin` tells it so.
    """
    row = database.execute(
        "SELECT seq, slot FROM runs WHERE id = ? AND owner = ? AND state = 'permitted'", (run.run_id, run.owner)
    ).fetchone()
    if row is None or row[1] or _ancestor_has_one(database, run):
        return True
    seq = row[0]
    mine = database.execute("SELECT place FROM host_places WHERE run = ?", (seq,)).fetchone()
    if mine is None:
        place = database.execute(
            "INSERT INTO host_places(run, owner, rank) VALUES (?, ?, ?)", (seq, run.owner, rank)
        ).lastrowid
    else:
        [place] = mine
    [taken] = database.execute("SELECT count(*) FROM runs WHERE slot = 1").fetchone()
    ahead = "SELECT count(*) FROM host_places WHERE rank < ? OR (rank = ? AND place < ?)"
    [before] = database.execute(ahead, (rank, rank, place)).fetchone()
    if taken + before >= slots:
        return False
    database.execute("DELETE FROM host_places WHERE run = ?", (seq,))
    database.execute("UPDATE runs SET slot = 1 WHERE seq = ?", (seq,))
    return True


def give_slot(database: Connection, run: Asking) -> None:
    """Give the slot back, to whoever is next."""
    database.execute(
        "DELETE FROM host_places WHERE run = (SELECT seq FROM runs WHERE id = ? AND owner = ?)", (run.run_id, run.owner)
    )
    database.execute("UPDATE runs SET slot = 0 WHERE id = ? AND owner = ?", (run.run_id, run.owner))
    ledger.tell_host(database, run.owner)


def _ancestor_has_one(database: Connection, run: Asking) -> bool:
    return any(
        database.execute("SELECT 1 FROM runs WHERE id = ? AND slot = 1", (run_id,)).fetchone() for run_id in run.parents
    )
