"""Helpers are imported from the top of the repository: tests.supervisor.tree.trees."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TOP = str(Path(__file__).parents[2])
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)

from tests.chaos.many import Many  # noqa: E402
from tests.supervisor.cli.running import Turnkeeper  # noqa: E402
from tests.supervisor.cli.serving import Serve  # noqa: E402


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Many]:
    """Processes that share one state; afterwards, nothing of them is left."""
    turnkeeper = Turnkeeper(tmp_path)
    yield Many(turnkeeper)
    turnkeeper.assert_nothing_is_left()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`turnkeeper serve` processes on one state; afterwards, nothing of them is left."""
    turnkeeper = Turnkeeper(tmp_path)
    yield Serve(turnkeeper)
    turnkeeper.assert_nothing_is_left()
