"""What an exception carries of an HTTP answer: its status, and how long it asks to wait.

Clients keep it in different places: httpx, requests and the model clients in `response`, aiohttp and urllib on the
exception itself. Nothing here imports any of them, and a property that raises says nothing.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

_TOO_MANY_REQUESTS: Final = 429
_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_EPOCH_FROM: Final = 1e9
_EPOCH_MS_FROM: Final = 1e12
"""Numbers this large are moments since 1970 (from 2001 on, in seconds or in milliseconds), not lengths."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception carries, as httpx, aiohttp, requests and the model clients do."""
    for holder in (error, _read(error, "response")):
        for name in ("status_code", "status"):
            status = _read(holder, name)
            if isinstance(status, int) and 400 <= status <= 599:
                return status
    return None


def stated_wait_s(error: BaseException, wall: float) -> float | None:
    """Return the seconds that an exception asks to wait; None where it does not say. `wall`: seconds since 1970.

    The first that says something: an attribute `retry_after` (seconds); the headers `retry-after-ms` and `Retry-After`
    (RFC 9110, section 10.2.3: seconds or a date); of a 429, the rate limits' own headers.
    """
    stated = _read(error, "retry_after")
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return _sane(stated)
    headers = _read(_read(error, "response"), "headers") or _read(error, "headers")
    if headers is None:
        return None
    try:
        seconds = _retry_after_s(headers, wall)
        if seconds is None and status_of(error) == _TOO_MANY_REQUESTS:
            seconds = _longest_reset_s(headers, wall)
    except Exception:
        return None  # not headers
    return seconds


def _read(holder: object, name: str) -> Any:
    """Return an attribute, None where there is none or it cannot be read: a property of a stranger may raise."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def _retry_after_s(headers: Mapping[str, Any], wall: float) -> float | None:
    milliseconds, stated = headers.get("retry-after-ms"), headers.get("retry-after") or headers.get("Retry-After")
    seconds = None if milliseconds is None else _seconds_or_date(str(milliseconds), wall, per_second=1000.0)
    return _seconds_or_date(str(stated), wall) if seconds is None and stated is not None else seconds


def _longest_reset_s(headers: Mapping[str, Any], wall: float) -> float | None:
    """Return when the last of the limits that are used up is reset, in seconds from now.

    Of each `…ratelimit…reset…` header with a `remaining` beside it, only where nothing remains. OpenAI gives a length
    ("6m0s"), Anthropic a moment in RFC 3339, others seconds or seconds since 1970.
    """
    texts = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    resets = (
        _reset_s(text, wall)
        for name, text in texts.items()
        if "ratelimit" in name and "reset" in name and texts.get(name.replace("reset", "remaining"), "0") in ("0", "")
    )
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _reset_s(text: str, wall: float) -> float | None:
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if number >= _EPOCH_MS_FROM:
            number /= 1000.0
        return _sane(number - wall if number >= _EPOCH_FROM else number)
    if _DURATION.fullmatch(text):
        return _sane(sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text)))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _seconds_or_date(text, wall)
    return _sane(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - wall)


def _seconds_or_date(text: str, wall: float, per_second: float = 1.0) -> float | None:
    """Return what a header says in seconds from now; None where it says nothing."""
    try:
        return _sane(float(text) / per_second)
    except ValueError:
        pass
    try:
        from email.utils import parsedate_to_datetime  # and with it half of the standard library's mail

        moment = parsedate_to_datetime(text)
        return _sane(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - wall)
    except (TypeError, ValueError, OverflowError):
        return None


def _sane(seconds: float) -> float | None:
    """Return seconds that can be waited; None for infinity, NaN, and integers beyond any float."""
    try:
        return max(0.0, float(seconds)) if isfinite(seconds) else None
    except OverflowError:
        return None
