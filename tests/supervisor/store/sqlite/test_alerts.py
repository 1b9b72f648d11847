"""Many processes, one outage."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from policies.alerting import AlertKind
from tests.supervisor.alerts.ledgers import DatabaseLedger

PROCESSES = 8
SESSIONS = 74
TOP = Path(__file__).parents[4]

MEETS = """
import sys
from policies.alerting import AlertKind
from tests.supervisor.alerts.ledgers import DatabaseLedger

ledger = DatabaseLedger(lambda: 1000.0, sys.argv[1])
for session in sys.argv[2:]:
    print(type(ledger.claim_now(AlertKind.BREAKER_OPENED, session).answer).__name__)
ledger.close()
"""


@pytest.mark.processes
def test_an_outage_that_many_processes_meet_is_ten_alerts_and_one_summary(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    now = 1000.0
    with closing(DatabaseLedger(lambda: now, path)) as ledger:
        ledger.database.execute("PRAGMA journal_mode = WAL")
        # Each session is met by two of the processes.
        parts = [[f"s{number}" for number in range(each % 4, SESSIONS, 4)] for each in range(PROCESSES)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MEETS, str(path), *part],
                env={**os.environ, "PYTHONPATH": str(TOP)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for part in parts
        ]
        answers = [answer for process in processes for answer in process.communicate(timeout=60)[0].split()]
        assert [process.returncode for process in processes] == [0] * PROCESSES
        counts = tuple(answers.count(answer) for answer in ("Send", "Hold", "Repeat"))
        assert counts == (10, SESSIONS - 10, SESSIONS)
        now += 60.0
        summary = ledger.claim_now(AlertKind.LOST, "a").summary
        assert summary is not None
        assert [(each.kind, each.count) for each in summary.summed] == [("breaker_opened", SESSIONS - 10)]
