"""What is forgotten: by age, by number, with all that hangs on it; and never in a run's way."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from policies.breaker import Closed
from supervisor import Supervisor
from supervisor.clock import clock_of
from supervisor.errors import StoreUnavailable
from supervisor.lock.life_file import LifeFile
from supervisor.store.forgetting import FORGET_AFTER_S
from supervisor.store.sqlite import ledger, retention
from supervisor.store.sqlite.database import FileDatabase
from supervisor.store.sqlite.retention import BATCH, EVERY_RUNS, SWEEP_EVERY_S, forget_sessions, retain
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing import ScriptedWork, SharedFile, fails, hangs, succeeds
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import number_of, runs_in, supervised

DAY_S = 86400.0
POLICY = rules()


async def runs(supervisor: Any, number: int, session: str = "a", policy: Any = POLICY) -> None:
    for _ in range(number):
        await supervisor.run_report(session, ScriptedWork(succeeds()), policy=policy)


def quarantine(connection: Any, run_id: str, life: str | None = None) -> None:
    connection.execute(
        "INSERT INTO quarantines(session, run_id, owner, tasks, elsewhere, tree_life, receipt, since_wall, known_at)"
        " VALUES ('b', ?, 'x', 0, 1, ?, '{}', 0, 0)",
        (run_id, life),
    )


async def test_of_many_runs_the_newest_are_kept_with_their_attempts() -> None:
    file = SharedFile()
    async with supervised(file, keep_runs=5) as supervisor:
        await runs(supervisor, EVERY_RUNS + 10)
        newest = [run["run_id"] for run in runs_in(file, limit=5)]
    assert [run["run_id"] for run in runs_in(file)] == newest
    assert number_of(file, "attempts") == 5


async def test_a_process_that_lives_long_forgets_beside_its_runs() -> None:
    file = SharedFile()
    async with supervised(file, keep_runs=5) as supervisor:
        await runs(supervisor, EVERY_RUNS - 1)
        assert number_of(file, "runs") == EVERY_RUNS - 1
        await runs(supervisor, 1)
        await asyncio.sleep(1.0)
        assert number_of(file, "runs") == 5


async def test_a_run_is_kept_until_it_is_too_old() -> None:
    file = SharedFile()
    async with supervised(file, keep_age_s=30 * DAY_S) as supervisor:
        await runs(supervisor, 3)
        await asyncio.sleep(29 * DAY_S)
        await runs(supervisor, 1)
    assert number_of(file, "runs") == 4
    async with supervised(file, name="two", keep_age_s=30 * DAY_S) as supervisor:
        await asyncio.sleep(2 * DAY_S)
        await runs(supervisor, 1)
    assert number_of(file, "runs") == 2


async def test_of_any_age_means_for_ever() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await runs(supervisor, 1)
        await asyncio.sleep(1000 * DAY_S)
        await runs(supervisor, 1)
    assert number_of(file, "runs") == 2


async def test_what_is_under_way_or_quarantined_is_kept_however_old() -> None:
    file = SharedFile()
    async with supervised(file, keep_runs=1) as supervisor:
        hanging = asyncio.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=rules(timeout_s=None)))
        await asyncio.sleep(0.0)
        await runs(supervisor, 1, session="b")
        [left] = [run["run_id"] for run in runs_in(file, session="b")]
        file.connection.execute(
            "INSERT INTO quarantines VALUES ('b', ?, 'x', 0, 0, NULL, NULL, NULL, '{}', 0, 0)", (left,)
        )
        await runs(supervisor, EVERY_RUNS - 1, session="c")
        await asyncio.sleep(1.0)
        assert {run["session"] for run in runs_in(file)} == {"a", "b", "c"}
        assert number_of(file, "runs") == 3
        supervisor.cancel("a")
        await hanging


async def test_a_policy_is_kept_as_long_as_a_run_was_under_it() -> None:
    file = SharedFile()
    async with supervised(file, keep_runs=2) as supervisor:
        await runs(supervisor, 1, policy=rules(attempts=7))
        await runs(supervisor, 2)
        assert number_of(file, "policies") == 2
    assert number_of(file, "policies") == 1


async def test_no_transaction_forgets_more_than_a_batch() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await runs(supervisor, BATCH + 20)
        database = supervisor._effects.store.database  # type: ignore[union-attr]
        assert retention.forget_runs(file.connection, None, 0, 0.0) == BATCH
        assert await retain(database, None, 0, 0.0) == 20


async def test_a_store_that_cannot_forget_says_so_and_no_run_minds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(retention, "forget_runs", full)
    file = SharedFile()
    with caplog.at_level(logging.WARNING, "turnkeeper"):
        async with supervised(file, keep_runs=1) as supervisor:
            await runs(supervisor, EVERY_RUNS + 1)
    assert number_of(file, "runs") == EVERY_RUNS + 1
    assert "what is old could not be forgotten: the disk is full" in caplog.text


# --- sessions


async def test_a_row_of_failures_that_nothing_was_added_to_for_a_week_is_forgotten() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        for session in ("old", "new"):
            await supervisor.run_report(session, ScriptedWork(fails("network")), policy=rules(attempts=1))
            await asyncio.sleep(FORGET_AFTER_S - 60.0 if session == "old" else 120.0)
        assert number_of(file, "sessions") == 2
        assert forget_sessions(file.connection, "", clock_of(asyncio.get_running_loop()).boottime()) is None
        assert [row for (row,) in file.connection.execute("SELECT session FROM sessions")] == ["new"]


async def test_an_open_breaker_is_kept_for_a_week_after_its_cooldown_and_spent_tokens_for_a_week() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        policy = rules(attempts=2, failures=2, cooldown_s=2 * DAY_S)
        await supervisor.run_report("a", ScriptedWork(fails("network"), fails("network")), policy=policy)
        now = clock_of(asyncio.get_running_loop()).boottime()
        forget_sessions(file.connection, "", now + FORGET_AFTER_S + 60.0)
        breaker, tokens = ledger.read(file.connection, "a")
        assert not isinstance(breaker, Closed)
        assert not tokens.spent
        forget_sessions(file.connection, "", now + FORGET_AFTER_S + 3 * DAY_S)
        assert number_of(file, "sessions") == 0


async def test_sessions_are_swept_once_an_hour_by_one_of_all_processes() -> None:
    file = SharedFile()
    async with supervised(file):
        assert retention.claim_sweep(file.connection, 10.0**9)
        assert not retention.claim_sweep(file.connection, 10.0**9 + SWEEP_EVERY_S - 1.0)
        assert retention.claim_sweep(file.connection, 10.0**9 + SWEEP_EVERY_S)
        assert retention.claim_sweep(file.connection, 10.0**9 - SWEEP_EVERY_S), "the clock was set back"


async def test_a_life_file_is_wanted_while_an_owner_an_attempt_or_a_quarantine_names_it() -> None:
    file = SharedFile()
    async with supervised(file) as supervisor:
        await runs(supervisor, 1)
        file.connection.execute("UPDATE attempts SET tree_life = '/state/alive/of-an-ended-attempt'")
        assert len(retention.wanted_lives(file.connection)) == 1
        file.connection.execute("UPDATE attempts SET outcome = NULL, tree_life = '/state/alive/tree'")
        file.connection.execute("UPDATE runs SET state = 'running'")
        quarantine(file.connection, "r", "/state/alive/left")
        assert {"tree", "left"} < retention.wanted_lives(file.connection)


@pytest.mark.processes
async def test_the_life_files_of_the_dead_are_swept_but_for_those_that_are_wanted(tmp_path: Path) -> None:
    """A free file of a process is that of a dead one."""
    alive = SqliteStore(tmp_path / "state.db").alive
    for name in ("forgotten", "wanted"):
        leave_old_life(alive, name)
    async with Supervisor(store=SqliteStore(tmp_path / "state.db")) as supervisor:
        database = supervisor._effects.store.database  # type: ignore[union-attr]
        await database.run(quarantine, "r", str(alive / "wanted"))
        await runs(supervisor, 1)
    assert [path.name for path in alive.iterdir()] == ["wanted"]


@pytest.mark.processes
async def test_life_files_that_another_database_of_the_same_folder_names_are_not_swept(tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "other.db")
    dead = f"{other.life_prefix}dead"
    leave_old_life(other.alive, dead)
    async with Supervisor(store=SqliteStore(tmp_path / "state.db")) as supervisor:
        await runs(supervisor, 1)
    assert (other.alive / dead).exists()


def leave_old_life(alive: Path, name: str) -> None:
    """Leave the file of a dead process, as old as it must be to be swept."""
    LifeFile.make(alive, name, 0.0)._held._let_go("")
    os.utime(alive / name, (0, 0))


@pytest.mark.processes
async def test_a_file_with_many_runs_stays_as_large_as_those_that_are_kept(tmp_path: Path) -> None:
    """Each round writes as many runs as are kept; what is freed is used again."""
    database, sizes = FileDatabase(tmp_path / "state.db"), list[int]()
    await database.open()
    for round_ in range(6):
        await database.run(_write_runs, 1000, round_)
        await retain(database, None, 1000, 0.0)
        sizes.append(await database.read(_pages))
    await database.close()
    assert sizes[-1] <= 1.1 * sizes[1], sizes


def _pages(connection: Any) -> int:
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def _write_runs(connection: Any, number: int, round_: int) -> None:
    for n in range(number):
        run = connection.execute(
            "INSERT INTO runs(id, session, owner, policy, policy_hash, state, attempts, parents, started_wall,"
            " duration_s, status, arrived_at) VALUES (?, ?, 'o', 'p', 'h', 'ended', 4, '[]', 0, 1, 'failed', 0)",
            (f"run-{round_:04}{n}-1", f"agent:{n % 50}:reports"),
        ).lastrowid
        connection.execute(
            "INSERT INTO attempts(run, session, number, owner, generation, trial, elsewhere, began_at, started_wall,"
            " outcome, failure) VALUES (?, 's', 1, 'o', 0, 0, 0, 0, 0, 'failed', ?)",
            (run, '{"output_tail": "' + "x" * 400 + '"}'),
        )
