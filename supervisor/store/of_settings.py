"""Which store the settings mean."""

from pathlib import Path
from typing import Final

from supervisor.settings.values import State
from supervisor.state_folder import state_folder
from supervisor.store.sqlite.store import SqliteStore

_WITH_PATH: Final = "sqlite://"


def durable_store(state: State) -> SqliteStore:
    """Return the store of `state.url`: `sqlite`, in the user's state folder, or `sqlite://` and an absolute path."""
    return SqliteStore(path_of(state), state.lease_s, keep_age_s=state.keep_age_s, keep_runs=state.keep_runs)


def path_of(state: State) -> Path:
    """Return where that store's file is. More slashes than the three are meant as these, as in other programs' URLs."""
    url = state.url or "sqlite"
    if not url.startswith(_WITH_PATH):
        return state_folder() / "state.db"
    return Path("/" + url.removeprefix(_WITH_PATH).lstrip("/"))  # two in front stay two in a Path
