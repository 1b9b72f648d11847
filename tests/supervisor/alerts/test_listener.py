"""The listener, on the virtual clock; what it would run is kept instead."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import pytest

from policies.alerting import AlertKind
from policies.failure import Failed, Gone, Kind, Outcome, Unknown
from policies.verdict import GiveUp, Reason
from supervisor import events
from supervisor.alerts.ledger import AlertLedger, Claimed, Collected, MemoryLedger
from supervisor.alerts.listener import MOST_AT_ONCE, MOST_UNCLAIMED, MOST_WAITING, Alerts
from supervisor.clock import clock_of
from supervisor.errors import StoreUnavailable
from supervisor.report import AttemptReport, Status
from supervisor.settings.values import Alert
from tests.supervisor.alerts.ledgers import DatabaseLedger

ALL = Alert(tuple(AlertKind), ("notify",), 10.0)


class Told:
    """Stands where commands are run: keeps what each was told, and takes its time."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self.takes_s = takes_s
        self.running = self.most = self.cut = 0

    async def __call__(self, alert: Alert, message: bytes) -> str | None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.takes_s)
            self.messages.append(json.loads(message))
            self.commands.append(alert.command[0])
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.running -= 1
        return None

    def kinds(self) -> list[str]:
        return [message["kind"] for message in self.messages]


class Late:
    """A ledger that answers late, and not at all until a moment."""

    def __init__(self, inner: AlertLedger, late_s: float = 0.0, *, fails: bool = False) -> None:
        self.inner, self.late_s, self.fails = inner, late_s, fails

    async def claim(self, kind: AlertKind, session: str) -> Claimed:
        await asyncio.sleep(self.late_s)
        if self.fails:
            raise StoreUnavailable("the database is locked")
        return await self.inner.claim(kind, session)

    async def collect(self, *, leaving: bool) -> Collected:
        await asyncio.sleep(self.late_s)
        if self.fails:
            raise StoreUnavailable("the database is locked")
        return await self.inner.collect(leaving=leaving)


Make = Callable[..., Alerts]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def make(told: Told) -> AsyncIterator[Make]:
    made = []

    def making(*alerts: Alert, ledger: AlertLedger | None = None, notify: Any = None) -> Alerts:
        clock = clock_of(asyncio.get_running_loop())
        made.append(Alerts(alerts or (ALL,), clock, ledger or MemoryLedger(clock.now), notify or told))
        made[-1].start()
        return made[-1]

    yield making
    for each in made:
        await each.close()


def opened(session: str | int) -> events.BreakerOpened:
    return events.BreakerOpened(f"{session}", f"run-{session}", 0.0, 60.0, 0)


def failed(session: str) -> events.RunEnded:
    return events.RunEnded(session, "run-1", 0.0, Status.FAILED, "attempts", 1, 1.0)


def attempt_failed(run_id: str, message: str) -> events.AttemptEnded:
    failure = Failed(Kind.ERROR, message)
    report = AttemptReport(1, 0.0, 1.0, Outcome.FAILED, failure, Gone(()), GiveUp(Reason.ATTEMPTS))
    return events.AttemptEnded("a", run_id, 0.0, report)


async def test_an_outage_is_ten_alerts_and_a_summary_when_the_minute_is_over(make: Make, told: Told) -> None:
    alerts = make()
    for number in range(74):
        alerts(opened(number))
    await asyncio.sleep(59.0)
    assert told.kinds() == ["breaker_opened"] * 10
    await asyncio.sleep(2.0)
    assert told.kinds() == ["breaker_opened"] * 10 + ["summary"]
    assert told.messages[-1]["counts"] == {"breaker_opened": 64}
    assert told.messages[-1]["sessions"] == [f"{number}" for number in range(10, 30)]
    await asyncio.sleep(86400.0)
    assert len(told.messages) == 11


async def test_a_session_and_kind_is_told_once_an_hour_with_what_repeated(make: Make, told: Told) -> None:
    alerts = make()
    for _ in range(125):  # each minute
        alerts(opened("a"))
        await asyncio.sleep(60.0)
    assert [message["repeats"] for message in told.messages] == [0, 59, 59]


async def test_commands_get_the_kinds_that_they_are_for(make: Make, told: Told) -> None:
    first = Alert((AlertKind.BREAKER_OPENED, AlertKind.LOST), ("first",))
    second = Alert((AlertKind.LOST,), ("second",))
    alerts = make(first, second)
    alerts(opened("a"))
    alerts(failed("a"))  # nobody is told
    alerts(events.AttemptLost("a", "run-1", 0.0, 1, "its supervisor is gone"))
    for number in range(20):
        alerts(opened(number))
    await asyncio.sleep(61.0)
    assert sorted(zip(told.commands, told.kinds(), strict=True)) == sorted(
        [("first", "breaker_opened")] * 9 + [("first", "lost"), ("first", "summary"), ("second", "lost")]
    )
    assert told.messages[-1]["counts"] == {"breaker_opened": 12}


async def test_what_nobody_is_told_takes_no_place(make: Make, told: Told) -> None:
    alerts = make(Alert((AlertKind.LOST,), ("only",)))
    for number in range(50):
        alerts(opened(number))
    alerts(events.AttemptLost("a", "run-1", 0.0, 1, ""))
    await asyncio.sleep(1.0)
    assert told.kinds() == ["lost"]


async def test_a_run_that_failed_is_told_with_its_last_failure(make: Make, told: Told) -> None:
    alerts = make()
    alerts(attempt_failed("run-1", "first"))
    alerts(attempt_failed("run-1", "second; api_key=12345678\nmore"))
    alerts(failed("a"))
    await asyncio.sleep(1.0)
    assert told.messages[0]["message"].endswith("; the last failure: error: second; api_key=*** …")
    assert not alerts._failures


async def test_failures_of_runs_whose_ends_are_never_told_do_not_pile_up(make: Make) -> None:
    alerts = make()
    for number in range(20_000):
        alerts(attempt_failed(f"run-{number}", "no"))
    assert len(alerts._failures) <= 4096
    assert "run-19999" in alerts._failures


async def test_at_most_four_commands_run_and_64_wait_and_the_rest_is_counted(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Told(takes_s=5.0)
    alerts = make(*[ALL] * 20, notify=slow)
    for number in range(10):
        alerts(opened(number))
    await asyncio.sleep(1000.0)
    assert slow.most == MOST_AT_ONCE
    assert len(slow.messages) == MOST_AT_ONCE + MOST_WAITING
    assert alerts.dropped == 10 * 20 - MOST_AT_ONCE - MOST_WAITING
    assert [record.getMessage() for record in caplog.records] == [
        "alerts are not told: 64 wait for their commands already"
    ]


async def test_closing_tells_what_was_claimed_and_the_summary_that_nobody_else_has(make: Make, told: Told) -> None:
    alerts = make()
    for number in range(1000):
        alerts(opened(number))
    await alerts.close()
    assert told.kinds() == ["breaker_opened"] * 10 + ["summary"]
    assert told.messages[-1]["counts"] == {"breaker_opened": 990}


async def test_closing_waits_for_the_longest_timeout_and_no_longer(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Told(takes_s=1e6)
    alerts = make(ALL, Alert((AlertKind.LOST,), ("other",), 20.0), notify=stuck)
    for number in range(7):
        alerts(opened(number))
    await asyncio.sleep(0.0)
    began = asyncio.get_running_loop().time()
    await alerts.close()
    assert asyncio.get_running_loop().time() - began == pytest.approx(20.0)
    assert (stuck.cut, stuck.running, alerts.dropped) == (4, 0, 3)
    assert "3 alerts were not told" in caplog.text
    assert "was killed after 20 s" in caplog.text


async def test_closing_waits_for_a_slow_ledger_no_longer_either(make: Make, told: Told) -> None:
    alerts = make(ledger=Late(MemoryLedger(lambda: 0.0), late_s=1e6))
    alerts(opened("a"))
    began = asyncio.get_running_loop().time()
    await alerts.close()
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0)
    assert (told.messages, alerts.dropped) == ([], 1)


async def test_a_ledger_that_does_not_answer_leaves_the_grouping_to_this_process(
    make: Make, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = make(ledger=Late(MemoryLedger(lambda: 0.0), fails=True))
    for number in range(30):
        alerts(opened(number))
    await asyncio.sleep(120.0)
    assert told.kinds() == ["breaker_opened"] * 10 + ["summary"]
    assert told.messages[-1]["counts"] == {"breaker_opened": 20}
    assert [record.getMessage() for record in caplog.records] == [
        "alerts are grouped by this process alone: the database is locked"
    ]


async def test_more_than_can_be_claimed_is_counted(make: Make, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    alerts = make(ledger=Late(MemoryLedger(lambda: 0.0), late_s=0.001))
    for number in range(MOST_UNCLAIMED + 5):
        alerts(opened(number))
    assert alerts.dropped == 5
    assert "the store does not keep up" in caplog.text


async def test_a_command_that_cannot_be_run_is_logged_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def missing(alert: Alert, message: bytes) -> str | None:
        return "cannot be run: No such file or directory"

    alerts = make(notify=missing)
    for number in range(8):
        alerts(opened(number))
    await asyncio.sleep(1.0)
    assert caplog.record_tuples == [
        ("turnkeeper", logging.WARNING, "the alert command 'notify' cannot be run: No such file or directory")
    ]


async def test_a_notifier_that_raises_stops_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Raises(Told):
        async def __call__(self, alert: Alert, message: bytes) -> str | None:
            await super().__call__(alert, message)
            raise OSError("broken")

    raises = Raises()
    alerts = make(notify=raises)
    for number in range(8):
        alerts(opened(number))
    await asyncio.sleep(1.0)
    assert len(raises.messages) == 8
    assert caplog.messages == ["an alert raised OSError: broken"]


@pytest.mark.parametrize("late_s", [0.0, 0.1])
async def test_processes_that_share_a_ledger_share_an_outage(make: Make, told: Told, late_s: float) -> None:
    clock = clock_of(asyncio.get_running_loop())
    with closing(DatabaseLedger(clock.now)) as database:
        several = [make(ledger=Late(database, late_s=late_s)) for _ in range(5)]
        for number in range(74):
            several[number % 5](opened(number))
            several[(number + 1) % 5](opened(number))
        await asyncio.sleep(59.0)
        assert told.kinds() == ["breaker_opened"] * 10
        await asyncio.sleep(10.0)
        assert told.kinds() == ["breaker_opened"] * 10 + ["summary"]
        assert told.messages[-1]["counts"] == {"breaker_opened": 64}
        for each in several:
            await each.close()


async def test_what_ended_processes_leave_is_told_by_the_next_that_starts(make: Make, told: Told) -> None:
    clock = clock_of(asyncio.get_running_loop())
    with closing(DatabaseLedger(clock.now)) as database:
        first = make(ledger=database)
        for number in range(20):
            first(opened(number))
        await first.close()
        assert told.kinds() == ["breaker_opened"] * 10
        await asyncio.sleep(30.0)
        second = make(ledger=database)
        await asyncio.sleep(29.0)
        assert "summary" not in told.kinds()
        await asyncio.sleep(2.0)
        assert told.kinds()[-1] == "summary"
        await second.close()


async def test_a_quarantine_is_told_and_the_end_of_its_run_is_not(make: Make, told: Told) -> None:
    alerts = make()
    alerts(events.SessionQuarantined("a", "run-1", 0.0, Unknown(("a task",))))
    alerts(events.RunEnded("a", "run-1", 0.0, Status.QUARANTINED, "unconfirmed", 1, 1.0))
    await asyncio.sleep(1.0)
    assert told.kinds() == ["quarantine"]
