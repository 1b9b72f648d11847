"""Jobs that time out, fail, crash and print, for a long time: the supervisor's memory and files stay what they were.

SOAK_S=120 in CI, 600 before a release; what was seen is printed: pytest -s.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.hosts import ROOT
from tests.chaos.soak_host import JOBS, KEEP_RUNS
from tests.chaos.state_files import rows

SOAK_S = float(os.environ.get("SOAK_S", "20"))
MOST_GROWTH_BYTES = 2 << 20
MOST_STATE_BYTES = 8 << 20
"""SQLite writes 4 MiB of its log before it begins it anew; some 300 runs are kept."""

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(60 + 2 * SOAK_S)]


def test_a_supervisor_of_74_troublesome_jobs_does_not_grow(tmp_path: Path) -> None:
    host = [sys.executable, str(ROOT / "tests" / "chaos" / "soak_host.py"), str(tmp_path), str(SOAK_S)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    ended = subprocess.run(host, env=env, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    rounds = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rounds) >= 4
    made = JOBS * len(rounds)
    report(rounds)
    rounds = rounds[len(rounds) // 4 :]  # what is made once, is made in the first quarter
    first, last = rounds[0], rounds[-1]
    assert first["descriptors"] == last["descriptors"]
    assert {each["threads"] for each in rounds} == {first["threads"]}
    assert {each["alive"] for each in rounds} == {1}
    assert growth_bytes(rounds) < MOST_GROWTH_BYTES
    assert max(each["state"] for each in rounds) < MOST_STATE_BYTES
    [[kept]] = rows(tmp_path / "state.db", "SELECT count(*) FROM runs")
    assert kept == min(KEEP_RUNS, made)
    assert rows(tmp_path / "state.db", "PRAGMA integrity_check") == [("ok",)]


def growth_bytes(rounds: list[dict[str, Any]]) -> float:
    """Return how much the memory grew from the first to the last of these rounds: by the line through them all."""
    places = range(len(rounds))
    return statistics.linear_regression(places, [each["rss"] for each in rounds]).slope * len(rounds)


def report(rounds: list[dict[str, Any]]) -> None:
    for each in rounds[:: max(1, len(rounds) // 12)]:
        print(f"{each['rss'] / 2**20:.1f} MiB, {len(each['descriptors'])} open, state {each['state'] / 2**20:.2f} MiB")
    print(len(rounds), "rounds,", rounds[-1]["ends"])
