"""What a supervisor gets for itself where nobody has handed it in; each is loaded when it is first wanted."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from supervisor.clock import Clock
from supervisor.effects import Effects
from supervisor.settings.values import Alert, State
from supervisor.store.contract import Store
from supervisor.store.memory import MemoryStore
from supervisor.tree.contract import Launcher

if TYPE_CHECKING:
    from supervisor.alerts.ledger import AlertLedger
    from supervisor.alerts.listener import Alerts
    from supervisor.recovery.lost_runs import LostRuns, OwnerDeath


def store_of(state: State) -> Store:
    """Return the store that the settings name; the one in memory, where they name none."""
    if state.url in (None, "memory"):
        return MemoryStore()
    from supervisor.store.of_settings import durable_store

    return durable_store(state)


def launcher_of(handed_in: Launcher | None, clock: Clock, store: Store) -> Callable[[], Launcher]:
    """Return what makes the launcher of real processes, once, unless there is one."""
    made = handed_in

    def launcher() -> Launcher:
        nonlocal made
        if made is None:
            from supervisor.state_folder import state_folder
            from supervisor.tree.launcher import SystemLauncher

            # A store that remembers what we were at when we die needs the wardens' last words.
            kept = store.alive
            prefix = getattr(store, "life_prefix", "")  # which of those who share the folder wants them
            made = SystemLauncher(clock, kept or state_folder() / "alive", keep_life=kept is not None, prefix=prefix)
        return made

    return launcher


def lost_runs_of(effects: Effects, owner_death: "OwnerDeath | None") -> "LostRuns | None":
    """Return what looks for the runs of dead processes; None: the store remembers none."""
    if effects.store.alive is None:
        return None
    from supervisor.lock.life_file import owner_death as by_life_file
    from supervisor.recovery.lost_runs import LostRuns
    from supervisor.store.sqlite.remains import Remains
    from supervisor.store.sqlite.store import SqliteStore

    store = effects.store
    assert isinstance(store, SqliteStore), "the one durable store that there is"
    judge = owner_death or by_life_file
    lost = LostRuns(effects.clock, store, Remains(store), effects.events, effects.launcher, effects.locks, judge)
    store.on_begin, store.on_refused = lost.begin, lost.look_closely
    return lost


def alerts_of(alerts: tuple[Alert, ...], effects: Effects) -> "Alerts | None":
    """Return what tells an operator, and listens from now on; None: nobody is to be told."""
    if not alerts:
        return None
    from supervisor.alerts.ledger import MemoryLedger
    from supervisor.alerts.listener import MOST_UNCLAIMED, Alerts

    # A store that several processes share has the ledger that they share.
    ledger: AlertLedger = getattr(effects.store, "alert_ledger", None) or MemoryLedger(effects.clock.now)

    def job_of(run_id: str) -> str | None:  # jobs are named later than alerts begin
        return effects.job_of(run_id)

    listening = Alerts(alerts, effects.clock, ledger, job_of=job_of)
    effects.events.on(listening, MOST_UNCLAIMED)
    listening.start()
    return listening
