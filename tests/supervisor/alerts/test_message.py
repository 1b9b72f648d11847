import json
from typing import Any

import pytest

from policies.alerting import AlertKind, Summary, Summed
from policies.failure import Unknown
from supervisor import events
from supervisor.alerts.message import alert_json, kind_of, summary_json
from supervisor.report import Status

RUN = ("agent:main:reports", "run-1", 1_767_225_600.25)
START = {"session": RUN[0], "job": None, "run_id": RUN[1], "at": "2026-01-01T00:00:00.250Z", "repeats": 0}


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            events.RunEnded(*RUN, Status.FAILED, "attempts", 4, 7200.0),
            {
                "kind": "give_up",
                "message": "run failed (attempts) after 2 h, attempts: 4",
                "status": "failed",
                "reason": "attempts",
                "attempts": 4,
                "duration_s": 7200.0,
                "detail": "",
            },
        ),
        (
            events.BreakerOpened(*RUN, 60.0, 1),
            {
                "kind": "breaker_opened",
                "message": "breaker open, 2 times in a row: nothing starts for 60 s",
                "cooldown_s": 60.0,
                "trips": 1,
            },
        ),
        (
            events.SessionQuarantined(*RUN, Unknown(("process 7\n",))),
            {
                "kind": "quarantine",
                "message": "session quarantined; MAY STILL LIVE: process 7\\n",
                "receipt": {
                    "receipt": "unknown",
                    "seconds": 0.0,
                    "processes_killed": 0,
                    "lock_reclaimed": False,
                    "steps": [],
                    "alive": ["process 7\n"],
                },
            },
        ),
        (
            events.AttemptLost(*RUN, 2, "its warden says gone"),
            {
                "kind": "lost",
                "message": "attempt 2 lost, its supervisor died: its warden says gone",
                "number": 2,
            },
        ),
    ],
)
def test_an_alert_says_what_happened_when_and_of_whom(event: Any, says: dict[str, Any]) -> None:
    kind = kind_of(event)
    assert kind is not None
    assert json.loads(alert_json(kind, event, None, 0, None)) == START | says


def test_the_end_of_a_run_comes_with_its_last_failure() -> None:
    event = events.RunEnded(*RUN, Status.FAILED, "attempts", 4, 1.0)
    shape = json.loads(alert_json(AlertKind.GIVE_UP, event, "reports", 3, "error: no\x1b"))
    assert shape["job"] == "reports"
    assert shape["message"] == "run failed (attempts) after 1 s, attempts: 4; the last failure: error: no\\x1b"
    assert shape["repeats"] == 3


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.FAILED])
def test_a_run_that_did_not_fail_is_no_alert(status: Status) -> None:
    assert kind_of(events.RunEnded(*RUN, status, "cancelled", 1, 1.0)) is None


def test_what_is_good_news_is_no_alert() -> None:
    assert kind_of(events.BreakerClosed(*RUN)) is None
    assert kind_of(events.QuarantineLifted(*RUN)) is None


def test_a_summary_counts_kinds_and_names_each_session_once() -> None:
    summed = (Summed(AlertKind.LOST, 30, ("a", "b")), Summed(AlertKind.GIVE_UP, 1, ("b", "c")))
    text = summary_json(Summary(summed, 60.0), RUN[2])
    assert text.endswith(b"}\n")
    assert json.loads(text) == {
        "kind": "summary",
        "at": "2026-01-01T00:00:00.250Z",
        "since": "2025-12-31T23:59:00.250Z",
        "message": "more alerts than are told one by one: 30 lost, 1 give_up",
        "counts": {"lost": 30, "give_up": 1},
        "sessions": ["a", "b", "c"],
    }
