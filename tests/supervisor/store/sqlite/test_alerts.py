"""Many processes, one outage."""

import multiprocessing
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from policies.alerting import AlertKind, Hold, Repeat, Send
from tests.supervisor.alerts.ledgers import DatabaseLedger

PROCESSES = 8
SESSIONS = 74


def claim_each(path: Path, sessions: Iterable[int], answers: "multiprocessing.Queue[type]") -> None:
    with closing(DatabaseLedger(lambda: 1000.0, path)) as ledger:
        for number in sessions:
            answers.put(type(ledger.claim_now(AlertKind.BREAKER_OPENED, f"s{number}").answer))


@pytest.mark.processes
def test_an_outage_that_many_processes_meet_is_ten_alerts_and_one_summary(tmp_path: Path) -> None:
    path = tmp_path / "turns.db"
    now = 1000.0
    with closing(DatabaseLedger(lambda: now, path)) as ledger:
        ledger.database.execute("PRAGMA journal_mode = WAL")
        context = multiprocessing.get_context("spawn")
        queue: multiprocessing.Queue[type] = context.Queue()
        # Each session is met by two of the processes.
        parts = [range(each % 4, SESSIONS, 4) for each in range(PROCESSES)]
        processes = [context.Process(target=claim_each, args=(path, part, queue)) for part in parts]
        for process in processes:
            process.start()
        answers = [queue.get(timeout=60) for _ in range(2 * SESSIONS)]
        for process in processes:
            process.join(timeout=60)
            assert process.exitcode == 0
        assert (answers.count(Send), answers.count(Hold), answers.count(Repeat)) == (10, SESSIONS - 10, SESSIONS)
        now += 60.0
        summary = ledger.claim_now(AlertKind.LOST, "a").summary
        assert summary is not None
        assert [(each.kind, each.count) for each in summary.summed] == [("breaker_opened", SESSIONS - 10)]
