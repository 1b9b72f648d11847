"""`turnkeeper reset`, `pause`, `resume` and `stop`: what an operator does to sessions, in whatever process they run.

Each opens the state as every process does, with a row and a life file of its own: after a reboot the first to write
moves the moments that are written there, and whoever ends a dead process's run must be seen to live meanwhile.
"""

import asyncio
import os
from typing import TYPE_CHECKING

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.shared_state import must_be_a_session, note, opened, print_json, say, shared_options, shared_state

if TYPE_CHECKING:
    from supervisor.store.sqlite.operate import Stands

all_option = click.option("--all", "every", is_flag=True, help="Every session, also those that are not known yet.")


@click.command()
@click.argument("session")
@shared_options
def reset(session: str, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """Forget a session's breaker, spent tokens and quarantine: you say that it is well."""
    from supervisor.store.sqlite import operate
    from supervisor.store.sqlite.place import is_there

    must_be_a_session(session)
    found, store = shared_state(settings, state)
    if not is_there(store.path):
        return _nothing(session, as_json=as_json)

    async def act() -> "Stands":
        stood = await store.database.read(operate.stands, session)
        await store.reset(session)
        return stood

    _tell_reset(session, asyncio.run(opened(found, store, act)), as_json=as_json)
    return ExitStatus.OK


def _tell_reset(session: str, stood: "Stands", *, as_json: bool) -> None:
    """Print what was forgotten."""
    from supervisor.cli.words import breaker_words
    from supervisor.store.sqlite.history import breaker_shape

    alive = [what for left in stood.quarantines for what in left.alive]
    breaker = breaker_shape(stood.breaker)
    if as_json:
        was = {"session": session, "breaker": breaker, "tokens_spent": stood.tokens.spent, "alive": alive}
        print_json([was] if stood.is_known else [])
        return
    if not stood.is_known:
        say(f"nothing is known of {_named(session)}")
        return
    spent = f"{stood.tokens.spent:.1f} tokens were spent"
    say(f"session {session!r} is reset: its breaker was {breaker_words(breaker)}, {spent}")
    if stood.quarantines:
        say(f"it was quarantined, and what may still live is yours to end: {', '.join(alive)}")
    for lock in dict.fromkeys(left.lock for left in stood.quarantines if left.lock is not None):
        if os.path.lexists(f"{lock}.lock"):
            say(f"its lock file stays: {lock}.lock; remove it when that is ended (`turnkeeper locks` says whose it is)")


def _nothing(session: str, *, as_json: bool) -> int:
    if as_json:
        print_json([])
    else:
        say(f"nothing is known of {_named(session)}: there is no state yet")
    return ExitStatus.OK


@click.command()
@click.argument("session", required=False)
@all_option
@click.option("--now", is_flag=True, help="Stop what runs, too, and prove that it is gone.")
@shared_options
def pause(
    session: str | None, settings: str | None, state: str | None, *, every: bool, now: bool, as_json: bool
) -> int:
    """Let nothing new start for a session, until `turnkeeper resume`: runs are refused with status 75, uncharged.

    What runs is finished; with --now it is stopped, and the exit status is 70 where that cannot be proved. A run that
    waits to try again ends when it would.
    """
    from policies.verdict import Reason
    from supervisor.cli.stopped import Stopped, exit_status, tell_stopped
    from supervisor.cli.stopped import stop as stop_runs
    from supervisor.store.sqlite import operate

    key = _key(session, every=every)
    found, store = shared_state(settings, state)

    async def act() -> tuple[bool, Stopped]:
        was_paused = not await store.database.run(operate.pause, key, store.clock.wall(), store.owner)
        store.watching.wake_all()
        if not as_json:  # before what may take as long as a grace
            say(f"{_named(key)} {'are' if every else 'is'} paused: nothing new starts until `turnkeeper resume`")
        return was_paused, await stop_runs(store, key, Reason.PAUSED) if now else Stopped([], [])

    was_paused, stopped = asyncio.run(opened(found, store, act))
    if stopped.is_interrupted:
        return _interrupted(key)
    if not as_json:
        return tell_stopped(stopped)
    print_json([{"session": session, "was_paused": was_paused, "stopped": stopped.runs}])
    return exit_status(stopped)


@click.command()
@click.argument("session", required=False)
@all_option
@shared_options
def resume(session: str | None, settings: str | None, state: str | None, *, every: bool, as_json: bool) -> int:
    """Undo a pause. That of --all and that of one session are two: each is undone as it was made."""
    from supervisor.store.sqlite import operate
    from supervisor.store.sqlite.place import is_there

    key = _key(session, every=every)
    found, store = shared_state(settings, state)
    if not is_there(store.path):
        return _nothing(key, as_json=as_json)

    async def act() -> tuple[bool, list[str]]:
        was_paused = await store.database.run(operate.resume, key, store.owner)
        return was_paused, await store.database.read(operate.paused)

    was_paused, paused = asyncio.run(opened(found, store, act))
    if as_json:
        print_json([{"session": session, "was_paused": was_paused, "still_paused": [one or "--all" for one in paused]}])
        return ExitStatus.OK
    are = "are" if every else "is"
    say(f"{_named(key)} {are} resumed" if was_paused else f"{_named(key)} {are} not paused")
    if not every and "" in paused:
        note("all sessions are paused, this one too, until `turnkeeper resume --all`")
    if every and paused:
        note(f"paused on their own, and still so: {', '.join(map(repr, paused))}")
    return ExitStatus.OK


@click.command()
@click.argument("session")
@shared_options
def stop(session: str, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """End every run of a session, in whatever process it is, and prove that nothing is left of it.

    The exit status is 70 where that cannot be proved.
    """
    from policies.verdict import Reason
    from supervisor.cli.stopped import exit_status, tell_stopped
    from supervisor.cli.stopped import stop as stop_runs
    from supervisor.store.sqlite.place import is_there

    must_be_a_session(session)
    found, store = shared_state(settings, state)
    if not is_there(store.path):
        return _nothing(session, as_json=as_json)
    stopped = asyncio.run(opened(found, store, lambda: stop_runs(store, session, Reason.STOPPED)))
    if stopped.is_interrupted:
        return _interrupted(session)
    if as_json:
        print_json(stopped.runs)
        return exit_status(stopped)
    if not stopped.is_known:
        say(f"nothing is known of {_named(session)}")
    elif not stopped.runs and not stopped.left:
        say(f"nothing of {_named(session)} is under way")
    return tell_stopped(stopped)


# --- what they share


def _key(session: str | None, *, every: bool) -> str:
    """Return the session; '' for all of them."""
    if (session is None) == (not every):
        raise click.UsageError("name a session, or --all")
    if session is None:
        return ""
    must_be_a_session(session)
    return session


def _named(session: str) -> str:
    return f"session {session!r}" if session else "all sessions"


def _interrupted(session: str) -> int:
    """End by Ctrl-C while runs are being stopped."""
    whose = f"the runs of {_named(session)}" if session else "all runs"
    note(f"{whose} were told to end, and go on being stopped without this command: `turnkeeper status` shows them")
    return ExitStatus.INTERRUPTED
