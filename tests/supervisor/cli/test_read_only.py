import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from supervisor import Attempt, Supervisor
from supervisor.cli.main import main
from supervisor.errors import StoreUnavailable
from supervisor.settings.values import Settings, State
from supervisor.store.sqlite.reading import reading


async def run_once(path: Path) -> None:
    """Make a state with one run in it."""

    async def work(_: Attempt) -> None: ...

    async with Supervisor(Settings(state=State(f"sqlite://{path}"))) as supervisor:
        await supervisor.run("a", work)


def look(path: Path) -> None:
    """See each command answer that only reads."""
    for command in (["status"], ["status", "--json"], ["runs"], ["runs", "--json"], ["show", "run-"]):
        assert main([*command, "--state", str(path)]) == 0


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Have a folder that may be entered and not written, for root too: it gives up its rights meanwhile."""
    os.chmod(folder, 0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        os.chmod(folder, 0o755)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user finds."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_init_in_a_read_only_folder_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    assert main(["init", str(tmp_path / "settings.toml")]) == 0  # whose modules another user may not be able to read
    capsys.readouterr()
    path = folder / "settings.toml"
    with read_only(folder):
        assert main(["init", str(path), *force]) == 73
        assert capsys.readouterr().err == f"turnkeeper: cannot write {path}: Permission denied\n"
        assert os.listdir(folder) == []


@pytest.mark.parametrize("beside", ["none", "empty ones"])
def test_a_state_that_may_not_be_written_is_read(folder: Path, capsys: pytest.CaptureFixture[str], beside: str) -> None:
    path = folder / "state.db"
    asyncio.run(run_once(path))
    os.chmod(path, 0o644)
    look(path)
    if beside == "none":
        for name in ("state.db-shm", "state.db-wal"):
            (folder / name).unlink()
    with read_only(folder):
        capsys.readouterr()
        look(path)
        assert "Every session is at rest.\n" in capsys.readouterr().out
        assert main(["status", "--healthy", "--state", str(path)]) == 1
        assert capsys.readouterr().out == f"the state {path} may not be written: every run ends with 69\n"


def test_where_a_log_cannot_be_read_the_database_is_not_read_without_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "state.db"
    asyncio.run(run_once(path))
    os.chmod(path, 0o644)
    (folder / "state.db-wal").write_bytes(b"commits that are not in the database yet")
    with read_only(folder):
        assert main(["runs", "--state", str(path)]) == 69
    assert "cannot be opened" in capsys.readouterr().err


def test_what_was_written_while_it_was_read_without_a_lock_is_not_told(folder: Path) -> None:
    path = folder / "state.db"
    asyncio.run(run_once(path))
    os.chmod(path, 0o644)
    look(path)
    for name in ("state.db-shm", "state.db-wal"):
        (folder / name).unlink()
    with read_only(folder), pytest.raises(StoreUnavailable, match="was written while it was read: ask again"):
        read_while_it_is_written(path)


def read_while_it_is_written(path: Path) -> None:
    with reading(path) as database:
        assert database is not None
        os.seteuid(os.getuid())  # somebody who may
        os.chmod(path.parent, 0o755)
        with closing(sqlite3.connect(path)) as writer, writer:
            writer.execute("INSERT INTO pauses VALUES ('a', 0)")
