"""What an exception says of its failure: kind, message, how long to wait, and where it was raised."""

import asyncio
import gc
import sys
import urllib.error
import weakref
from collections.abc import Callable
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from re import compile as pattern
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.classification import Rule
from policies.failure import DEFAULT_EFFECTS, Failed, Gone, Kind, Outcome
from policies.verdict import GiveUp, Reason
from supervisor.errors import Failure, RunFailed, RunRefused, SessionLocked
from supervisor.report import AttemptReport, RunReport, Status
from supervisor.work.call import failed_by, names, retry_after_s, where
from supervisor.work.http_answer import status_of

WALL = 1_767_225_600.0  # 2026-01-01T00:00:00Z
URL = "http://model.invalid/v1/turn"


def raised(error: BaseException) -> BaseException:
    """Return the exception as it looks after it was raised."""
    try:
        raise error  # noqa: TRY301
    except BaseException as seen:
        return seen


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def failed(error: BaseException, *rules: Rule) -> Failed:
    return failed_by(raised(error), rules, WALL)


def http_error(status: int, headers: dict[str, str] | None = None) -> httpx.HTTPStatusError:
    """Return what httpx raises for such an answer, made by its own client."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, text="no")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        error = caught(lambda: client.get(URL).raise_for_status())
    assert isinstance(error, httpx.HTTPStatusError)
    return error


def report(status: Status, kind: Kind | None, retry_after: float | None = None) -> RunReport:
    attempts: tuple[AttemptReport, ...] = ()
    if kind is not None:
        failure = Failed(kind, "the child's own words", retry_after)
        attempts = (AttemptReport(1, WALL, 1.0, Outcome.FAILED, failure, Gone(), GiveUp(Reason.NOT_RETRIED)),)
    return RunReport("run-1", "child", "default", "0" * 12, status, "attempts", WALL, 1.0, attempts)


# --- what it is


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.INVALID),
        (401, Kind.AUTH),
        (403, Kind.AUTH),
        (404, Kind.INVALID),
        (408, Kind.TIMEOUT),
        (413, Kind.INVALID),
        (429, Kind.RATE_LIMITED),
        (500, Kind.SERVER_ERROR),
        (502, Kind.SERVER_ERROR),
        (503, Kind.OVERLOADED),
        (504, Kind.SERVER_ERROR),
        (529, Kind.OVERLOADED),
        (599, Kind.SERVER_ERROR),
    ],
)
def test_an_http_answer_is_what_its_status_says(status: int, kind: Kind) -> None:
    assert failed(http_error(status)).kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("slow"), Kind.TIMEOUT),
        (httpx.ReadTimeout("slow"), Kind.TIMEOUT),
        (httpx.PoolTimeout("slow"), Kind.TIMEOUT),
        (httpx.ConnectError("refused"), Kind.NETWORK),
        (httpx.ReadError("reset"), Kind.NETWORK),
        (httpx.RemoteProtocolError("half an answer"), Kind.NETWORK),
        (TimeoutError(), Kind.TIMEOUT),
        (ConnectionResetError(104, "reset"), Kind.NETWORK),
        (MemoryError(), Kind.MEMORY),
        (ValueError("no"), Kind.ERROR),
        (asyncio.CancelledError(), Kind.CANCELLED),
        (KeyboardInterrupt(), Kind.CANCELLED),
        (SystemExit(3), Kind.CANCELLED),
        (GeneratorExit(), Kind.CANCELLED),
    ],
)
def test_an_exception_without_a_status_is_known_by_its_class(error: BaseException, kind: Kind) -> None:
    assert failed(error).kind is kind


def test_urllib_s_error_is_known_by_its_status_and_its_header() -> None:
    headers = Message()
    headers["Retry-After"] = "7"
    error = urllib.error.HTTPError(URL, 429, "Too Many Requests", headers, None)
    with error:
        found = failed(error)
    assert (found.kind, found.retry_after_s) == (Kind.RATE_LIMITED, 7.0)


@pytest.mark.parametrize("attribute", ["status_code", "status"])
def test_the_status_may_be_the_exception_s_own(attribute: str) -> None:
    error = RuntimeError("overloaded")
    setattr(error, attribute, 529)
    assert failed(error).kind is Kind.OVERLOADED


@pytest.mark.parametrize("status", [200, 302, 0, -1, 600, 10**30, "503", None, True, 503.0, [503]])
def test_what_is_no_status_of_a_failure_is_not_taken_for_one(status: object) -> None:
    error = RuntimeError("no")
    error.status_code = status  # type: ignore[attr-defined]
    assert status_of(error) is None
    assert failed(error).kind is Kind.ERROR


def test_a_failure_says_itself_what_it_is() -> None:
    found = failed(Failure(Kind.OVERLOADED, "try later", retry_after=3.0))
    assert (found.kind, found.message, found.retry_after_s) == (Kind.OVERLOADED, "try later", 3.0)


def test_a_locked_session_is_busy_and_speaks_for_itself() -> None:
    error = SessionLocked(Path("a.jsonl.lock"), "pid 7", 7, 3.0, "wait, or stop it", holder_alive=True)
    found = failed(error)
    assert found.kind is Kind.BUSY
    assert found.message == str(error)
    assert not found.message.startswith("SessionLocked")


# --- rules of the settings


class Quota(RuntimeError):
    """A stranger's error."""


class DailyQuota(Quota):
    """And one derived from it."""


def test_a_rule_names_an_exception_by_its_dotted_name_and_its_subclasses_match() -> None:
    rule = Rule(Kind.RATE_LIMITED, exception=f"{Quota.__module__}.Quota")
    assert failed(DailyQuota("no"), rule).kind is Kind.RATE_LIMITED
    assert failed(RuntimeError("no"), rule).kind is Kind.ERROR


@pytest.mark.parametrize("name", ["ValueError", "builtins.ValueError"])
def test_a_builtin_is_named_with_or_without_its_module(name: str) -> None:
    assert failed(UnicodeError("no"), Rule(Kind.INVALID, exception=name)).kind is Kind.INVALID


def test_a_rule_may_search_the_exception_s_text() -> None:
    rule = Rule(Kind.RATE_LIMITED, output=pattern("(?i)quota .* exceeded"))
    assert failed(RuntimeError("Quota for today EXCEEDED"), rule).kind is Kind.RATE_LIMITED


def test_a_rule_goes_before_the_status_and_before_what_a_failure_says_of_itself() -> None:
    rules = (Rule(Kind.AUTH, exception="httpx.HTTPStatusError"), Rule(Kind.AUTH, exception="supervisor.errors.Failure"))
    assert failed(http_error(503), *rules).kind is Kind.AUTH
    assert failed(Failure(Kind.OVERLOADED, "later"), *rules).kind is Kind.AUTH


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_no_rule_makes_a_retry_of_what_wants_the_run_to_stop(error: BaseException) -> None:
    assert failed(error, Rule(Kind.OVERLOADED, exception="BaseException")).kind is Kind.CANCELLED


def test_names_has_each_base_once_and_is_the_same_when_asked_again() -> None:
    assert names(ConnectionResetError)[:2] == ("builtins.ConnectionResetError", "ConnectionResetError")
    assert names(ConnectionResetError) is names(ConnectionResetError)
    assert "builtins.OSError" in names(ConnectionResetError)


def test_classes_that_are_made_as_it_goes_do_not_pile_up() -> None:
    from supervisor.work.call import _CLASSES

    for n in range(2000):
        assert names(type(f"Error{n}", (Quota,), {}))[1] == f"{Quota.__module__}.Quota"
    assert len(_CLASSES) <= 512


def test_a_class_that_an_attempt_has_made_is_not_kept() -> None:
    class OfTheAttempt(Exception):
        pass

    made = weakref.ref(OfTheAttempt)
    failed_by(OfTheAttempt("x"), (), 0.0)
    del OfTheAttempt
    gc.collect()
    assert made() is None


# --- how long to wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": formatdate(WALL + 90, usegmt=True)}, 90.0),
        ({"Retry-After": formatdate(WALL - 90, usegmt=True)}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:01:00"}, 60.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "Retry-After": "60"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "60"}, 60.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_as_a_date_and_in_milliseconds(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert failed(http_error(429, headers)).retry_after_s == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} [A-Z][a-z]{2} \d{1,30} [0-9:+-]{0,20}"))
def test_no_header_breaks_the_reading(stated: str) -> None:
    error = RuntimeError("429")
    for name in ("retry-after", "retry-after-ms"):
        error.headers = {name: stated}  # type: ignore[attr-defined]
        seconds = retry_after_s(error, WALL)
        assert seconds is None or 0.0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [(5, 5.0), (0.25, 0.25), (-1, 0.0), (float("nan"), None), (float("inf"), None), (10**400, None), ("5", None)],
    ids=["whole", "part", "negative", "nan", "inf", "beyond any float", "text"],
)
def test_an_exception_may_carry_retry_after_itself(stated: object, seconds: float | None) -> None:
    error = RuntimeError("later")
    error.retry_after = stated  # type: ignore[attr-defined]
    assert failed(error).retry_after_s == seconds


@pytest.mark.parametrize("headers", [5, "Retry-After: 5", ["Retry-After"], object()])
def test_headers_that_are_none_say_nothing(headers: object) -> None:
    error = RuntimeError("later")
    error.headers = headers  # type: ignore[attr-defined]
    assert failed(error).retry_after_s is None


class HostileHeaders(dict[str, str]):
    def get(self, *_: object) -> Any:
        raise LookupError("not today")


def test_headers_that_raise_say_nothing() -> None:
    error = RuntimeError("later")
    error.headers = HostileHeaders(a="b")  # type: ignore[attr-defined]
    assert failed(error).retry_after_s is None


# --- groups, and runs within the run


def test_of_a_group_the_least_retryable_speaks() -> None:
    group = ExceptionGroup("both", [http_error(503), http_error(401)])
    assert failed(group).kind is Kind.AUTH
    assert failed(ExceptionGroup("all", [group, ConnectionError(), ValueError()])).kind is Kind.AUTH


def test_a_group_of_one_kind_is_of_that_kind() -> None:
    assert failed(ExceptionGroup("both", [http_error(503), http_error(529)])).kind is Kind.OVERLOADED


def test_a_group_with_a_cancellation_is_cancelled() -> None:
    assert failed(BaseExceptionGroup("both", [asyncio.CancelledError(), ValueError()])).kind is Kind.CANCELLED


def test_rules_are_asked_for_each_member_of_a_group() -> None:
    rule = Rule(Kind.RATE_LIMITED, exception=f"{Quota.__module__}.Quota")
    assert failed(ExceptionGroup("both", [Quota(), DailyQuota()]), rule).kind is Kind.RATE_LIMITED


def test_a_group_waits_as_long_as_the_one_that_asks_for_the_longest_wait() -> None:
    members = [
        http_error(429, {"Retry-After": "5"}),
        ExceptionGroup("more", [http_error(429, {"Retry-After": "60"}), http_error(503)]),
        RunFailed(report(Status.FAILED, Kind.RATE_LIMITED, 30.0)),
    ]
    assert failed(ExceptionGroup("all", members)).retry_after_s == 60.0


def test_a_group_that_nobody_asks_to_wait_does_not() -> None:
    assert failed(ExceptionGroup("one", [ValueError()])).retry_after_s is None


def test_groups_nested_deeply_do_not_break_it() -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("0", [ValueError("the first")])
    for n in range(5000):
        group = ExceptionGroup(str(n), [group])
    assert failed(group).kind is Kind.ERROR


def test_a_member_that_stands_in_many_groups_is_asked_once() -> None:
    """Doubled at each of sixty levels, it would be asked for ever."""
    group: ExceptionGroup[Exception] = ExceptionGroup("0", [http_error(429, {"Retry-After": "5"})])
    for n in range(60):
        group = ExceptionGroup(str(n), [group, group])
    assert failed(group)[0] is Kind.RATE_LIMITED
    assert failed(group).retry_after_s == 5.0


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind in DEFAULT_EFFECTS])
def test_a_child_s_failure_counts_as_its_last_failure_s_kind(kind: Kind) -> None:
    found = failed(RunFailed(report(Status.FAILED, kind, 9.0)))
    assert (found.kind, found.retry_after_s) == (kind, 9.0)
    assert "the child's own words" in found.message


def test_a_child_that_failed_before_its_first_attempt_is_an_error() -> None:
    found = failed(RunFailed(report(Status.CANCELLED, None)))
    assert (found.kind, found.retry_after_s) == (Kind.ERROR, None)


def test_a_child_s_refusal_is_an_error() -> None:
    assert failed(RunRefused(report(Status.REFUSED, None))).kind is Kind.ERROR


# --- text


def test_the_message_has_the_class_and_the_text() -> None:
    assert failed(ValueError("no such thing")).message == "ValueError: no such thing"
    assert failed(ValueError()).message == "ValueError"


def test_a_huge_message_is_cut() -> None:
    assert len(failed(ValueError("x" * 10_000_000)).message) == 2000
    assert len(failed(Failure(Kind.ERROR, "x" * 10_000_000)).message) == 2000


class CannotSay(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class SaysNoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307


@pytest.mark.parametrize("error", [CannotSay(), SaysNoText()])
def test_an_exception_that_cannot_say_what_it_is_is_still_a_failure(error: Exception) -> None:
    for found in (failed(error), failed(ExceptionGroup("in a group", [error]))):
        assert found.kind is Kind.ERROR
        assert type(error).__name__ in failed(error).message


class Hostile(Exception):
    @property
    def response(self) -> object:
        raise RuntimeError("no response yet")

    status_code = retry_after = headers = status = response


def test_properties_that_raise_say_nothing() -> None:
    found = failed(Hostile("no"))
    assert (found.kind, found.retry_after_s, found.message) == (Kind.ERROR, None, "Hostile: no")


# --- where it was raised


def inner(depth: int) -> None:
    if depth:
        inner(depth - 1)
    else:
        raise ValueError("at the bottom")


def test_the_traceback_names_file_line_and_function_without_source() -> None:
    text = failed_by(caught(lambda: inner(1)), (), WALL).traceback
    lines = text.splitlines()
    assert lines[-1].endswith("in inner")
    assert f'File "{__file__}"' in lines[-1]
    assert "raise ValueError" not in text


@pytest.mark.parametrize("depth", [10, 800])
def test_a_traceback_keeps_its_last_frames_and_at_most_8_kib(depth: int) -> None:
    text = where(caught(lambda: inner(depth)))
    assert len(text) <= 8192
    assert text.endswith("in inner")
    assert len(text.splitlines()) <= 24


def test_the_causes_stand_before_the_error_itself() -> None:
    def chained() -> None:
        try:
            inner(0)
        except ValueError as error:
            raise KeyError("later") from error

    text = where(caught(chained))
    assert text.index("ValueError") < text.index("KeyError")
    assert len(text) <= 8192


def test_a_context_that_was_suppressed_is_not_named() -> None:
    def hidden() -> None:
        try:
            inner(0)
        except ValueError:
            raise KeyError("alone") from None

    assert "ValueError" not in where(caught(hidden))


def test_a_long_chain_of_causes_is_at_most_8_kib() -> None:
    error: BaseException | None = None
    for _ in range(12):
        cause, error = error, caught(lambda: inner(30))
        error.__cause__ = cause
    assert error is not None
    text = where(error)
    assert len(text) == 8192
    assert text.endswith("ValueError")


def test_causes_that_go_round_in_a_circle_end() -> None:
    a, b = ValueError("a"), KeyError("b")
    a.__cause__, b.__cause__ = b, a
    assert where(a).count("ValueError") == 1


def test_an_exception_that_was_never_raised_has_no_frames() -> None:
    assert where(ValueError("made by hand")) == ""


def test_what_is_kept_of_a_failure_is_text_and_numbers() -> None:
    error = http_error(503, {"Retry-After": "5"})
    before = sys.getrefcount(error)
    found = failed_by(error, (), WALL)
    assert sys.getrefcount(error) == before
    assert all(value is None or isinstance(value, str | int | float) for value in found)


def test_a_group_says_what_its_members_say() -> None:
    """Which subagent was it, and why?"""
    members = [ValueError("the first"), ExceptionGroup("inner", [Failure("auth", "the second"), OSError()])]
    assert failed(ExceptionGroup("2 of 2 subagents failed", members)).message == (
        "ExceptionGroup: 2 of 2 subagents failed (2 sub-exceptions): "
        "ValueError: the first; Failure: the second; OSError"
    )


def test_what_the_members_of_a_group_say_is_bounded() -> None:
    group = ExceptionGroup("many", [ValueError(str(n) * 10_000) for n in range(1, 9)])
    message = failed(group).message
    assert len(message) == 2000
    assert [f"ValueError: {n}{n}" in message for n in range(1, 9)] == [True] * 4 + [False] * 4


def test_only_classes_that_last_are_remembered() -> None:
    """One that an attempt has made may hold what the attempt held, however it was made."""
    from supervisor.work.call import _CLASSES

    class Local(Exception): ...

    made = type("Made", (Exception,), {})
    for cls in (Local, made, ValueError):
        failed(cls("x"))
        assert (cls in _CLASSES) is (cls is ValueError)
