"""The state as the commands look at it: what is not at rest, and whose processes live."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.values import Settings
    from supervisor.store.sqlite.overview import Holder, Overview, Session, UnderWay
    from supervisor.store.sqlite.owners import Owner

_LATE_S: Final = 1.0
"""By how much a renewal may be late, on a busy machine, before it is worth a word."""


def look(path: "Path") -> "Overview | None":
    """Return what is not at rest; None: there is no database yet. Raises StoreUnavailable."""
    from supervisor.clock import SystemClock
    from supervisor.owner import this_process
    from supervisor.store.sqlite.overview import overview
    from supervisor.store.sqlite.reading import reading

    clock = SystemClock()
    with reading(path) as database:
        if database is None:
            return None
        return overview(database, this_process().boot_id, clock.boottime(), clock.wall())


def life_of(run: "UnderWay") -> str:
    """Return whether the process lives that carries a run out: alive, dead, or unknown."""
    return "unknown" if run.holder is None else _life_of(run.holder)


def _life_of(owner: "Holder | Owner") -> str:
    from pathlib import Path

    from supervisor.lock.life_file import Death, RecordedOwner, owner_death

    death = owner_death(RecordedOwner(owner.id, Path(owner.life), owner.renewed_at))
    return {Death.ALIVE: "alive", Death.GONE: "dead", Death.UNKNOWN: "unknown"}[death]


def is_served(path: "Path") -> bool:
    """Tell whether a `turnkeeper serve` on this state is not proved dead. Raises StoreUnavailable."""
    from supervisor.store.sqlite.owners import serving
    from supervisor.store.sqlite.reading import reading

    with reading(path) as database:
        return database is not None and any(_life_of(owner) != "dead" for owner in serving(database))


def silent_s(run: "UnderWay", now_at: float, lease_s: float) -> float | None:
    """Return for how long the process has not been heard of that carries a run out; None: it has, or is not alive.

    One that can writes in each third of its lease that it lives. One that stands still, by SIGSTOP or in a frozen
    cgroup, is silent, and so is one whose loop is blocked.
    """
    if run.holder is None or life_of(run) != "alive":
        return None
    silence_s = now_at - run.holder.renewed_at
    return silence_s if silence_s > lease_s / 3 + _LATE_S else None


def conditions(session: "Session") -> list[str]:
    """Return, in words, what a session is."""
    from policies.breaker import Closed
    from supervisor.store.sqlite.history import under_way

    states = {under_way(run.state) for run in session.runs}
    words: list[str] = [word for word in ("running", "waiting", "backoff") if word in states]
    if not isinstance(session.breaker, Closed):
        words.append(breaker_name(session))
    if session.quarantines:
        words.append("quarantined")
    if session.paused_wall is not None:
        words.append("paused")
    return words


def host_left(seen: "Overview | None", settings: "Settings") -> float:
    """Return the tokens left in the host's bucket, where there is one."""
    from policies.budget import Tokens, left

    rule = settings.limits.retries
    assert rule is not None, "there is one"
    return rule.capacity if seen is None else left(rule, Tokens(seen.host_spent, seen.host_spent_at), seen.now_at)


def breaker_name(session: "Session") -> str:
    """Return what a breaker is that is not closed."""
    from policies.breaker import Open

    return "open" if isinstance(session.breaker, Open) else "half_open"
