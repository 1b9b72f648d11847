"""Settings for a command that starts often: to read a file costs as much as all else, and is spared if it can be."""

import os
from pathlib import Path

from supervisor.settings.file import find
from supervisor.settings.names import PREFIX, RESERVED
from supervisor.settings.values import Settings, embedded_settings


def load_settings(path: str | Path | None = None) -> Settings:
    """Do as `read_settings`; where neither a file nor the environment says anything, import nothing for it."""
    found = find(path, os.environ)
    if found.path is None and not any(name.startswith(PREFIX) and name not in RESERVED for name in os.environ):
        return embedded_settings(found.warnings)
    from supervisor.settings.read import read_settings

    return read_settings(path)
