"""A run in words: each reason says what decided."""

from typing import Any

import pytest

from policies.failure import Kind, Refusal
from policies.verdict import Reason
from supervisor.cli.runs import _why
from supervisor.cli.words import attempt_words, run_words, verdict_words

WHY = {
    "attempts": [2, 3],
    "retries_below": 0,
    "retries_left_above": None,
    "retried": True,
    "counts": True,
    "tokens": 2.0,
    "session_spent": [9.0, 9.0],
    "session_capacity": 10.0,
    "host_spent": [0.0, 0.0],
    "breaker": [{"state": "closed", "in_a_row": 0}] * 2,
    "deadline_s": 12.0,
    "stopped": None,
}


def attempt(action: str = "give_up", reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "number": 2,
        "started_at": "2026-08-30T06:00:00.000Z",
        "duration_s": 5.0,
        "outcome": "failed",
        "failure": {"kind": "timeout", "message": "timed out after 5 s"},
        "released": {"receipt": "gone", "seconds": 0.2, "processes_killed": 3, "lock_reclaimed": True, "steps": ["x"]},
        "verdict": {"action": action, "delay_s": None, "reason": reason},
        "why": WHY,
        "fence": 7,
        "warden_pid": 42,
        **more,
    }


@pytest.mark.parametrize("reason", [*Reason, Refusal.BREAKER_OPEN, Refusal.DEADLINE])
def test_every_reason_has_its_words(reason: Reason | Refusal) -> None:
    words = verdict_words(attempt(reason=reason.value))
    assert words.startswith(f"given up, {reason}: ")
    known_by_no_verdict = {Reason.UNCONFIRMED, Reason.STORE_UNAVAILABLE}  # neither is ever written with a verdict
    assert ("nothing more may start" in words) == (reason in known_by_no_verdict)


def test_what_was_missing_is_said_in_numbers() -> None:
    assert verdict_words(attempt(reason="session_budget")) == (
        "given up, session_budget: a retry takes 2 tokens, and 1.0 of 10 were left"
    )
    assert verdict_words(attempt(reason="attempts")) == "given up, attempts: all 3 attempts are used"
    assert verdict_words(attempt(reason="not_retried")) == (
        f"given up, not_retried: by its policy, {Kind.TIMEOUT} is not tried again"
    )


def test_an_attempt_says_what_is_left_of_it_and_how_that_is_known() -> None:
    assert list(attempt_words(attempt(reason="attempts")))[:4] == [
        "attempt 2: started at 2026-08-30T06:00:00.000Z, under warden 42, took 5 s",
        "  outcome  failed: timeout, timed out after 5 s",
        "  left     nothing: proved, 200 ms after it was told to end, 3 processes ended, its lock file was removed",
        "           - x",
    ]


def test_the_last_lines_of_a_failed_attempt_are_shown_without_credentials() -> None:
    printed = "".join(f"line {number}\n" for number in range(25)) + "password=hunter22hunter22\x1b[2J\n"
    failure = {"kind": "exit", "message": "exited with 1", "output_tail": printed}
    words = list(attempt_words(attempt(reason="attempts", failure=failure)))
    assert words[2:5] == ["  output   ... and 6 lines before", "           line 6", "           line 7"]
    assert words[22].startswith("           password=***")
    assert "hunter" not in "".join(words)
    for nothing in (None, "", " \n"):
        words = list(attempt_words(attempt(reason="attempts", failure=failure | {"output_tail": nothing})))
        assert not any("output" in line for line in words)


def test_what_may_live_is_named() -> None:
    receipt = {"receipt": "unknown", "seconds": 0, "processes_killed": 0, "lock_reclaimed": False, "steps": []}
    words = list(attempt_words(attempt("quarantine", released={**receipt, "alive": ["warden 7"]})))
    assert "  left     may still live: warden 7" in words


def test_an_attempt_that_was_ended_by_another_process_has_no_numbers() -> None:
    words = list(attempt_words(attempt(reason="lost", why=None)))
    assert words[-1].startswith("  verdict  given up, lost: ")


def test_a_run_under_way_says_what_it_does() -> None:
    under_way = attempt(outcome=None, failure=None, released=None, verdict=None, why=None)
    run = {
        "run_id": "run-1",
        "session": "a",
        "job": "reports",
        "policy": "default",
        "policy_hash": "0f",
        "status": "running",
        "reason": None,
        "started_at": "2026-08-30T06:00:00.000Z",
        "ended_at": None,
        "duration_s": None,
        "detail": "",
        "lock": "/a.jsonl",
        "parents": ["run-0"],
        "owner": {"id": "x", "pid": 41},
        "attempts": [under_way],
    }
    assert list(run_words(run)) == [
        "run run-1 of session 'a'",
        "a tick of the job reports",
        "policy default, rules 0f",
        "asked for at 2026-08-30T06:00:00.000Z by process 41",
        "lock /a.jsonl",
        "within run-0",
        "under way: running",
        "",
        "attempt 2: started at 2026-08-30T06:00:00.000Z, under warden 42, and runs",
    ]


def test_why_a_run_ended_is_said_once() -> None:
    failure = {"kind": "lost", "message": "its supervisor died"}
    assert _why("lost", failure) == "lost: its supervisor died"
    assert _why("attempts", failure) == "attempts: lost, its supervisor died"
    assert _why(None, failure) == "lost, its supervisor died"
    assert _why("stopped", None) == "stopped"
