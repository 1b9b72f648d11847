"""From what is known of a failure to its kind. First match wins: the rules from the settings, the work's own
knowledge (an HTTP status), then the defaults by exception name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from policies.failure import Kind


class Facts(NamedTuple):
    """What is known of how an attempt ended.

    Attributes:
        exceptions: dotted names of the exception's class and its bases, the class itself first.
        message: its text.
        status: the HTTP status that it carries.
        exit_code: of a command that exited, 0 included.
        signal: the number of the signal that a command died by.
        output: the last 64 KiB of a command's output.
    """

    exceptions: tuple[str, ...] = ()
    message: str = ""
    status: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    output: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the settings: every condition that is set must hold.

    Attributes:
        kind: what a failure that matches is.
        exception: dotted name of a class; its subclasses match too.
        exit_code: of a command; 0 is allowed, for commands that fail politely.
        output: searched for in a command's output, or in an exception's text.
    """

    kind: Kind
    exception: str | None = None
    exit_code: int | None = None
    output: re.Pattern[str] | None = None


MOST_SEARCHED: Final = 64 * 1024
"""A pattern sees so many characters at the end of a text: what went wrong stands last, and a search takes time."""

NEVER_RETRIED: Final = frozenset(
    {
        "asyncio.exceptions.CancelledError",
        "builtins.KeyboardInterrupt",
        "builtins.SystemExit",
        "builtins.GeneratorExit",
    }
)
"""Exceptions that end a run whatever a rule says: somebody wants it to stop."""

_KIND_OF_EXCEPTION: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "builtins.TimeoutError": Kind.TIMEOUT,
        "builtins.ConnectionError": Kind.NETWORK,
        "builtins.MemoryError": Kind.MEMORY,
        "socket.gaierror": Kind.NETWORK,
        "socket.herror": Kind.NETWORK,
        "ssl.SSLError": Kind.NETWORK,
        # HTTP clients have trees of their own, outside OSError.
        "httpx.TimeoutException": Kind.TIMEOUT,
        "httpx.TransportError": Kind.NETWORK,
        "httpcore.TimeoutException": Kind.TIMEOUT,
        "httpcore.NetworkError": Kind.NETWORK,
        "httpcore.ProtocolError": Kind.NETWORK,
        "aiohttp.client_exceptions.ServerTimeoutError": Kind.TIMEOUT,
        "aiohttp.client_exceptions.ClientConnectionError": Kind.NETWORK,
        "aiohttp.client_exceptions.ClientPayloadError": Kind.NETWORK,
        "requests.exceptions.Timeout": Kind.TIMEOUT,
        "requests.exceptions.ConnectionError": Kind.NETWORK,
        "urllib3.exceptions.TimeoutError": Kind.TIMEOUT,
        "urllib3.exceptions.ProtocolError": Kind.NETWORK,
    }
)

_KIND_OF_STATUS: Final[Mapping[int, Kind]] = MappingProxyType(
    {
        401: Kind.AUTH,
        403: Kind.AUTH,
        408: Kind.TIMEOUT,
        429: Kind.RATE_LIMITED,
        503: Kind.OVERLOADED,
        529: Kind.OVERLOADED,
    }
)

_USAGE_ERRORS: Final = frozenset({2, 64})


def kind_of_status(status: int) -> Kind | None:
    """Return what an HTTP status of 400 or more means, None for one below."""
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    if status >= 500:
        return Kind.SERVER_ERROR
    return Kind.INVALID if status >= 400 else None


def matches(rule: Rule, facts: Facts) -> bool:
    """Say whether every condition of the rule holds. A rule without a condition matches nothing."""
    if rule.exception is None and rule.exit_code is None and rule.output is None:
        return False
    return (
        (rule.exception is None or rule.exception in facts.exceptions)
        and (rule.exit_code is None or rule.exit_code == facts.exit_code)
        and (rule.output is None or rule.output.search((facts.output or facts.message)[-MOST_SEARCHED:]) is not None)
    )


def classify(rules: tuple[Rule, ...], facts: Facts, known: Kind | None = None) -> Kind:
    """Return the kind of a failure; `known` is what the work itself says of it."""
    if not NEVER_RETRIED.isdisjoint(facts.exceptions):
        return Kind.CANCELLED
    for rule in rules:
        if matches(rule, facts):
            return rule.kind
    if known is not None:
        return known
    if facts.status is not None and (kind := kind_of_status(facts.status)) is not None:
        return kind
    for name in facts.exceptions:
        if name in _KIND_OF_EXCEPTION:
            return _KIND_OF_EXCEPTION[name]
    if facts.signal is not None:
        return Kind.CRASH
    return Kind.INVALID if facts.exit_code in _USAGE_ERRORS else Kind.ERROR


def fails_politely(rules: tuple[Rule, ...], facts: Facts) -> Kind | None:
    """Return the kind of a command that exited with status 0 though a rule says that it failed, else None.

    Only rules that name status 0 are asked: a turn that succeeded may write about rate limits.
    """
    for rule in rules:
        if rule.exit_code == 0 and rule.exception is None and matches(rule, facts):
            return rule.kind
    return None
