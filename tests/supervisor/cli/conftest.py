from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.cli.running import Turnkeeper


@pytest.fixture
def turnkeeper(tmp_path: Path) -> Iterator[Turnkeeper]:
    """Runs of the command; afterwards, nothing of them is left."""
    turnkeeper = Turnkeeper(tmp_path)
    yield turnkeeper
    turnkeeper.assert_nothing_is_left()
