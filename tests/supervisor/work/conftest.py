"""Whatever a test does with commands and streams, it leaves no process, no descriptor and no file of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.lock import forking
from tests.supervisor.tree.trees import children, descriptors
from tests.supervisor.work.commands import Commands, commands_in


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands of the library."""
    before = len(descriptors())
    with commands_in(tmp_path, monkeypatch) as commands:
        yield commands
    assert len(descriptors()) == before


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """See also that there is nothing left which a forked child would have to close."""
    before, held = descriptors(), set(forking._holders)
    yield
    left = {target for _, target in descriptors() - before}
    assert not {target for target in left if not target.startswith(("anon_inode:[event", "socket:"))}
    assert set(forking._holders) == held
    assert children() == []
