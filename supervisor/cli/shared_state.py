"""What the commands share that look at the state of every process, or change it."""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supervisor.cli.state import state_option, store_of

if TYPE_CHECKING:
    from supervisor.settings.values import Settings
    from supervisor.store.sqlite.store import SqliteStore

Command = TypeVar("Command", bound=Callable[..., Any])


def shared_options(command: Command) -> Command:
    """Add `--settings`, `--state` and `--json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        state_option,
        click.option("--settings", metavar="FILE", help="Else where `turnkeeper check` finds them."),
    ):
        command = option(command)
    return command


def shared_state(settings: str | None, state: str | None) -> "tuple[Settings, SqliteStore]":
    """Return the settings, and the store that they or `--state` mean: one that other processes see."""
    found = _settings(settings, state)
    return found, shared_store(found, state)


def shared_store(settings: "Settings", state: str | None) -> "SqliteStore":
    """Return the store that the settings or `--state` mean; raises a usage error for one that no other process sees."""
    from supervisor.store.sqlite.store import SqliteStore

    store = store_of(settings, state)
    if not isinstance(store, SqliteStore):
        who = "--state memory" if state is not None else f'[state] url = "memory" in {settings.source}'
        raise click.UsageError(
            f"{who}: such a state is seen by no other process, and is gone with its own; name another one with --state"
        )
    return store


def _settings(settings: str | None, state: str | None) -> "Settings":
    """Return the settings; where they cannot be used, and the state is named, the defaults: who stops a run needs none.

    Nothing is forgotten by rules that nobody has set.
    """
    from supervisor.errors import SettingsError
    from supervisor.settings.load import load_settings
    from supervisor.settings.values import Settings, State

    try:
        return load_settings(settings)
    except SettingsError as error:
        if state is None:
            raise
        note(f"the defaults are used, for there are problems in {error.source}: {'; '.join(error.problems)}")
        return Settings(state=State(keep_age_s=None, keep_runs=sys.maxsize))


def must_be_a_session(session: str) -> None:
    """Raise a usage error for what can be no session's key."""
    from supervisor.arguments import check_session

    try:
        check_session(session)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def print_json(value: Any) -> None:
    """Print it in ASCII: no control character is left in it."""
    print(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print a line for a person; a terminal obeys nothing that is in it."""
    from supervisor.log import one_line

    print(one_line(line))


def note(message: str) -> None:
    """Print a line that is beside what was asked for."""
    from supervisor.log import one_line

    print(f"turnkeeper: {one_line(message)}", file=sys.stderr)


async def opened(settings: "Settings", store: "SqliteStore", act: Callable[[], Awaitable[Any]]) -> Any:
    """Do something while the store is open."""
    from supervisor.clock import SystemClock
    from supervisor.events import Events

    await store.open(SystemClock(), Events(), settings.limits.retries)
    try:
        return await act()
    finally:
        await store.close()
