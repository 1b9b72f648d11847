import asyncio
import re
import socket
import ssl
from concurrent.futures import CancelledError as FutureCancelledError

import httpcore
import httpx
import pytest

from policies.classification import MOST_SEARCHED, Facts, Rule, classify, fails_politely, kind_of_status, matches
from policies.failure import Kind


def named(cls: type[BaseException]) -> tuple[str, ...]:
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__)


def raised(cls: type[BaseException], message: str = "", status: int | None = None) -> Facts:
    return Facts(exceptions=named(cls), message=message, status=status)


class GivenUpError(asyncio.CancelledError):
    pass


EVERYTHING_IS_OVERLOAD = (Rule(Kind.OVERLOADED, output=re.compile("")),)


@pytest.mark.parametrize(
    "cls", [asyncio.CancelledError, GivenUpError, KeyboardInterrupt, SystemExit, GeneratorExit], ids=str
)
def test_what_asks_to_stop_is_cancelled_whatever_a_rule_or_the_work_says(cls: type[BaseException]) -> None:
    facts = raised(cls, "429 rate limit", status=429)
    assert matches(EVERYTHING_IS_OVERLOAD[0], facts)
    assert classify(EVERYTHING_IS_OVERLOAD, facts, known=Kind.NETWORK) is Kind.CANCELLED


def test_somebody_elses_cancelled_future_is_an_error_of_the_work() -> None:
    assert classify((), raised(FutureCancelledError)) is Kind.ERROR


def test_the_first_rule_that_matches_wins() -> None:
    rules = (
        Rule(Kind.AUTH, exit_code=3),
        Rule(Kind.OVERLOADED, exit_code=75),
        Rule(Kind.INVALID, exit_code=75),
    )
    assert classify(rules, Facts(exit_code=75)) is Kind.OVERLOADED


def test_rules_speak_before_the_work_the_work_before_the_status_the_status_before_the_exception() -> None:
    facts = raised(TimeoutError, "model is loading", status=503)
    rules = (Rule(Kind.RATE_LIMITED, output=re.compile("loading")),)
    assert classify(rules, facts, known=Kind.NETWORK) is Kind.RATE_LIMITED
    assert classify((), facts, known=Kind.NETWORK) is Kind.NETWORK
    assert classify((), facts) is Kind.OVERLOADED
    assert classify((), raised(TimeoutError)) is Kind.TIMEOUT


def test_a_status_that_is_no_error_says_nothing() -> None:
    assert classify((), raised(TimeoutError, status=200)) is Kind.TIMEOUT
    assert classify((), raised(ValueError, status=302)) is Kind.ERROR


def test_an_exception_speaks_before_a_signal_and_a_signal_before_an_exit_code() -> None:
    assert classify((), Facts(exceptions=named(TimeoutError), signal=9)) is Kind.TIMEOUT
    assert classify((), Facts(signal=11, exit_code=2)) is Kind.CRASH
    assert classify((), Facts(signal=0)) is Kind.CRASH


@pytest.mark.parametrize(
    ("exit_code", "kind"),
    [(2, Kind.INVALID), (64, Kind.INVALID), (1, Kind.ERROR), (0, Kind.ERROR), (63, Kind.ERROR), (None, Kind.ERROR)],
)
def test_usage_errors_are_invalid_and_other_exit_codes_errors(exit_code: int | None, kind: Kind) -> None:
    assert classify((), Facts(exit_code=exit_code)) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (399, None),
        (400, Kind.INVALID),
        (401, Kind.AUTH),
        (402, Kind.INVALID),
        (403, Kind.AUTH),
        (404, Kind.INVALID),
        (408, Kind.TIMEOUT),
        (429, Kind.RATE_LIMITED),
        (499, Kind.INVALID),
        (500, Kind.SERVER_ERROR),
        (502, Kind.SERVER_ERROR),
        (503, Kind.OVERLOADED),
        (504, Kind.SERVER_ERROR),
        (529, Kind.OVERLOADED),
        (599, Kind.SERVER_ERROR),
    ],
)
def test_an_http_status_means(status: int, kind: Kind | None) -> None:
    assert kind_of_status(status) is kind


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (asyncio.TimeoutError, Kind.TIMEOUT),
        (TimeoutError, Kind.TIMEOUT),
        (ConnectionRefusedError, Kind.NETWORK),
        (ConnectionResetError, Kind.NETWORK),
        (BrokenPipeError, Kind.NETWORK),
        (socket.gaierror, Kind.NETWORK),
        (socket.herror, Kind.NETWORK),
        (ssl.SSLCertVerificationError, Kind.NETWORK),
        (MemoryError, Kind.MEMORY),
        (httpx.ReadTimeout, Kind.TIMEOUT),
        (httpx.ConnectError, Kind.NETWORK),
        (httpx.RemoteProtocolError, Kind.NETWORK),
        (httpcore.ReadTimeout, Kind.TIMEOUT),
        (httpcore.ConnectError, Kind.NETWORK),
        (httpcore.RemoteProtocolError, Kind.NETWORK),
        (OSError, Kind.ERROR),
        (ValueError, Kind.ERROR),
        (BaseExceptionGroup, Kind.ERROR),
    ],
    ids=lambda value: value if isinstance(value, Kind) else value.__qualname__,
)
def test_an_exception_means_by_its_class_and_bases(cls: type[BaseException], kind: Kind) -> None:
    assert classify((), raised(cls)) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aiohttp.client_exceptions.ServerTimeoutError", Kind.TIMEOUT),
        ("aiohttp.client_exceptions.ClientConnectionError", Kind.NETWORK),
        ("aiohttp.client_exceptions.ClientPayloadError", Kind.NETWORK),
        ("requests.exceptions.Timeout", Kind.TIMEOUT),
        ("requests.exceptions.ConnectionError", Kind.NETWORK),
        ("urllib3.exceptions.TimeoutError", Kind.TIMEOUT),
        ("urllib3.exceptions.ProtocolError", Kind.NETWORK),
    ],
)
def test_http_clients_that_are_not_installed_here_are_known_by_name(name: str, kind: Kind) -> None:
    assert classify((), Facts(exceptions=(f"{name}.Sub", name, "builtins.Exception"))) is kind


def test_the_class_itself_speaks_before_its_bases() -> None:
    requests_connect_timeout = ("requests.exceptions.Timeout", "requests.exceptions.ConnectionError")
    assert classify((), Facts(exceptions=requests_connect_timeout)) is Kind.TIMEOUT
    assert classify((), Facts(exceptions=requests_connect_timeout[::-1])) is Kind.NETWORK


FAILED = Facts(exceptions=("a.B", "builtins.Exception"), message="quota", exit_code=3, output="try later\n")
OUTPUT, MESSAGE = re.compile("(?i)LATER"), re.compile("quota")


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Rule(Kind.AUTH), False),
        (Rule(Kind.AUTH, exception="a.B"), True),
        (Rule(Kind.AUTH, exception="builtins.Exception"), True),
        (Rule(Kind.AUTH, exception="B"), False),
        (Rule(Kind.AUTH, exit_code=3), True),
        (Rule(Kind.AUTH, exit_code=4), False),
        (Rule(Kind.AUTH, exit_code=0), False),
        (Rule(Kind.AUTH, output=OUTPUT), True),
        (Rule(Kind.AUTH, output=MESSAGE), False),
        (Rule(Kind.AUTH, exception="a.B", exit_code=3, output=OUTPUT), True),
        (Rule(Kind.AUTH, exception="a.C", exit_code=3, output=OUTPUT), False),
        (Rule(Kind.AUTH, exception="a.B", exit_code=4, output=OUTPUT), False),
        (Rule(Kind.AUTH, exception="a.B", exit_code=3, output=MESSAGE), False),
    ],
)
def test_a_rule_holds_when_each_of_its_conditions_does(rule: Rule, *, holds: bool) -> None:
    assert matches(rule, FAILED) is holds


def test_a_pattern_is_searched_for_in_the_message_where_there_is_no_output() -> None:
    assert matches(Rule(Kind.AUTH, output=MESSAGE), Facts(message="over quota"))


def test_a_rule_without_a_condition_matches_nothing_so_later_rules_speak() -> None:
    assert classify((Rule(Kind.AUTH), Rule(Kind.MEMORY, exit_code=3)), FAILED) is Kind.MEMORY


def test_a_command_fails_politely_where_a_rule_names_status_0() -> None:
    facts = Facts(exit_code=0, output="error: rate limit")
    polite = Rule(Kind.RATE_LIMITED, exit_code=0, output=re.compile("rate limit"))
    assert fails_politely((Rule(Kind.AUTH, exit_code=1), polite, Rule(Kind.ERROR, exit_code=0)), facts) is (
        Kind.RATE_LIMITED
    )
    assert fails_politely((), facts) is None
    assert fails_politely((Rule(Kind.AUTH, exit_code=0, output=re.compile("denied")),), facts) is None


def test_a_turn_that_succeeded_and_writes_about_rate_limits_has_not_failed() -> None:
    facts = Facts(exit_code=0, output="Report sent. The provider's rate limit is 60 a minute.")
    assert fails_politely((Rule(Kind.RATE_LIMITED, output=re.compile("(?i)rate limit")),), facts) is None


def test_a_rule_about_exceptions_is_not_asked_about_a_command() -> None:
    facts = Facts(exceptions=("a.B",), exit_code=0)
    assert fails_politely((Rule(Kind.ERROR, exception="a.B", exit_code=0),), facts) is None


def test_a_pattern_sees_the_last_64_kib() -> None:
    assert MOST_SEARCHED == 65536
    rule = Rule(Kind.OVERLOADED, output=re.compile("busy"))
    for after, seen in ((MOST_SEARCHED - 4, True), (MOST_SEARCHED - 3, False)):
        text = "busy" + "." * after
        assert matches(rule, Facts(output=text)) is seen
        assert matches(rule, Facts(message=text)) is seen


def test_bare_facts_claim_nothing() -> None:
    assert Facts() == Facts(exceptions=(), message="", status=None, exit_code=None, signal=None, output="")
