"""When a rate limit is reset, as the providers' own headers say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.work.http_answer import stated_wait_s

WALL = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Answered(Exception):
    """As the clients' errors: with the status, and headers of any mapping."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code, self.headers = status, headers


def wait_s(headers: dict[str, str], status: int = 429) -> float | None:
    return stated_wait_s(Answered(status, headers), WALL)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        ("0", 0.0),
        (str(WALL + 45), 45.0),  # GitHub's: seconds since 1970
        (str(round((WALL + 45) * 1000)), 45.0),
        (str(WALL - 45), 0.0),
        ("1s", 1.0),  # OpenAI's
        ("6m0s", 360.0),
        ("1h30m", 5400.0),
        ("20ms", 0.02),
        ("7.66s", 7.66),
        ("1d2h", 93600.0),
        ("2026-01-01T00:02:00Z", 120.0),  # Anthropic's
        ("2026-01-01T01:02:00+01:00", 120.0),
        ("2026-01-01T00:02:00", 120.0),
        ("2025-12-31T00:00:00Z", 0.0),
        ("Thu, 01 Jan 2026 00:03:00 GMT", 180.0),
        ("soon", None),
        ("", None),
        ("5 s", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400 + "s", None),
    ],
)
def test_a_reset_is_a_length_or_a_moment(text: str, seconds: float | None) -> None:
    assert wait_s({"X-RateLimit-Reset": text}) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-reset",
        "RateLimit-Reset",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-input-tokens-reset",
    ],
)
def test_each_provider_has_names_of_its_own(name: str) -> None:
    assert wait_s({name: "12"}) == 12.0


def test_only_a_limit_that_is_used_up_is_waited_for() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "8s",
        "x-ratelimit-remaining-tokens": "39500",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert wait_s(headers) == 8.0
    assert wait_s(headers | {"x-ratelimit-remaining-tokens": "0"}) == 360.0
    assert wait_s(headers | {"x-ratelimit-remaining-requests": "3"}) is None


def test_retry_after_goes_before_them() -> None:
    assert wait_s({"retry-after": "3", "x-ratelimit-reset": "60"}) == 3.0
    assert wait_s({"retry-after": "soon", "x-ratelimit-reset": "60"}) == 60.0


@pytest.mark.parametrize("status", [400, 500, 503, 529])
def test_an_answer_that_is_no_429_is_not_about_a_limit(status: int) -> None:
    """Providers send these headers with every answer."""
    assert wait_s({"x-ratelimit-reset": "60"}, status) is None


@given(st.dictionaries(st.sampled_from(["ratelimit-reset", "x-ratelimit-reset-tokens"]), st.text(max_size=40)))
def test_no_header_breaks_the_reading(headers: dict[str, str]) -> None:
    seconds = wait_s(headers)
    assert seconds is None or 0.0 <= seconds < float("inf")


def test_headers_that_are_no_mapping_say_nothing() -> None:
    error = Answered(429, {})
    error.headers = ["x-ratelimit-reset: 5"]  # type: ignore[assignment]
    assert stated_wait_s(error, WALL) is None
