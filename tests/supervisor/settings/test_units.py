import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.settings.units import LONGEST_S, duration_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1d2h3m4s5ms", 93784.005),
        ("0s", 0.0),
        ("0.5s", 0.5),
        ("1.5h", 5400.0),
        ("36500d", LONGEST_S),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 5m",
        "5 m",
        "5M",
        "m",
        "5",
        "1.5",
        "-5s",
        "5s5s",
        "30m1h",
        "5min",
        "1h 30m",
        "٣s",
        "5s\n",
        "1e3s",
        ".5s",
        "inf",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^needs a duration"):
        parse_duration(text)


def test_a_bare_number_is_told_to_write_a_unit() -> None:
    with pytest.raises(ValueError, match=r'with its unit .*: write "90s" for seconds'):
        parse_duration("90")


def test_a_duration_has_an_end() -> None:
    with pytest.raises(ValueError, match="at most 36500d"):
        parse_duration("36500d1ms")


@given(st.decimals(min_value=0, max_value=10**9, places=6))
def test_a_durations_text_gives_the_same_seconds(seconds: float) -> None:
    assert parse_duration(duration_text(float(seconds))) == float(seconds)


@pytest.mark.parametrize("text", ["0s", "250ms", "1m30s", "1h30m", "2d", "1d1ms"])
def test_a_duration_is_written_as_a_person_would(text: str) -> None:
    assert duration_text(parse_duration(text)) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024B", 1024),
        ("100KiB", 102400),
        ("512MiB", 512 * 1024**2),
        ("1GiB", 1024**3),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("2TiB", 2 * 1024**4),
        ("10KB", 10_000),
        ("10MB", 10_000_000),
        ("1GB", 10**9),
        ("1TB", 10**12),
        ("0.5B", 0),
    ],
)
def test_a_size_is_one_number_with_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "512", "512M", "512 MiB", "512mib", "-1B", "1MiB1B", "1PiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^needs a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_sizes_text_gives_the_same_bytes(size: int) -> None:
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize("text", ["0B", "1023B", "512MiB", "1GiB", "10MB"])
def test_a_size_is_written_in_the_largest_unit_that_divides_it(text: str) -> None:
    assert size_text(parse_size(text)) == text
