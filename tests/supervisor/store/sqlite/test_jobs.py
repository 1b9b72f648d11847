"""What is remembered of jobs, where processes with different settings share one state."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from policies.catch_up import CatchUp
from policies.schedule import Every
from supervisor.store.sqlite import jobs, open_ticks, schema, ticks
from supervisor.store.sqlite.asking import Connection
from supervisor.store.sqlite.jobs import FORGET_JOB_S, NAMED_S, Asked, JobState
from supervisor.store.sqlite.ticks import Claimed
from supervisor.testing import InlineDatabase, SharedFile
from supervisor.testing.clock import WALL

HOUR_S = 3600.0


@pytest.fixture
def database() -> Connection:
    connection = SharedFile().connection
    schema.prepare(connection, InlineDatabase.path)
    return connection


def asked(name: str = "job", offset_s: float = 0.0, catch_up: CatchUp = CatchUp.LAST) -> Asked:
    return Asked(name, Every(HOUR_S, WALL), "every hour", offset_s, catch_up)


def sync(database: Connection, asked: Sequence[Asked], wall: float, gone: Collection[str] = ()) -> dict[str, JobState]:
    return jobs.sync(database, asked, lambda: wall, gone)


def claim(database: Connection, asked: Sequence[Asked], me: str, wall: float) -> list[Claimed]:
    return ticks.claim(database, asked, me, lambda: wall)


def of(database: Connection) -> list[Any]:
    rows = database.execute("SELECT tick_wall - ?, outcome, reason FROM ticks ORDER BY tick_wall", (WALL,))
    return rows.fetchall()


# --- other settings


def test_a_process_with_other_settings_takes_nothing_from_a_job_that_it_does_not_know(database: Connection) -> None:
    sync(database, [asked()], WALL)
    jobs.note_job_succeeded(database, "job", WALL + 1.0)
    jobs.pause(database, "job", WALL + 2.0)
    before = jobs.states(database)
    assert sync(database, [asked("another")], WALL + 3.0)["job"] == before["job"]
    assert claim(database, [asked()], "one", WALL + HOUR_S) == []
    assert of(database) == [(HOUR_S, "skipped", "paused")]


def test_a_job_that_comes_back_goes_on_from_the_last_tick_that_was_decided_on(database: Connection) -> None:
    sync(database, [asked()], WALL)
    sync(database, [asked("another")], WALL + 1.0)
    sync(database, [asked()], WALL + HOUR_S + 300.0)
    [missed] = claim(database, [asked()], "one", WALL + HOUR_S + 301.0)
    assert (missed.tick, missed.late) == (WALL + HOUR_S, True)


def test_an_open_tick_is_left_to_the_process_that_names_its_job_until_none_has_for_a_while(
    database: Connection,
) -> None:
    sync(database, [asked()], WALL)
    claim(database, [asked()], "dead", WALL + HOUR_S)
    assert open_ticks.take_over(database, [asked("another")], "two", WALL + HOUR_S + 1.0) == []
    jobs.name_again(database, ["job"], WALL + HOUR_S + 600.0)
    assert open_ticks.take_over(database, [], "two", WALL + HOUR_S + 599.0 + NAMED_S) == []
    assert of(database) == [(HOUR_S, None, None)]
    assert open_ticks.take_over(database, [], "two", WALL + HOUR_S + 601.0 + NAMED_S) == []
    assert of(database) == [(HOUR_S, "skipped", "removed")]


def test_what_was_left_open_of_a_job_that_its_process_has_no_more_is_skipped_and_its_pause_stays(
    database: Connection,
) -> None:
    sync(database, [asked()], WALL)
    claim(database, [asked()], "dead", WALL + HOUR_S)
    jobs.pause(database, "job", WALL + HOUR_S)
    sync(database, [], WALL + HOUR_S + 1.0, gone=["job"])
    assert open_ticks.take_over(database, [], "two", WALL + HOUR_S + 2.0) == []
    assert of(database) == [(HOUR_S, "skipped", "removed")]
    assert sync(database, [asked()], WALL + HOUR_S + 3.0)["job"].paused == WALL + HOUR_S


def test_a_job_that_nobody_names_is_forgotten_after_a_week_unless_it_is_paused(database: Connection) -> None:
    sync(database, [asked(name) for name in ("named", "paused", "gone", "unnamed")], WALL)
    jobs.pause(database, "paused", WALL)
    sync(database, [], WALL + 60.0, gone=["gone"])
    jobs.name_again(database, ["named"], WALL + HOUR_S)
    assert jobs.forget_jobs(database, WALL + FORGET_JOB_S - NAMED_S) == 0
    assert jobs.forget_jobs(database, WALL + FORGET_JOB_S + 61.0) == 2
    assert set(jobs.states(database)) == {"named", "paused"}


def test_a_job_that_was_forgotten_is_known_again_with_its_next_tick_and_has_missed_no_more(
    database: Connection,
) -> None:
    sync(database, [asked()], WALL)
    jobs.forget_jobs(database, WALL + FORGET_JOB_S + 1.0)
    [claimed] = claim(database, [asked()], "one", WALL + 200 * HOUR_S + 5.0)
    assert (claimed.tick, claimed.late) == (WALL + 200 * HOUR_S, False)
    assert len(of(database)) == 1


# --- the clock and the stagger


@pytest.mark.parametrize("catch_up", [CatchUp.NONE, CatchUp.LAST])
def test_a_stagger_that_grows_is_no_clock_that_was_set_back(database: Connection, catch_up: CatchUp) -> None:
    sync(database, [asked(catch_up=catch_up)], WALL)
    claim(database, [asked(catch_up=catch_up)], "one", WALL + HOUR_S + 100.0)
    before = of(database)
    later = asked(offset_s=600.0, catch_up=catch_up)
    sync(database, [later], WALL + HOUR_S + 110.0)
    assert claim(database, [later], "one", WALL + HOUR_S + 111.0) == []
    assert claim(database, [later], "one", WALL + HOUR_S + 601.0) == []
    assert of(database) == before
    assert [each.tick for each in claim(database, [later], "one", WALL + 2 * HOUR_S + 600.0)] == [WALL + 2 * HOUR_S]


def test_two_processes_with_different_staggers_start_each_tick_once(database: Connection) -> None:
    prompt, later = asked(catch_up=CatchUp.NONE), asked(offset_s=600.0, catch_up=CatchUp.NONE)
    sync(database, [prompt], WALL)
    claimed = []
    for second in range(0, 3 * int(HOUR_S), 20):
        claimed += claim(database, [prompt], "one", WALL + HOUR_S + second)
        claimed += claim(database, [later], "two", WALL + HOUR_S + second)
    assert [each.tick - WALL for each in claimed] == [HOUR_S, 2 * HOUR_S, 3 * HOUR_S]
    assert len(of(database)) == 3


def test_a_clock_that_is_set_back_is_seen_behind_any_stagger(database: Connection) -> None:
    job = asked(offset_s=600.0, catch_up=CatchUp.NONE)
    sync(database, [job], WALL + 600.0)
    claim(database, [job], "one", WALL + HOUR_S + 900.0)
    assert of(database) == [(HOUR_S, "expired", None)]
    assert claim(database, [job], "one", WALL + HOUR_S + 500.0) == []
    assert of(database) == [], "by this clock it is not due yet"
    assert [each.tick for each in claim(database, [job], "one", WALL + HOUR_S + 600.0)] == [WALL + HOUR_S]
