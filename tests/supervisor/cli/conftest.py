from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.cli.running import Turnkeeper
from tests.supervisor.cli.serving import Serve


@pytest.fixture
def turnkeeper(tmp_path: Path) -> Iterator[Turnkeeper]:
    """Runs of the command; afterwards, nothing of them is left."""
    turnkeeper = Turnkeeper(tmp_path)
    yield turnkeeper
    turnkeeper.assert_nothing_is_left()


@pytest.fixture
def serve(turnkeeper: Turnkeeper) -> Serve:
    """`turnkeeper serve`; afterwards, nothing of it is left."""
    return Serve(turnkeeper)
