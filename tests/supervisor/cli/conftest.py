import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.cli.running import Turnkeeper
from tests.supervisor.cli.serving import Serve


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Whoever runs the tests may ignore signals (nohup does, and a shell's background), and that is inherited."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
