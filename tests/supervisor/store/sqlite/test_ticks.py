"""The ledger of ticks: each is found once, by one of those who look, and ends once."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from policies.catch_up import MOST_COUNTED, CatchUp, tick_id
from policies.schedule import Every, Schedule
from supervisor.owner import this_process
from supervisor.store.sqlite import jobs, open_ticks, owners, schema, ticks
from supervisor.store.sqlite.asking import Connection, Moment
from supervisor.store.sqlite.jobs import Asked, JobState
from supervisor.store.sqlite.owners import Owner
from supervisor.store.sqlite.ticks import Claimed
from supervisor.testing import InlineDatabase, SharedFile
from supervisor.testing.clock import WALL

DAY_S = 86400.0


@pytest.fixture
def database(file: SharedFile) -> Connection:
    return file.connection


@pytest.fixture
def file() -> SharedFile:
    file = SharedFile()
    schema.prepare(file.connection, InlineDatabase.path)
    return file


def asked(name: str = "job", schedule: Schedule | None = None, catch_up: CatchUp = CatchUp.LAST, **more: Any) -> Asked:
    schedule = schedule or Every(60.0, WALL)
    return Asked(name, schedule, more.get("text", repr(schedule)), more.get("offset_s", 0.0), catch_up)


def sync(database: Connection, asked: Sequence[Asked], wall: float, gone: Collection[str] = ()) -> dict[str, JobState]:
    return jobs.sync(database, asked, lambda: wall, gone)


def claim(database: Connection, asked: Sequence[Asked], me: str, wall: float) -> list[Claimed]:
    return ticks.claim(database, asked, me, lambda: wall)


def lives(database: Connection, name: str) -> None:
    moment = Moment(0.0, WALL, lambda: 0.0)
    owners.register(database, Owner(name, 1, f"/alive/{name}", 0.0), this_process().boot_id, moment)


def of(database: Connection, name: str = "job") -> list[tuple[float, str | None, str | None]]:
    rows = database.execute("SELECT tick_wall, outcome, reason FROM ticks WHERE job = ? ORDER BY tick_wall", (name,))
    return [(tick - WALL, outcome, reason) for tick, outcome, reason in rows]


def test_a_due_tick_is_claimed_by_one_of_two_who_look(database: Connection) -> None:
    sync(database, [asked()], WALL)
    tick = WALL + 60.0
    assert claim(database, [asked()], "one", tick) == [Claimed("job", tick, tick_id("job", tick), late=False)]
    assert claim(database, [asked()], "two", tick) == []
    assert claim(database, [asked()], "one", tick + 1) == []
    assert of(database) == [(60.0, None, None)]


def test_a_new_job_has_missed_nothing(database: Connection) -> None:
    sync(database, [asked(schedule=Every(60.0, WALL - DAY_S))], WALL + 30.0)
    assert claim(database, [asked()], "one", WALL + 59.0) == []
    assert of(database) == []


def test_a_job_with_another_schedule_has_missed_nothing_and_never_succeeded(database: Connection) -> None:
    sync(database, [asked()], WALL)
    jobs.note_job_succeeded(database, "job", WALL + 1)
    other = asked(schedule=Every(7.0, WALL), text="every 7s")
    states = sync(database, [other], WALL + 3600.0)
    assert (states["job"].decided, states["job"].succeeded) == (WALL + 3600.0, None)
    assert claim(database, [other], "one", WALL + 3601.0) == []


def test_a_job_that_is_the_same_as_before_is_remembered(database: Connection) -> None:
    before = sync(database, [asked()], WALL)
    assert sync(database, [asked()], WALL + 3600.0) == before


def test_ticks_of_a_paused_job_are_skipped(database: Connection) -> None:
    sync(database, [asked()], WALL)
    assert jobs.pause(database, "job", WALL + 1.0)
    assert not jobs.pause(database, "job", WALL + 2.0)
    assert claim(database, [asked()], "one", WALL + 60.0) == []
    assert jobs.resume(database, "job")
    assert not jobs.resume(database, "job")
    assert len(claim(database, [asked()], "one", WALL + 120.0)) == 1
    assert of(database) == [(60.0, "skipped", "paused"), (120.0, None, None)]


def test_a_stagger_is_no_part_of_a_tick(database: Connection) -> None:
    late = asked(offset_s=7.0)
    sync(database, [late], WALL + 8.0)
    assert claim(database, [late], "one", WALL + 66.9) == []
    [claimed] = claim(database, [late], "one", WALL + 67.0)
    assert (claimed.tick, claimed.late) == (WALL + 60.0, False)


@pytest.mark.parametrize(
    ("catch_up", "started"), [(CatchUp.NONE, []), (CatchUp.LAST, [400.0]), (CatchUp.ALL, [100.0, 200.0, 300.0, 400.0])]
)
def test_missed_ticks_are_all_told_of(database: Connection, catch_up: CatchUp, started: list[float]) -> None:
    job = asked(schedule=Every(100.0, WALL), catch_up=catch_up)
    sync(database, [job], WALL)
    claimed = claim(database, [job], "one", WALL + 499.0)
    assert [each.tick - WALL for each in claimed] == started
    assert all(each.late for each in claimed)
    ticks_of = (100.0, 200.0, 300.0, 400.0)
    assert of(database) == [(at, None if at in started else "expired", None) for at in ticks_of]


def test_of_a_long_pause_the_oldest_ticks_are_one_row(database: Connection) -> None:
    job = asked(schedule=Every(1.0, WALL))
    sync(database, [job], WALL)
    assert len(claim(database, [job], "one", WALL + 10_000.0)) == 1
    rows = database.execute("SELECT first_wall, tick_wall FROM ticks ORDER BY tick_wall").fetchall()
    assert rows[0] == (WALL + 1.0, WALL + 10_000.0 - MOST_COUNTED)
    assert len(rows) == MOST_COUNTED + 1


# --- the clock is set


def test_a_clock_that_is_set_ahead_by_a_day_and_back_starts_no_tick_twice_and_loses_none(database: Connection) -> None:
    job = asked(schedule=Every(3600.0, WALL))
    sync(database, [job], WALL)
    [first] = claim(database, [job], "one", WALL + 3600.0)
    [by_wrong_clock] = claim(database, [job], "one", WALL + 3700.0 + DAY_S)
    assert by_wrong_clock.tick == WALL + 3600.0 + DAY_S
    claimed = []
    for second in range(3800, int(DAY_S) + 7500, 600):
        claimed += claim(database, [job], "one", WALL + second)
    assert [each.tick - WALL for each in claimed] == [3600.0 * n for n in range(2, 27) if n != 25]
    started = [first, by_wrong_clock, *claimed]
    assert len({each.run_id for each in started}) == len(started)
    assert of(database) == [(3600.0 * n, None, None) for n in range(1, 27)]


def test_a_clock_that_is_set_back_by_a_day_starts_no_tick_twice(database: Connection) -> None:
    job = asked(schedule=Every(3600.0, WALL - 2 * DAY_S))
    sync(database, [job], WALL - DAY_S)
    hours = range(-24 * 3600, 3600, 3600)
    for second in hours:
        claim(database, [job], "one", WALL + second)
    before = of(database)
    assert len(before) == 24
    for second in hours:
        assert claim(database, [job], "one", WALL + second) == []
    assert [each.tick for each in claim(database, [job], "one", WALL + 3600.0)] == [WALL + 3600.0]


def test_a_clock_that_is_set_back_cuts_the_span_of_expired_ticks(database: Connection) -> None:
    job = asked(schedule=Every(1.0, WALL))
    sync(database, [job], WALL)
    claim(database, [job], "one", WALL + 5000.0)
    claim(database, [job], "one", WALL + 2000.0)
    [span] = database.execute("SELECT first_wall, tick_wall FROM ticks WHERE first_wall IS NOT NULL").fetchall()
    assert span == (WALL + 1.0, WALL + 2000.0)
    assert [each.tick for each in claim(database, [job], "one", WALL + 2001.0)] == [WALL + 2001.0]


def test_a_clock_that_is_set_back_by_less_than_a_minute_is_waited_out(database: Connection) -> None:
    sync(database, [asked()], WALL)
    claim(database, [asked()], "one", WALL + 60.0)
    assert claim(database, [asked()], "one", WALL + 1.0) == []
    assert claim(database, [asked()], "one", WALL + 61.0) == []
    assert len(claim(database, [asked()], "one", WALL + 120.0)) == 1


# --- ticks that are open


def test_what_the_dead_have_left_open_is_taken_by_one(database: Connection) -> None:
    lives(database, "two")
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "dead", WALL + 60.0)
    assert open_ticks.left(database, "two") == {tick.run_id}
    assert open_ticks.take_over(database, [asked()], "two", WALL + 90.0) == [tick._replace(late=True)]
    assert open_ticks.take_over(database, [asked()], "two", WALL + 90.0, {tick.run_id}) == []
    assert open_ticks.is_open(database, tick.run_id, "two")


def test_what_the_living_have_open_is_theirs_until_they_are_silent(database: Connection) -> None:
    lives(database, "one")
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "one", WALL + 60.0)
    assert open_ticks.has_open(database, "one")
    assert open_ticks.take_over(database, [asked()], "two", WALL + 61.0) == []
    open_ticks.let_go(database, "one")
    assert open_ticks.take_over(database, [asked()], "one", WALL + 62.0, {tick.run_id}) == []
    assert len(open_ticks.take_over(database, [asked()], "two", WALL + 63.0)) == 1


@pytest.mark.parametrize(
    ("catch_up", "after_s", "ended"),
    [
        (CatchUp.NONE, 60.0, None),
        (CatchUp.NONE, 61.0, "expired"),
        (CatchUp.LAST, 3000.0, None),
        (CatchUp.ALL, 3000.0, None),
    ],
)
def test_what_was_left_open_is_started_again_as_the_job_says(
    database: Connection, catch_up: CatchUp, after_s: float, ended: str | None
) -> None:
    job = asked(catch_up=catch_up)
    sync(database, [job], WALL)
    claim(database, [job], "dead", WALL + 60.0)
    taken = open_ticks.take_over(database, [job], "two", WALL + 60.0 + after_s)
    assert (len(taken), of(database)) == (int(ended is None), [(60.0, ended, None)])


def test_what_was_left_open_expires_where_only_the_newest_counts(database: Connection) -> None:
    sync(database, [asked()], WALL)
    claim(database, [asked()], "dead", WALL + 60.0)
    claim(database, [asked()], "dead", WALL + 120.0)
    assert [tick.tick for tick in open_ticks.take_over(database, [asked()], "two", WALL + 130.0)] == [WALL + 120.0]
    assert of(database) == [(60.0, "expired", None), (120.0, None, None)]


def test_what_was_left_open_of_a_paused_job_is_skipped(database: Connection) -> None:
    sync(database, [asked()], WALL)
    claim(database, [asked()], "dead", WALL + 60.0)
    jobs.pause(database, "job", WALL + 61.0)
    assert open_ticks.take_over(database, [asked()], "two", WALL + 62.0) == []
    assert of(database) == [(60.0, "skipped", "paused")]


# --- how a tick ends


def test_a_tick_ends_once(database: Connection) -> None:
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "one", WALL + 60.0)
    assert open_ticks.is_undecided(database, tick.run_id)
    ticks.note_refused(database, tick.run_id, "another", "overlap")
    assert of(database) == [(60.0, None, None)]
    ticks.note_started(database, tick.run_id)
    ticks.note_refused(database, tick.run_id, "one", "overlap")
    assert of(database) == [(60.0, "started", None)]
    ticks.note_not_started(database, tick.run_id)
    ticks.note_refused(database, tick.run_id, "one", "overlap")
    ticks.note_started(database, tick.run_id)
    assert of(database) == [(60.0, "skipped", "overlap")]
    assert not open_ticks.is_undecided(database, tick.run_id)


def test_a_success_is_noted_with_its_tick_and_ends_being_overdue(database: Connection) -> None:
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "one", WALL + 60.0)
    assert jobs.claim_overdue(database, "job", None, WALL + 70.0)
    assert not jobs.claim_overdue(database, "job", None, WALL + 71.0)
    ticks.note_succeeded(database, tick.run_id, WALL + 75.0)
    state = jobs.states(database)["job"]
    assert (state.succeeded, state.succeeded_tick, state.overdue) == (WALL + 75.0, tick.tick, None)
    assert not jobs.claim_overdue(database, "job", None, WALL + 76.0), "it has succeeded meanwhile"
    assert jobs.claim_overdue(database, "job", WALL + 75.0, WALL + 76.0)


# --- what is forgotten


def test_old_ticks_are_forgotten_by_number_and_age_and_open_ones_never(database: Connection) -> None:
    job = asked(catch_up=CatchUp.ALL)
    sync(database, [job], WALL)
    claimed = [tick for n in range(1, 11) for tick in claim(database, [job], "one", WALL + 60.0 * n)]
    for tick in claimed[1:]:
        ticks.note_started(database, tick.run_id)
    wall = WALL + 600.0
    assert ticks.forget_ticks(database, None, 5, wall, 100) == 4
    assert [at for at, *_ in of(database)] == [60.0, 360.0, 420.0, 480.0, 540.0, 600.0]
    assert ticks.forget_ticks(database, 150.0, 100, wall, 100) == 2
    assert [at for at, *_ in of(database)] == [60.0, 480.0, 540.0, 600.0]
    assert ticks.forget_ticks(database, 150.0, 100, wall, 100) == 0
    assert claim(database, [job], "one", wall) == [], "what was decided on stays so"


def test_what_operators_see_has_the_newest_first_and_counts_by_outcome(database: Connection) -> None:
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "one", WALL + 180.0)
    ticks.note_started(database, tick.run_id)
    rows = ticks.ledger_of(database, "job", 2)
    assert [(row.tick - WALL, row.outcome, row.status) for row in rows] == [
        (180.0, "started", None),
        (120.0, "expired", None),
    ]
    assert ticks.counts_since(database, WALL + 60.0) == {"job": {"started": 1, "expired": 1}}


def test_a_tick_whose_run_is_not_over_is_not_forgotten(database: Connection) -> None:
    sync(database, [asked()], WALL)
    [tick] = claim(database, [asked()], "one", WALL + 60.0)
    ticks.note_started(database, tick.run_id)
    database.execute(
        "INSERT INTO runs(id, session, owner, policy, policy_hash, state, attempts, parents, started_wall, arrived_at)"
        " VALUES (?, 's', '', 'p', 'h', 'backoff', 4, '[]', 0, 0)",
        (tick.run_id,),
    )
    assert ticks.forget_ticks(database, 1.0, 0, WALL + DAY_S, 10) == 0
    database.execute("UPDATE runs SET state = 'ended'")
    assert ticks.forget_ticks(database, 1.0, 0, WALL + DAY_S, 10) == 1


def test_a_tick_that_is_open_hides_no_older_ones_from_the_retention(database: Connection) -> None:
    sync(database, [asked("open"), asked()], WALL)
    claim(database, [asked("open")], "one", WALL + 60.0)
    for number in range(1, 6):
        for tick in claim(database, [asked()], "one", WALL + 60.0 * number):
            ticks.note_started(database, tick.run_id)
    assert ticks.forget_ticks(database, 1.0, 1000, WALL + DAY_S, 3) == 3


def test_a_retry_that_waits_is_due_as_soon_after_a_reboot(database: Connection) -> None:
    """Its moment is of the clock of the old boot."""
    owners.register(database, Owner("old", 1, "/alive/old", 0.0), "old boot", Moment(4_000_000.0, WALL, lambda: 0.0))
    database.execute(
        "INSERT INTO runs(id, session, owner, policy, policy_hash, state, attempts, parents, started_wall, arrived_at)"
        " VALUES ('r', 's', '', 'p', 'h', 'backoff', 4, '[]', 0, 0)"
    )
    database.execute(
        "INSERT INTO attempts(run, session, number, owner, generation, trial, elsewhere, began_at, started_wall,"
        " outcome, verdict) VALUES (1, 's', 1, 'old', 0, 0, 0, 0, 0, 'failed',"
        ' \'{"action": "retry", "at": 4000030.0, "delay_s": 30.0, "tokens": 1.0}\')'
    )
    owners.register(database, Owner("new", 1, "/alive/new", 0.0), "new boot", Moment(5.0, WALL + 10.0, lambda: 0.0))
    [at] = database.execute("SELECT json_extract(verdict, '$.at') FROM attempts").fetchone()
    assert at == pytest.approx(25.0)
