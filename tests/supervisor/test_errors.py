"""Errors say what happened, with which values."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from policies.failure import ONLY_FOUND, Failed, Gone, Kind, Outcome
from policies.verdict import GiveUp, Reason
from supervisor import (
    AttemptReport,
    Failure,
    RunFailed,
    RunRefused,
    RunReport,
    SessionLocked,
    SettingsError,
    Status,
    StoreUnavailable,
    SupervisorError,
)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_failure_may_be_of_every_kind_but_those_that_only_the_engine_can_know(kind: Kind) -> None:
    if kind in ONLY_FOUND:
        with pytest.raises(ValueError, match=f"a Failure cannot be {kind.value}: that is"):
            Failure(kind, "says the work")
    else:
        assert Failure(kind.value, "says the work").kind is kind


def report(status: Status, reason: str, attempts: tuple[AttemptReport, ...] = (), detail: str = "") -> RunReport:
    return RunReport("run-1", "a", "default", "hash", status, reason, 0.0, 1.0, attempts, None, detail)


def test_a_failed_run_names_session_status_reason_and_every_attempt() -> None:
    attempts = tuple(
        AttemptReport(
            number, 0.0, 1.0, Outcome.FAILED, Failed(Kind.ERROR, f"e{number}"), Gone(), GiveUp(Reason.ATTEMPTS)
        )
        for number in (1, 2, 3)
    )
    error = RunFailed(report(Status.FAILED, "attempts", attempts))
    assert str(error) == (
        "run run-1 of session 'a' failed (attempts): attempt 1: error: e1; attempt 2: error: e2; attempt 3: error: e3"
    )
    assert error.report.attempts == attempts


def test_a_run_that_failed_without_an_attempt_still_says_why() -> None:
    assert str(RunFailed(report(Status.CANCELLED, "closed"))) == "run run-1 of session 'a' cancelled (closed)"


def test_a_refused_run_says_why_and_how_long() -> None:
    error = RunRefused(report(Status.REFUSED, "breaker_open", detail="open for 12.0 s more"))
    for part in ("session 'a'", "breaker_open", "open for 12.0 s more"):
        assert part in str(error)
    assert error.report.reason == "breaker_open"


@pytest.mark.parametrize(
    ("alive", "words"), [(True, "alive"), (False, "dead"), (None, "of which it cannot be said whether it lives")]
)
def test_a_locked_session_names_path_holder_since_when_and_whether_it_lives(*, alive: bool | None, words: str) -> None:
    error = SessionLocked(Path("/x/a.jsonl.lock"), "pid 7", 7, 61.7, "wait, or stop it", holder_alive=alive)
    assert str(error) == f"/x/a.jsonl.lock is held by pid 7 for 62 s, {words}; wait, or stop it"
    assert (error.holder_pid, error.held_for_s, error.holder_alive) == (7, 61.7, alive)


def test_a_holder_of_unknown_age_has_none() -> None:
    error = SessionLocked(Path("/x/a.lock"), "somebody", None, None, "wait", holder_alive=None)
    assert " for " not in str(error)


def test_settings_errors_have_every_problem_on_a_line() -> None:
    error = SettingsError("settings.toml", ("a is wrong", "b too"))
    assert str(error) == "settings.toml:\n  a is wrong\n  b too"
    assert isinstance(error, ValueError)


def test_all_errors_have_one_base() -> None:
    for cls in (Failure, RunFailed, RunRefused, SessionLocked, SettingsError, StoreUnavailable):
        assert issubclass(cls, SupervisorError)


ERRORS = [
    Failure("rate_limited", "slow down", retry_after=3.0),
    RunFailed(report(Status.FAILED, "attempts")),
    RunRefused(report(Status.REFUSED, "busy", detail="somebody has it")),
    SessionLocked(Path("a.lock"), "somebody", 7, 1.0, "wait", holder_alive=None),
    SettingsError("settings.toml", ("one", "two")),
    StoreUnavailable("no answer"),
]


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying(error: SupervisorError, again: Any) -> None:
    """A process pool pickles what its work raises: one that cannot be read again breaks the whole pool."""
    error.__cause__ = OSError("why")
    other = again(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_an_error_derived_from_a_failure_survives_pickling() -> None:
    other = pickle.loads(pickle.dumps(QuotaUsedUp("org-7")))
    assert (type(other), other.organisation, other.kind) == (QuotaUsedUp, "org-7", Kind.RATE_LIMITED)


class QuotaUsedUp(Failure):
    def __init__(self, organisation: str) -> None:
        super().__init__(Kind.RATE_LIMITED, f"{organisation} has no quota left")
        self.organisation = organisation
