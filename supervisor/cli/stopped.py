"""Runs that an operator stops: how that is done from a command of its own, and what it says of each."""

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.shared_state import say

if TYPE_CHECKING:
    from policies.verdict import Reason
    from supervisor.recovery.lost_runs import LostRuns
    from supervisor.store.sqlite.operate import Left
    from supervisor.store.sqlite.store import SqliteStore


class Stopped(NamedTuple):
    """Runs, each as the history has it: those that were stopped, and those that have left what may still live.

    `left` is what keeps the sessions quarantined, whenever it was left. `is_interrupted`: all were told to end, and
    Ctrl-C came while they were waited for.
    """

    runs: list[dict[str, Any]]
    left: "list[Left]"
    is_known: bool = True
    is_interrupted: bool = False


async def stop(store: "SqliteStore", session: str, reason: "Reason") -> Stopped:
    """Stop a session's runs ('': all)."""
    from supervisor.recovery.stopping import stop as stop_runs
    from supervisor.store.sqlite import history, operate

    is_known = await store.database.read(operate.is_known, session)
    try:
        stopped = await stop_runs(store.clock, store, _lost_runs(store), session, reason)
    except asyncio.CancelledError:  # Ctrl-C; what they were told is in the database by the time that it is closed
        return Stopped([], [], is_interrupted=True)
    runs = []
    for run_id in dict.fromkeys((*stopped.run_ids, *(left.run_id for left in stopped.quarantined))):
        run = await store.database.read(history.run, run_id)
        if run is not None:
            runs.append(run)
    return Stopped(runs, stopped.quarantined, is_known)


def _lost_runs(store: "SqliteStore") -> "LostRuns":
    from supervisor.events import Events
    from supervisor.lock.life_file import owner_death
    from supervisor.lock.session_lock import SystemLockFiles
    from supervisor.recovery.lost_runs import LostRuns
    from supervisor.store.sqlite.remains import Remains
    from supervisor.tree.launcher import SystemLauncher

    clock = store.clock
    launcher = SystemLauncher(clock, store.alive, keep_life=True)
    return LostRuns(clock, store, Remains(store), Events(), lambda: launcher, SystemLockFiles(clock), owner_death)


def tell_stopped(stopped: Stopped) -> int:
    """Print for a person what became of runs, with the proof; return the exit status."""
    for run in stopped.runs:
        _print_stopped(run)
    _print_left(stopped.left)
    return exit_status(stopped)


def exit_status(stopped: Stopped) -> int:
    """Return 70 if anything may still live."""
    is_unproved = bool(stopped.left) or not all(map(_is_proved, stopped.runs))
    return ExitStatus.UNCONFIRMED if is_unproved else ExitStatus.OK


def _print_left(left: "list[Left]") -> None:
    from supervisor.report import way_out

    for session in dict.fromkeys(one.session for one in left):
        alive = [what for one in left if one.session == session for what in one.alive]
        say(f"session {session!r} is quarantined; may still live: {', '.join(alive)}; {way_out(session)}")


def _is_proved(run: dict[str, Any]) -> bool:
    """Whether it is over, and nothing of it may live."""
    receipts = [attempt["released"] for attempt in run["attempts"]]
    return run["ended_at"] is not None and all(one is not None and one["receipt"] == "gone" for one in receipts)


def _print_stopped(run: dict[str, Any]) -> None:
    from supervisor.cli.words import receipt_words

    about = f"run {run['run_id']} of session {run['session']!r}"
    if run["ended_at"] is None:
        say(
            f"{about} goes on: process {run['owner']['pid']} lives and does not answer, and its work is in that "
            "process, where nobody else can stop it; let it go on (SIGCONT), and it stops by itself, or kill it"
        )
        return
    reason = "" if run["reason"] is None else f" ({run['reason']})"
    say(f"{about} is over: {run['status']}{reason}")
    if run["attempts"]:
        for line in receipt_words(run["attempts"][-1]["released"]):
            say(line)
