"""What looks like a credential, hidden: in the log, in alerts, and in what the state keeps."""

import re
from typing import Any, Final

_CREDENTIALS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (
        re.compile(r"(?i)((?:api[_-]?key|token|secret|password|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]+"),
        r"\1***",
    ),
    (re.compile(r"\bsk-[\w-]{6,}"), "sk-***"),
    (re.compile(r'(?<=://)[^\s/"<>]+(?=@)'), "***"),
)
"""Each begins with a word of its own: what could begin anywhere in a long line takes the square of its length."""


def hide_credentials(text: str) -> str:
    """Return the text with what looks like a credential replaced by `***`. A guess by shape: no promise."""
    for pattern, instead in _CREDENTIALS:
        text = pattern.sub(instead, text)
    return text


def hidden(shape: Any) -> Any:
    """Return a JSON value with what looks like a credential hidden in each of its texts."""
    match shape:
        case str():
            return hide_credentials(shape)
        case dict():
            return {key: hidden(value) for key, value in shape.items()}
        case list():
            return [hidden(value) for value in shape]
        case _:
            return shape
