"""Processes as rows; and what was written by the clock of another boot."""

from policies.breaker import Open
from policies.budget import Tokens
from supervisor.store.sqlite import ledger, owners
from supervisor.store.sqlite.asking import Connection, Moment
from supervisor.store.sqlite.owners import Owner
from supervisor.store.sqlite.schema import prepare
from supervisor.testing import SharedFile
from tests.supervisor.store.sqlite.opened import BOOT


def opened() -> Connection:
    from pathlib import Path

    connection = SharedFile().connection
    prepare(connection, Path(":memory:"))
    return connection


def moment(at: float, wall: float) -> Moment:
    return Moment(at, wall, lambda: 0.0)


def register(database: Connection, name: str, boot: str, at: float, wall: float) -> int:
    return owners.register(database, Owner(name, 1, f"/alive/{name}", 0.0), boot, moment(at, wall))


def test_after_a_reboot_moments_are_moved_once_by_the_time_of_the_day() -> None:
    database = opened()
    register(database, "one", BOOT, at=1000.0, wall=50_000.0)
    ledger.write(database, "s", Open(3, 1060.0, 1, 60.0), Tokens(2.0, 990.0))
    for name in ("two", "three"):  # 20 s later, of which the machine has been up again for 5
        register(database, name, "another boot", at=5.0, wall=50_020.0)
    breaker, tokens = ledger.read(database, "s")
    assert breaker == Open(3, 45.0, 1, 60.0)
    assert tokens == Tokens(2.0, -25.0)
    [one, two] = owners.others(database, "three")
    assert {one.id: one.renewed_at, two.id: two.renewed_at} == {"one": -15.0, "two": 5.0}


def test_a_clock_that_was_set_back_across_a_reboot_moves_nothing_into_the_past() -> None:
    database = opened()
    register(database, "one", BOOT, at=1000.0, wall=50_000.0)
    ledger.write(database, "s", Open(3, 1060.0, 1, 60.0), Tokens())
    register(database, "two", "another boot", at=5.0, wall=0.0)
    assert ledger.read(database, "s")[0] == Open(3, 65.0, 1, 60.0)


def test_moments_are_moved_by_the_newest_pair_of_clocks_that_is_known() -> None:
    """The machine started with a wrong time of day, which was set right since; the next boot has the right one."""
    database = opened()
    register(database, "one", BOOT, at=10.0, wall=0.0)
    owners.renew(database, "one", moment(1000.0, 50_000.0))
    ledger.write(database, "s", Open(3, 1060.0, 1, 60.0), Tokens())
    register(database, "two", "another boot", at=5.0, wall=50_020.0)
    assert ledger.read(database, "s")[0] == Open(3, 45.0, 1, 60.0)


def test_a_process_that_starts_later_notes_the_clocks_too() -> None:
    database = opened()
    register(database, "one", BOOT, at=10.0, wall=0.0)
    register(database, "two", BOOT, at=1000.0, wall=50_000.0)
    ledger.write(database, "s", Open(3, 1060.0, 1, 60.0), Tokens())
    register(database, "three", "another boot", at=5.0, wall=50_020.0)
    assert ledger.read(database, "s")[0] == Open(3, 45.0, 1, 60.0)


def test_no_moment_is_moved_further_ahead_than_its_rule_allows() -> None:
    """The next boot begins with a time of day from long ago: nothing seems to have passed since the last pair."""
    database = opened()
    register(database, "one", BOOT, at=1000.0, wall=50_000.0)
    ledger.write(database, "s", Open(3, 9060.0, 1, 60.0), Tokens(2.0, 9000.0))
    register(database, "two", "another boot", at=5.0, wall=0.0)
    breaker, tokens = ledger.read(database, "s")
    assert breaker == Open(3, 65.0, 1, 60.0)
    assert tokens == Tokens(2.0, 5.0)
    assert max(owner.renewed_at for owner in owners.others(database, "two")) <= 5.0


def test_the_same_boot_moves_nothing() -> None:
    database = opened()
    register(database, "one", BOOT, at=1000.0, wall=50_000.0)
    ledger.write(database, "s", Open(3, 1060.0, 1, 60.0), Tokens())
    register(database, "two", BOOT, at=1001.0, wall=99_000.0)
    assert ledger.read(database, "s")[0] == Open(3, 1060.0, 1, 60.0)


def test_everybody_looks_again_after_a_reboot() -> None:
    database = opened()
    newest = register(database, "one", BOOT, at=1000.0, wall=50_000.0)
    register(database, "two", "another boot", at=5.0, wall=50_020.0)
    assert database.execute("SELECT session, kind FROM news WHERE seq > ?", (newest,)).fetchall() == [("", "changed")]


def test_old_news_are_forgotten() -> None:
    database = opened()
    for _ in range(2 * ledger.KEPT_NEWS):
        ledger.post(database, "s", "freed")
    [kept, newest] = database.execute("SELECT count(*), max(seq) FROM news").fetchone()
    assert kept <= ledger.KEPT_NEWS + 256
    assert newest == 2 * ledger.KEPT_NEWS


def test_nobody_is_told_who_has_nothing_under_way() -> None:
    database = opened()
    ledger.tell(database, "s", "freed", "one")
    ledger.tell_host(database, "one")
    assert database.execute("SELECT count(*) FROM news").fetchone() == (0,)
