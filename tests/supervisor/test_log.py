import json
import typing
from typing import Any

import pytest

from policies.failure import Failed, Gone, Kind, Outcome, Refusal, Unknown
from policies.verdict import FINISH, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor import events
from supervisor.credentials import hide_credentials
from supervisor.log import AnyEvent, json_line, line, seconds
from supervisor.report import AttemptReport, Status

RUN = ("agent:main:reports", "run-1", 1_767_225_600.25)
GONE = Gone(("task ended", "closed AsyncClient", "lock reports.jsonl.lock released"), 0.0123, 2, lock_reclaimed=True)


def ended(
    failed: Failed | None, released: Gone | Unknown = GONE, verdict: Verdict = FINISH, outcome: Outcome = Outcome.FAILED
) -> events.AttemptEnded:
    return events.AttemptEnded(*RUN, AttemptReport(2, RUN[2], 300.02, outcome, failed, released, verdict))


TIMED_OUT = Failed(
    Kind.TIMEOUT, "timed out after 300 s", retry_after_s=7.0, traceback="secret frames", output_tail="secret"
)
RETRY = Retry(99.0, 4.25, 2.0, GONE)

LINES: list[tuple[AnyEvent, str]] = [
    (events.RunQueued(*RUN, "gate"), "waits for its session"),
    (events.RunQueued(*RUN, "host"), "waits for the host"),
    (events.AttemptStarted(*RUN, 1, 300.0), "attempt 1 started, 5 min at most"),
    (events.AttemptStarted(*RUN, 1, None), "attempt 1 started, no time limit"),
    (events.AttemptStopping(*RUN, 1, "timeout", 10.0), "attempt 1 is told to end (timeout), forced after 10 s"),
    (
        ended(TIMED_OUT, verdict=RETRY),
        (
            "attempt 2 failed: timeout after 5 min: timed out after 300 s; it asked for 7 s; gone in 12.3 ms: "
            "task ended, closed AsyncClient, lock reports.jsonl.lock released, 2 processes ended, lock reclaimed; "
            "next attempt in 4.25 s"
        ),
    ),
    (
        ended(Failed(Kind.ERROR, "no"), Gone(("task ended",)), GiveUp(Reason.ATTEMPTS)),
        "attempt 2 failed: error after 5 min: no; gone in 0 ms: task ended; no further attempt: attempts",
    ),
    (
        ended(None, Gone(("streams closed",), processes_killed=1), FINISH, Outcome.SUCCEEDED),
        "attempt 2 succeeded after 5 min; gone in 0 ms: streams closed, 1 process ended",
    ),
    (
        ended(Failed(Kind.ERROR, "no"), Gone(("task ended",)), GiveUp(Refusal.DEADLINE)),
        "attempt 2 failed: error after 5 min: no; gone in 0 ms: task ended; no further attempt: deadline",
    ),
    (
        ended(
            Failed(Kind.UNCONFIRMED, "timed out, then not proved dead"),
            Unknown(("task of attempt 2",), ("closed AsyncClient",)),
            Quarantine(("task of attempt 2",)),
            Outcome.UNCONFIRMED,
        ),
        (
            "attempt 2 unconfirmed: unconfirmed after 5 min: timed out, then not proved dead; MAY STILL LIVE: task of "
            "attempt 2; closed AsyncClient; no further attempt: the session is quarantined"
        ),
    ),
    (
        ended(None, Gone(("task ended",), 0.5), outcome=Outcome.SUCCEEDED),
        "attempt 2 succeeded after 5 min; gone in 500 ms: task ended",
    ),
    (events.RunEnded(*RUN, Status.FAILED, "attempts", 4, 7200.0), "run failed (attempts) after 2 h, attempts: 4"),
    (events.RunEnded(*RUN, Status.SUCCEEDED, None, 1, 1.5), "run succeeded after 1.5 s, attempts: 1"),
    (events.BreakerOpened(*RUN, 60.0, 0), "breaker open: nothing starts for 60 s"),
    (events.BreakerOpened(*RUN, 120.0, 1), "breaker open, 2 times in a row: nothing starts for 2 min"),
    (events.BreakerHalfOpened(*RUN), "breaker half open: a trial may start"),
    (events.BreakerClosed(*RUN), "breaker closed"),
    (events.LockTaken(*RUN, "/s/r.jsonl.lock"), "lock /s/r.jsonl.lock taken"),
    (events.LockWaiting(*RUN, "/s/r.jsonl.lock", "process 7"), "lock /s/r.jsonl.lock is held by process 7: waiting"),
    (
        events.LockReclaimed(*RUN, "/s/r.jsonl.lock", "no process 7 is left"),
        "lock /s/r.jsonl.lock reclaimed, its holder is dead: no process 7 is left",
    ),
    (events.SessionQuarantined(*RUN, Unknown(("a task",))), "session quarantined; MAY STILL LIVE: a task"),
    (
        events.JobOverdue(*RUN, "reports", 3, 90.0, True, True),
        "job reports is overdue: no success for 3 of its periods, 90 s; it is paused",
    ),
    (
        events.JobOverdue(*RUN, "reports", 3, 90.0, False),
        "job reports is overdue: no success for 3 of its periods, 90 s, nor ever",
    ),
    (
        events.AttemptLost(*RUN, 2, "process 7 is gone; token=abcdefgh"),
        "attempt 2 lost, its supervisor died: process 7 is gone; token=***",
    ),
    (events.QuarantineLifted(*RUN), "quarantine lifted: what may have lived has ended"),
]


@pytest.mark.parametrize(("event", "says"), LINES)
def test_a_line_says_when_which_run_which_session_and_what_happened(event: AnyEvent, says: str) -> None:
    assert line(event) == f"2026-01-01T00:00:00.250Z run-1 agent:main:reports: {says}"


def test_every_event_has_a_line() -> None:
    classes = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Event)]
    every = set(classes) - {events.Event}
    assert every == set(typing.get_args(AnyEvent))
    assert every == {type(event) for event, _ in LINES}


@pytest.mark.parametrize("event", [event for event, _ in LINES])
def test_a_json_line_is_one_object_with_when_run_session_and_name(event: AnyEvent) -> None:
    shape = json.loads(json_line(event))
    assert shape["at"] == "2026-01-01T00:00:00.250Z"
    assert (shape["run_id"], shape["session"]) == ("run-1", "agent:main:reports")
    assert shape["event"].replace("_", "") == type(event).__name__.lower()


def test_a_failure_as_json_has_the_shape_of_a_report_without_its_output() -> None:
    shape = json.loads(json_line(ended(TIMED_OUT, verdict=RETRY)))
    assert shape["event"] == "attempt_ended"
    attempt = shape["attempt"]
    assert attempt["failure"] == {
        "kind": "timeout",
        "message": "timed out after 300 s",
        "exit_code": None,
        "signal": None,
        "retry_after_s": 7.0,
    }
    assert attempt["released"]["receipt"] == "gone"
    assert attempt["verdict"] == {"action": "retry", "delay_s": 4.25, "reason": None}


def test_other_events_as_json_have_their_fields() -> None:
    assert json.loads(json_line(events.AttemptStarted(*RUN, 1, None)))["timeout_s"] is None
    assert json.loads(json_line(events.BreakerOpened(*RUN, 60.1234567, 0)))["cooldown_s"] == 60.123457
    quarantined = json.loads(json_line(events.SessionQuarantined(*RUN, Unknown(("a task",)))))
    assert quarantined["receipt"]["alive"] == ["a task"]
    assert json.loads(json_line(events.RunEnded(*RUN, Status.FAILED, "attempts", 4, 1.0)))["status"] == "failed"


@pytest.mark.parametrize(
    "hostile", ["a\nb", "a\rb", "a\x1b[2Jb", "a\x00b", "a\x7fb", "a\u2028b", "a\u202eb", "a\udcffb", "a\x85b"]
)
def test_a_line_stays_one_line_and_commands_no_terminal(hostile: str) -> None:
    event = events.LockWaiting(hostile, "run-1", 0.0, hostile, hostile)
    for text in (line(event), json_line(event)):
        assert text.isprintable()
        assert len(text.splitlines()) == 1
        text.encode()  # no lone surrogate is left either
    assert json.loads(json_line(event))["path"] == hostile


def test_a_line_has_the_first_line_of_a_message_and_shows_that_there_is_more() -> None:
    assert "error after 5 min: first …;" in line(ended(Failed(Kind.ERROR, "first\nsecond")))
    long = line(ended(Failed(Kind.ERROR, "x" * 2000)))
    assert "x …;" in long
    assert len(long) < 600
    assert "error after 5 min: ;" in line(ended(Failed(Kind.ERROR, "")))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("401 for Authorization: Bearer abc.def-123", "abc.def"),
        ("url 'https://user:hunter22@host/v1?api_key=topsecret&x=1'", "topsecret"),
        ("url 'https://user:hunter22@host/v1'", "hunter22"),
        ("url 'https://user:hunt@er22@host/v1'", "er22"),
        ("Incorrect API key provided: sk-proj-0123456789", "0123456789"),
        ('{"access_token": "topsecret", "x": 1}', "topsecret"),
        ("password=topsecret", "topsecret"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, hidden: str) -> None:
    assert hidden not in hide_credentials(text)
    assert hidden not in line(ended(Failed(Kind.AUTH, text)))
    assert hidden not in json_line(ended(Failed(Kind.AUTH, text)))


@pytest.mark.parametrize("show", [line, json_line])
def test_a_credential_is_hidden_in_what_a_release_step_said_and_in_what_may_live(show: Any) -> None:
    said = "ValueError: api_key=topsecret"
    gone, unknown = Gone(("task ended", said)), Unknown((said,), (said,))
    for receipt, verdict in ((gone, GiveUp(Reason.ATTEMPTS)), (unknown, Quarantine((said,)))):
        assert "topsecret" not in show(ended(Failed(Kind.ERROR, "no"), receipt, verdict))
    assert "topsecret" not in show(events.SessionQuarantined(*RUN, unknown))
    assert "api_key=***" in show(events.SessionQuarantined(*RUN, unknown))


def test_a_long_line_without_a_credential_takes_no_time() -> None:
    text = "a" * 200_000
    assert hide_credentials(text) == text


def test_what_is_no_credential_is_left_alone() -> None:
    text = 'HTTPStatusError: 429 for url \'http://127.0.0.1:8080/v1/chat\', 3 tokens left; see https://example.org/@me, {"a":"https://example.org","to":"me@here"}'
    assert hide_credentials(text) == text


@pytest.mark.parametrize("secret", ["secret frames", "secret"])
def test_neither_output_nor_traceback_is_in_a_line(secret: str) -> None:
    assert secret not in line(ended(TIMED_OUT))
    assert secret not in json_line(ended(TIMED_OUT))


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (0.0, "0 ms"),
        (0.000001, "0 ms"),
        (0.00123, "1.23 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (59.96, "60 s"),
        (99.9, "99.9 s"),
        (300.0, "5 min"),
        (3600.0, "60 min"),
        (7200.0, "2 h"),
        (360000.0, "100 h"),
    ],
)
def test_a_length_of_time_has_three_digits_and_a_unit(length: float, says: str) -> None:
    assert seconds(length) == says
