"""The tables, their version, and the making of the file."""

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Final

from supervisor.clock import SystemClock
from supervisor.errors import StoreUnavailable
from supervisor.state_folder import make_private
from supervisor.store.sqlite.unavailable import is_busy

VERSION: Final = 2
"""Grows with each change of the tables below; 1 was given to several of them, before there was a dispatcher."""
APPLICATION: Final = 0x7475726E
"""`turn`: what `file` and the like know a database of ours by."""

_SWITCH_S: Final = 5.0
_PAUSE_S: Final = 0.01

_TABLES: Final = """
-- Moments `_at` are seconds of CLOCK_BOOTTIME, `_wall` seconds since 1970 for people.
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Each process that has this database open, with the life file that says whether it lives. serves: it runs jobs.
CREATE TABLE owners(
    id TEXT PRIMARY KEY, pid INTEGER NOT NULL, life TEXT NOT NULL, renewed_at REAL NOT NULL, started_wall REAL NOT NULL,
    serves INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- state: waiting (in line) | permitted (has its permit) | running (an attempt) | backoff | ended
CREATE TABLE runs(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL, owner TEXT NOT NULL,
    policy TEXT NOT NULL, policy_hash TEXT NOT NULL, state TEXT NOT NULL, number INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL, parents TEXT NOT NULL, deadline_at REAL, retries_below INTEGER NOT NULL DEFAULT 0,
    reserved REAL, replaces INTEGER NOT NULL DEFAULT 0, displaced INTEGER NOT NULL DEFAULT 0, stop TEXT,
    slot INTEGER NOT NULL DEFAULT 0, lock TEXT, started_wall REAL NOT NULL, duration_s REAL, status TEXT, reason TEXT,
    detail TEXT NOT NULL DEFAULT '', arrived_at REAL NOT NULL
);
-- Named where it is meant (INDEXED BY): left to itself, SQLite reads all that a session has ever run.
CREATE INDEX runs_under_way ON runs(session, owner) WHERE state <> 'ended';
CREATE INDEX runs_stopped ON runs(owner) WHERE stop IS NOT NULL AND state <> 'ended';
CREATE INDEX runs_in_a_slot ON runs(slot) WHERE slot = 1;
CREATE INDEX runs_of_session ON runs(session);

-- The line of a session. `newest`: the one that waits behind everybody, under `coalesce`.
CREATE TABLE places(
    place INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL UNIQUE, session TEXT NOT NULL, owner TEXT NOT NULL,
    retry INTEGER NOT NULL, newest INTEGER NOT NULL
);
CREATE INDEX places_of_session ON places(session);

-- The line of the host's slots: by rank, then by arrival.
CREATE TABLE host_places(
    place INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL UNIQUE, owner TEXT NOT NULL, rank INTEGER NOT NULL
);

-- An attempt without an outcome is the lease of its session; its fence only grows, for AUTOINCREMENT never goes back.
CREATE TABLE attempts(
    fence INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, session TEXT NOT NULL, number INTEGER NOT NULL,
    owner TEXT NOT NULL, generation INTEGER NOT NULL, trial INTEGER NOT NULL, tree_pid INTEGER, tree_starttime INTEGER,
    tree_life TEXT, elsewhere INTEGER NOT NULL, began_at REAL NOT NULL, started_wall REAL NOT NULL, duration_s REAL,
    outcome TEXT, kind TEXT,
    failure TEXT, receipt TEXT, verdict TEXT, why TEXT, ended_by TEXT
);
CREATE INDEX attempts_of_run ON attempts(run);

-- What is not the default: a session that is closed and full of tokens has no row. '' is the host's bucket.
CREATE TABLE sessions(
    session TEXT PRIMARY KEY, breaker TEXT, spent REAL NOT NULL, spent_at REAL NOT NULL
) WITHOUT ROWID;

-- known_at: when its owner was last known to live: a container that was started later is its proof of death.
CREATE TABLE quarantines(
    session TEXT NOT NULL, run_id TEXT NOT NULL, owner TEXT NOT NULL, tasks INTEGER NOT NULL,
    elsewhere INTEGER NOT NULL, tree_pid INTEGER, tree_starttime INTEGER, tree_life TEXT,
    receipt TEXT NOT NULL, since_wall REAL NOT NULL, known_at REAL NOT NULL,
    PRIMARY KEY(session, run_id)
) WITHOUT ROWID;

-- '' is every session.
CREATE TABLE pauses(session TEXT PRIMARY KEY, since_wall REAL NOT NULL) WITHOUT ROWID;

-- How processes tell each other that they should look again; kind: freed | changed | stop | host
CREATE TABLE news(seq INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, kind TEXT NOT NULL);

CREATE TABLE policies(hash TEXT PRIMARY KEY, name TEXT NOT NULL, rules TEXT NOT NULL) WITHOUT ROWID;

-- A job of the settings. decided_wall: each tick up to there is in the ledger, as it was found at looked_wall;
-- overdue_wall: when that was told; seen_wall: when a process last named the job.
CREATE TABLE jobs(
    name TEXT PRIMARY KEY, schedule TEXT NOT NULL, known_wall REAL NOT NULL, decided_wall REAL NOT NULL,
    looked_wall REAL NOT NULL, seen_wall REAL NOT NULL, paused_wall REAL, succeeded_wall REAL, succeeded_tick REAL,
    overdue_wall REAL
) WITHOUT ROWID;

-- The ledger: each due tick, by the moment of its schedule. `outcome`: started | skipped | expired; NULL: its run has
-- begun no attempt yet, in the hands of `owner`. first_wall: an expired one stands for all from there on, uncounted.
CREATE TABLE ticks(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, tick_wall REAL NOT NULL, first_wall REAL,
    outcome TEXT, reason TEXT, run_id TEXT, owner TEXT, found_wall REAL NOT NULL, UNIQUE(job, tick_wall)
);
CREATE INDEX ticks_open ON ticks(owner) WHERE outcome IS NULL;
CREATE INDEX ticks_of_run ON ticks(run_id) WHERE run_id IS NOT NULL;

-- When a session and kind was last told of, by itself or in a summary; so many more have come since.
CREATE TABLE alerts_sent(
    session TEXT NOT NULL, kind TEXT NOT NULL, sent_at REAL NOT NULL, repeats INTEGER NOT NULL,
    PRIMARY KEY(session, kind)
) WITHOUT ROWID;

-- Alerts of the last minute: sent, or held for the summary.
CREATE TABLE alerts_recent(
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, session TEXT NOT NULL, sent INTEGER NOT NULL
);
CREATE INDEX alerts_recent_sent ON alerts_recent(sent, seq);
"""


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one; OSError if that cannot be.

    It gets its name when its mode is right already, and is closed before that: SQLite may have the named one open.
    An empty one that somebody made for us gets that mode too, by its name; the log beside it gets it from there.
    """
    with suppress(FileNotFoundError):
        facts = os.stat(path)
        if stat.S_ISREG(facts.st_mode) and facts.st_size == 0 and facts.st_uid == os.geteuid():
            os.chmod(path, 0o600)
    if os.path.lexists(path):
        return
    make_private(path.parent)
    passing = path.with_name(f".{path.name}.{os.getpid()}.{id(path):x}")
    os.close(os.open(passing, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(passing, path)
    finally:
        os.unlink(passing)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or see that they are ours; raises sqlite3.Error, and StoreUnavailable for a stranger's file."""
    found = version(connection, path)
    _keep_a_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if found == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version(connection, path) == 0:  # another process may have made them meanwhile
            lines = (line for line in _TABLES.splitlines() if not line.startswith("--"))
            for statement in "\n".join(lines).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL. Where others just open it too, SQLite may refuse that at once instead of waiting."""
    clock = SystemClock()
    until = clock.now() + _SWITCH_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or clock.now() >= until:
                raise
            Event().wait(_PAUSE_S)
        else:
            return


def version(connection: sqlite3.Connection, path: Path) -> int:
    """Return its version, 0 for an empty file; StoreUnavailable for one that is not ours to use."""
    application, found, is_empty = _facts(connection)
    if application == 0 and found == 0:
        if is_empty:
            return 0
    elif application == APPLICATION and found == VERSION:
        return int(found)
    elif application == APPLICATION and found < VERSION:
        raise StoreUnavailable(
            f"the state {path} is of an older Turnkeeper, from before the first release (its version is {found}, this "
            f"one knows {VERSION}): end what uses it and move it away, with its alive/ folder; a new one is made"
        )
    elif application == APPLICATION:
        raise StoreUnavailable(
            f"the state {path} is of a newer Turnkeeper (its version is {found}, this one knows {VERSION}): "
            "install that one, or name another state"
        )
    raise StoreUnavailable(f"the state {path} is another program's database: it is left as it is; name another one")


def _facts(connection: sqlite3.Connection) -> tuple[int, int, bool]:
    """Return what says whose it is, all of one moment: another process may just be making the tables."""
    begins = not connection.in_transaction
    if begins:
        connection.execute("BEGIN")
    try:
        [application] = connection.execute("PRAGMA application_id").fetchone()
        [found] = connection.execute("PRAGMA user_version").fetchone()
        return application, found, connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    finally:
        if begins:
            with suppress(sqlite3.Error):  # SQLite has done so itself, where the file cannot be read
                connection.execute("ROLLBACK")
