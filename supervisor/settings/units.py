"""Durations and sizes as they are written: `"1h30m"`, `"512MiB"`. Text to number and back, without loss."""

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final

_SECONDS: Final = {"d": Decimal(86400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}

_NUMBER: Final = r"[0-9]{1,15}(\.[0-9]{1,9})?"

DURATION_PATTERN: Final = "(?=[0-9])" + "".join(f"({_NUMBER}{unit})?" for unit in _SECONDS)
"""What a duration looks like; a regular expression that JSON Schema understands too."""

LONGEST_S: Final = 36500 * 86400.0
"""A hundred years: a moment further ahead has no date. Where there is to be no end at all, `"off"` says so."""

_BYTES: Final = {
    "B": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
}

SIZE_PATTERN: Final = r"[0-9]{1,30}(\.[0-9]{1,9})?([KMGT]i?)?B"
"""What a size looks like; a regular expression that JSON Schema understands too."""


@lru_cache  # a thousand jobs say the same few over and over
def parse_duration(text: str) -> float:
    """Return the seconds of a duration: numbers with the units d, h, m, s, ms, the largest first, each at most once.

    ValueError, with what is needed as its text, for anything else and for more than 36500 days.
    """
    if re.fullmatch(DURATION_PATTERN, text) is None:
        if re.fullmatch(f"-{DURATION_PATTERN}", text):
            raise ValueError("needs a duration that is not negative")
        if re.fullmatch(_NUMBER, text):
            raise ValueError(f'needs a duration with its unit (ms, s, m, h, d): write "{text}s" for seconds')
        raise ValueError('needs a duration as text with units (ms, s, m, h, d), such as "250ms", "90s" or "1h30m"')
    parts = re.findall(r"([0-9.]+)(ms|[dhms])", text)
    seconds = float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts))
    if seconds > LONGEST_S:
        raise ValueError("needs a duration of at most 36500d")
    return seconds


def duration_text(seconds: float) -> str:
    """Return the shortest exact text of a duration: `parse_duration` gives the same seconds back."""
    left = Decimal(repr(seconds))
    text = ""
    for unit, length in _SECONDS.items():
        number = left / length if unit == "ms" else left // length
        left -= number * length
        if number:
            text += f"{number.normalize():f}{unit}"
    return text or "0s"


def parse_size(text: str) -> int:
    """Return the bytes of a size: one number with B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (of 1000).

    ValueError, with what is needed as its text, for anything else; a part of a byte is dropped.
    """
    if re.fullmatch(SIZE_PATTERN, text) is None:
        if re.fullmatch(_NUMBER, text):
            raise ValueError(f'needs a size with its unit (B, KiB, MiB, GiB): write "{text}B" for bytes')
        raise ValueError('needs a size as text with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as "512MiB"')
    number, unit = re.findall(r"([0-9.]+)([A-Za-z]+)", text)[0]
    return int(Decimal(number) * _BYTES[unit])


def size_text(size: int) -> str:
    """Return the exact text of a size, in the largest unit that divides it."""
    unit = max((unit for unit in _BYTES if size % _BYTES[unit] == 0), key=_BYTES.__getitem__)
    return f"{size // _BYTES[unit]}{unit}" if size else "0B"
