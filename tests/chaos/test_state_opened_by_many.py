"""A state that is not there yet, opened by many processes in one moment: one makes it, and it is everybody's."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.hosts import Hosts, hosts_of
from tests.chaos.state_files import rows

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "10"))
PROCESSES = 6

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(60 + ROUNDS)]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_of("open_host", tmp_path) as hosts:
        yield hosts


def test_a_new_state_is_opened_by_many_at_once(hosts: Hosts, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        state = tmp_path / str(number) / "state.db"
        at = time.monotonic() + 0.05
        opening = [hosts.start(state=state, at=at) for _ in range(PROCESSES)]
        assert [hosts.wait(pid) for pid in opening] == [0] * PROCESSES, (tmp_path / "stderr").read_text()
        assert rows(state, "SELECT status, count(*) FROM runs GROUP BY status") == [("succeeded", PROCESSES)]
        assert os.listdir(state.parent / "alive") == []
        assert sorted(os.listdir(state.parent)) == ["alive", "state.db"]
    assert (tmp_path / "stderr").read_text() == ""
