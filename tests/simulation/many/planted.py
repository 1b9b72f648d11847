"""Bugs that only several processes can show, each the smallest change of the store or of recovery that makes it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from policies.failure import Failed, Kind, Receipt, Unknown
from supervisor.lock.life_file import Death, Exited, RecordedOwner
from supervisor.owner import RecordedTree
from supervisor.recovery import lost_runs
from supervisor.recovery.lost_runs import Fate, LostRuns
from supervisor.recovery.silence import Silence
from supervisor.store.sqlite import admission, endings, hosting, ledger, lost, outcome, owners
from supervisor.store.sqlite.asking import Asking, Connection
from supervisor.store.sqlite.lost import LostAttempt
from supervisor.store.sqlite.owners import Owner
from supervisor.store.sqlite.watching import Watching
from tests.simulation.replaced import Replaced
from tests.simulation.simulate import Plant

# --- leases

_begin = admission.begin


@wraps(_begin)
def _begin_without_permit(database: Connection, run: Asking, *rest: Any) -> Any:
    """Whoever had a permit once, begins: it is not looked at whether that was taken meanwhile."""
    database.execute("DELETE FROM places WHERE run = (SELECT seq FROM runs WHERE id = ?)", (run.run_id,))
    database.execute("UPDATE runs SET state = 'permitted' WHERE id = ? AND state = 'waiting'", (run.run_id,))
    return _begin(database, run, *rest)


_record_attempt = outcome.record_attempt


@wraps(_record_attempt)
def _record_without_fence(database: Connection, run: Asking, *rest: Any) -> Any:
    """A woken owner writes its attempt's end though that was ended, and its session given to others."""
    database.execute("UPDATE attempts SET outcome = NULL, ended_by = NULL WHERE fence = ?", (run.fence,))
    return _record_attempt(database, run, *rest)


_end_lost = lost.end_lost


@wraps(_end_lost)
def _end_lost_again(database: Connection, attempt: LostAttempt, *rest: Any) -> Any:
    """Each recoverer counts a lost attempt, also one that has ended meanwhile."""
    database.execute("UPDATE attempts SET outcome = NULL WHERE fence = ?", (attempt.fence,))
    return _end_lost(database, attempt, *rest)


# --- recovery


async def _not_stopped(_self: LostRuns, _tree: RecordedTree, _renewed_at: float) -> tuple[Death, Exited]:
    """What a silent owner has is taken without stopping its tree."""
    return Death.GONE, Exited(None, None)


async def _not_waited_for(self: LostRuns, tree: RecordedTree, renewed_at: float) -> tuple[Death, Exited]:
    """The tree is asked to stop, and its end is not waited for."""
    launcher = self._launcher()
    death, exited = launcher.tree_gone(tree, renewed_at)
    launcher.stop_tree(tree)
    return (Death.GONE if death is Death.ALIVE else death), exited


async def _all_of_the_silent(self: LostRuns, owner: Owner, fate: Fate) -> bool:
    """Work in the process of a silent owner is taken too, which nobody can stop."""
    freed = await self._remains.pass_by(owner) > 0
    for attempt in await self._remains.attempts_of(owner.id):
        freed = await self._end(attempt, owner, fate) or freed
    return freed


def _silent_at_once(self: Silence, owner: str) -> bool:
    """Whoever has not renewed for a third of the lease is passed by."""
    renewed_at, _ = self._heard[owner]
    return self._now - renewed_at > self._lease_s / 3


_owner_death_of = LostRuns.__init__


def _dead_by_age(self: LostRuns, *args: Any, **options: Any) -> None:
    """An owner that is silent for the lease is taken for dead."""
    _owner_death_of(self, *args, **options)
    judge, clock, lease_s = self._owner_death, self._clock, self._remains.lease_s

    def death(recorded: RecordedOwner) -> Death:
        return Death.GONE if clock.boottime() - recorded.renewed_at > lease_s else judge(recorded)

    self._owner_death = death


_receipt = lost_runs._receipt


def _unknown_is_gone(attempt: LostAttempt, death: Death, fate: Fate) -> Receipt:
    """Where supervisor and warden were both killed, what they had is taken for gone."""
    receipt = _receipt(attempt, death, fate)
    return _receipt(attempt, Death.GONE, Fate.DEAD) if isinstance(receipt, Unknown) else receipt


def _all_failed(_exited: Exited, _fate: Fate) -> Any:
    """What a warden has written of its command's end is not read."""
    return Failed(Kind.LOST, "its supervisor died")


def _only_at_the_start(_self: LostRuns) -> None:
    """Lost runs are looked for once, when a process starts."""


_unregister = owners.unregister


@wraps(_unregister)
def _forgotten_first(database: Connection, owner: str) -> bool:
    """A dead owner is forgotten though runs of it are under way."""
    database.execute("DELETE FROM owners WHERE id = ?", (owner,))
    return True


_give_up = admission.give_up


def _places_stay(database: Connection, session: str, owner: str, seq: int, state: str) -> None:
    """The places of the dead stay in the line."""
    places = database.execute("SELECT * FROM places WHERE run = ?", (seq,)).fetchall()
    _give_up(database, session, owner, seq, state)
    database.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?)", places)


def _slots_stay(database: Connection, session: str, owner: str, seq: int, state: str) -> None:
    """The slots of the dead do not come back."""
    [slot] = database.execute("SELECT slot FROM runs WHERE seq = ?", (seq,)).fetchone()
    _give_up(database, session, owner, seq, state)
    database.execute("UPDATE runs SET slot = ? WHERE seq = ?", (slot, seq))


def _nothing_counted(*_: Any) -> None:
    """A lost attempt is no report to the breaker: its trial's place does not come back, and it is not counted."""


# --- what processes tell each other


def _not_told(_database: Connection, _session: str, _kind: str, _owner: str) -> None:
    """Others are not told that a session is free, or that a run of theirs is to end."""


_is_first = admission._is_first


def _replaces_at_once(database: Connection, run: Asking, seq: int, *rest: Any, replaces: bool) -> bool:
    """Who replaces others does not wait until those of other processes are gone."""
    older = "SELECT 1 FROM runs WHERE session = ? AND seq < ? AND state = 'backoff'"
    return _is_first(database, run, seq, *rest, replaces=False) or (
        replaces and database.execute(older, (run.session, seq)).fetchone() is not None
    )


async def _deaf(_self: Watching) -> None:
    """Nobody ends its runs because another process wants that."""


def _own_only(database: Connection, session: str) -> int:
    """A permit is counted where the line is left, and those of attempts that run are not."""
    [running] = database.execute(
        "SELECT count(*) FROM runs WHERE session = ? AND state = 'permitted'", (session,)
    ).fetchone()
    return int(running)


_take_slot = hosting.take_slot


@wraps(_take_slot)
def _own_slots(database: Connection, run: Asking, slots: int, rank: int) -> bool:
    """The slots of other processes are not counted."""
    others = database.execute("SELECT seq FROM runs WHERE slot = 1 AND owner <> ?", (run.owner,)).fetchall()
    database.executemany("UPDATE runs SET slot = 0 WHERE seq = ?", others)
    answer = _take_slot(database, run, slots, rank)
    database.executemany("UPDATE runs SET slot = 1 WHERE seq = ?", others)
    return answer


# --- the ledger


def _parents_not_charged(_database: Connection, _parents: tuple[str, ...], _retries: int) -> None:
    """What a nested retry takes is not written in its parents' rows."""


_end_run = endings.end_run


@wraps(_end_run)
def _reserved_kept(database: Connection, run: Asking, *rest: Any) -> Any:
    """Cancelled in its backoff, a retry gives nothing back."""
    database.execute("UPDATE runs SET reserved = NULL WHERE id = ?", (run.run_id,))
    return _end_run(database, run, *rest)


_read = ledger.read


def _stale_read() -> Callable[..., Any]:
    """Each process keeps what it has read of the ledger."""
    kept: dict[tuple[Any, str], Any] = {}

    def read(database: Connection, session: str) -> Any:
        from supervisor.testing.process import PROCESS

        return kept.setdefault((PROCESS.get(), session), _read(database, session))

    return read


PLANTED_MANY: dict[str, Callable[[], Plant]] = {
    "begin does not look at the permit": lambda: Replaced((admission, "begin", _begin_without_permit)),
    "record does not look at the fence": lambda: Replaced((outcome, "record_attempt", _record_without_fence)),
    "each recoverer counts a lost attempt": lambda: Replaced((lost, "end_lost", _end_lost_again)),
    "a lost tree is not stopped": lambda: Replaced((LostRuns, "_tree_gone", _not_stopped)),
    "the end of a lost tree is not waited for": lambda: Replaced((LostRuns, "_tree_gone", _not_waited_for)),
    "in-process work of the silent is taken": lambda: Replaced((LostRuns, "_pass_by", _all_of_the_silent)),
    "the silent are passed by before the lease is over": lambda: Replaced((Silence, "is_too_long", _silent_at_once)),
    "the silent are taken for dead": lambda: Replaced((LostRuns, "__init__", _dead_by_age)),
    "a killed warden's tree is taken for gone": lambda: Replaced((lost_runs, "_receipt", _unknown_is_gone)),
    "a success is recorded as lost": lambda: Replaced((lost_runs, "_failure", _all_failed)),
    "lost runs are looked for at the start alone": lambda: Replaced((LostRuns, "begin", _only_at_the_start)),
    "an owner is forgotten before its runs": lambda: Replaced((owners, "unregister", _forgotten_first)),
    "places of the dead stay": lambda: Replaced((lost, "give_up", _places_stay)),
    "slots of the dead do not come back": lambda: Replaced((lost, "give_up", _slots_stay)),
    "a lost attempt does not count for the breaker": lambda: Replaced((lost, "write_ledger", _nothing_counted)),
    "others are not told": lambda: Replaced((ledger, "tell", _not_told)),
    "replace does not wait for other processes": lambda: Replaced((admission, "_is_first", _replaces_at_once)),
    "a run of another process is not ended": lambda: Replaced((Watching, "hear_stops", _deaf)),
    "attempts that run have no permit": lambda: Replaced((admission, "running_in", _own_only)),
    "slots of other processes are not counted": lambda: Replaced((hosting, "take_slot", _own_slots)),
    "nested retries are not written in their parents' rows": lambda: Replaced(
        (outcome, "charge_parents", _parents_not_charged)
    ),
    "the token of a backoff is kept": lambda: Replaced((endings, "end_run", _reserved_kept)),
    "each process has a ledger of its own": lambda: Replaced((ledger, "read", _stale_read())),
}
