"""Runs in nobody's hands: their process died, and they wait, in a backoff, for a `serve` that adopts them."""

from typing import Final

from supervisor.store.sqlite.asking import Connection

NOBODY: Final = ""
"""The owner of a run that is to be adopted."""


def end_left(database: Connection, session: str, reason: str, wall: float) -> None:
    """End a session's runs that are in nobody's hands ('': every session's): nobody would hear that they are to end.

    They hold no place, no permit and no slot, so that nobody waits for them either.
    """
    database.execute(
        "UPDATE runs SET state = 'ended', stop = NULL, status = 'cancelled', reason = ?, detail = ?,"
        " duration_s = max(0, ? - started_wall)"
        " WHERE owner = ? AND state <> 'ended' AND ? IN ('', session)",
        (reason, "its supervisor had died, and nobody had gone on with it", wall, NOBODY, session),
    )
