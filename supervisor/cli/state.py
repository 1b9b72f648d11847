"""`--state`: where sessions are remembered. Left out, it is what the settings say; else SQLite, in the state folder."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from supervisor.settings.values import Settings
    from supervisor.store.contract import Store

state_option = click.option(
    "--state",
    metavar="WHERE",
    help="memory, sqlite, or the path of an SQLite file: else what the settings say, else sqlite.",
)


def store_of(settings: "Settings", state: str | None) -> "Store":
    """Return the store to use; raises a usage error for a `--state` that is none."""
    url = state if state is not None else settings.state.url or "sqlite"
    if url == "memory":
        from supervisor.store.memory import MemoryStore

        return MemoryStore()
    from dataclasses import replace

    from supervisor.store.of_settings import durable_store

    if state is not None:
        url = _url_of(state)
    return durable_store(replace(settings.state, url=url))


def _url_of(state: str) -> str:
    if state == "sqlite" or state.startswith("sqlite:///"):
        return state
    if not state or "://" in state or state.startswith("sqlite:"):
        from supervisor.credentials import hide_credentials

        raise click.UsageError(
            "--state is memory, sqlite, the path of an SQLite file, or sqlite:// before an absolute one; got "
            f"{hide_credentials(repr(state))}"
        )
    import os

    return f"sqlite://{os.path.abspath(state)}"
