import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import SettingsError
from supervisor.settings.read import read_settings
from supervisor.settings.values import Settings

Read = Callable[..., Settings]
Problems = Callable[..., tuple[str, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read settings from text, with an environment and a call of its own."""

    def reading(text: str, environ: Mapping[str, str] | None = None, call: Mapping[str, Any] | None = None) -> Settings:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return read_settings(path, {} if environ is None else environ, call)

    return reading


@pytest.fixture
def problems(read: Read) -> Problems:
    """Return what is wrong with the settings that the text has."""

    def asking(text: str, environ: Mapping[str, str] | None = None, call: Mapping[str, Any] | None = None) -> Any:
        with pytest.raises(SettingsError) as raised:
            read(text, environ, call)
        return raised.value.problems

    return asking


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read and write everything, for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # nobody has to be able to look into it
        yield Path(folder)


@pytest.fixture
def nobody() -> Callable[[], Any]:
    return as_nobody
