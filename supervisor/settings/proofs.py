"""What a single value must be: each proof parses the value, says what it needs, and describes itself to JSON Schema.

Used as annotations in tables.py: `attempts: Annotated[int, Whole(1, 32)]`.
"""

import builtins
import math
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from supervisor.settings.did_you_mean import nearest
from supervisor.settings.names import RESERVED
from supervisor.settings.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

NEEDS = "needs"
"""The pydantic error type of a proof that failed; its message is what the value needs."""


def needs(words: str, tail: str = "") -> PydanticCustomError:
    """Return the error of a value that is not what it must be; `tail` ends the sentence, after the value."""
    return PydanticCustomError(NEEDS, "{words}", {"words": words, "tail": tail})


_STORE_URL = r"memory|sqlite|sqlite:///[^\x00]*[^\x00/]"


class Proof:
    """One value's proof. `parse` returns the value as the engine wants it, or raises `needs(...)`."""

    def parse(self, value: Any) -> Any:
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True)
class Whole(Proof):
    """A whole number from `least` to `most`; None: any larger one. `why` says why there is a most.

    With `off`, None where the text is "off".
    """

    least: int
    most: int | None = None
    why: str = ""
    off: bool = False

    def parse(self, value: Any) -> int | None:
        if self.off and value == "off":
            return None
        span = f"from {self.least} to {self.most}" if self.most is not None else f"of {self.least} or more"
        span += ', or "off"' if self.off else ""
        if type(value) is not int or value < self.least:
            raise needs(f"needs a whole number {span}")
        if self.most is not None and value > self.most:
            raise needs(f"needs a whole number {span}", self.why and f": {self.why}")
        return value

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.least} | ({} if self.most is None else {"maximum": self.most})
        return {"anyOf": [number, {"const": "off"}]} if self.off else number


@dataclass(frozen=True)
class Number(Proof):
    """A finite number: more than 0 unless `zero` is allowed, at most `most`."""

    zero: bool = False
    most: float | None = None

    def parse(self, value: Any) -> float:
        least = "0 or more" if self.zero else "more than 0"
        span = f"{least} and at most {self.most:g}" if self.most is not None else least
        if type(value) not in (int, float):
            raise needs(f"needs a number, {span}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise needs(f"needs a finite number, {span}")
        if number < 0 or (number == 0 and not self.zero) or (self.most is not None and number > self.most):
            raise needs(f"needs a number, {span}")
        return number + 0.0  # -0.0 becomes 0.0

    def schema(self) -> dict[str, Any]:
        least = {"minimum": 0} if self.zero else {"exclusiveMinimum": 0}
        return {"type": "number"} | least | ({} if self.most is None else {"maximum": self.most})


@dataclass(frozen=True)
class Flag(Proof):
    """True or false, and nothing that is only taken for it."""

    def parse(self, value: Any) -> bool:
        if type(value) is not bool:
            raise needs("needs true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Duration(Proof):
    """Seconds, from text with a unit; with `off`, None where the text is "off"; more than zero unless `zero`."""

    zero: bool = False
    off: bool = False

    def parse(self, value: Any) -> float | None:
        if self.off and value == "off":
            return None
        or_off = ', or "off"' if self.off else ""
        try:
            seconds = parse_duration(_text_with_unit(value))
        except ValueError as error:
            raise needs(f"{error}{or_off}") from None
        if seconds == 0 and not self.zero:
            raise needs(f"needs a duration of more than 0{or_off}")
        return seconds

    def schema(self) -> dict[str, Any]:
        return _text_schema(DURATION_PATTERN, off=self.off)


@dataclass(frozen=True)
class Size(Proof):
    """Bytes, more than 0, from text with a unit; with `off`, None where the text is "off"."""

    off: bool = False

    def parse(self, value: Any) -> int | None:
        if self.off and value == "off":
            return None
        or_off = ', or "off"' if self.off else ""
        try:
            size = parse_size(_text_with_unit(value))
        except ValueError as error:
            raise needs(f"{error}{or_off}") from None
        if size == 0:
            raise needs(f"needs a size of at least 1B{or_off}")
        return size

    def schema(self) -> dict[str, Any]:
        return _text_schema(SIZE_PATTERN, off=self.off)


def _text_with_unit(value: Any) -> str:
    """Return what to parse: a bare number is parsed too, and refused with the advice to write a unit."""
    if isinstance(value, str):
        return value
    return f"{value}" if type(value) in (int, float) else ""


def _text_schema(pattern: str, *, off: bool) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(off|{pattern})$" if off else f"^{pattern}$"}


@dataclass(frozen=True)
class OneOf(Proof):
    """A word of a closed list. `never` are words of the enumeration that cannot be set, each with its reason."""

    words: type[StrEnum]
    never: tuple[tuple[StrEnum, str], ...] = ()

    def _known(self) -> list[str]:
        return [word.value for word in self.words if word not in dict(self.never)]

    def parse(self, value: Any) -> StrEnum:
        known = self._known()
        if isinstance(value, str) and value in known:
            return self.words(value)
        tail = ""
        if isinstance(value, str):
            why = {str(word): reason for word, reason in self.never}.get(value)
            near = nearest(value, known)
            tail = f": {why}" if why else f"; did you mean {near}?" if near else ""
        raise needs(f"needs one of {', '.join(known)}", tail)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": self._known()}


@dataclass(frozen=True)
class SomeOf(Proof):
    """One or more words of a closed list, each at most once."""

    words: type[StrEnum]

    def parse(self, value: Any) -> tuple[StrEnum, ...]:
        known = [word.value for word in self.words]
        wanted = f"needs a list with one or more of {', '.join(known)}"
        if not isinstance(value, list | tuple) or not value:
            raise needs(wanted)
        for each in value:
            if not isinstance(each, str) or each not in known:
                near = nearest(each, known) if isinstance(each, str) else None
                raise needs(wanted, f"; did you mean {near}?" if near else "")
        if len(set(value)) < len(value):
            raise needs(f"{wanted}, each once")
        return tuple(self.words(each) for each in value)

    def schema(self) -> dict[str, Any]:
        word = {"type": "string", "enum": [word.value for word in self.words]}
        return {"type": "array", "items": word, "minItems": 1, "uniqueItems": True}


@dataclass(frozen=True)
class Argv(Proof):
    """A program and its arguments."""

    def parse(self, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        if not is_list or not value or not value[0] or any("\0" in each for each in value):
            tail = "; no shell reads it: write its words apart" if isinstance(value, str) else ""
            raise needs('needs a program and its arguments as a list of texts, such as ["notify", "--urgent"]', tail)
        return tuple(value)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "prefixItems": [{"type": "string", "minLength": 1}],
            "items": {"type": "string"},
            "minItems": 1,
        }


@dataclass(frozen=True)
class Environ(Proof):
    """Variables of the environment: names and texts."""

    def parse(self, value: Any) -> dict[str, str]:
        is_table = isinstance(value, dict) and all(isinstance(each, str) for pair in value.items() for each in pair)
        if not is_table or any("\0" in each for pair in value.items() for each in pair):
            raise needs('needs a table of texts, such as { LANG = "C" }')
        for name in value:
            if not name or "=" in name:
                raise needs("needs names of variables, without =")
            if name in RESERVED:
                raise needs("needs other names", f": {name} is set by Turnkeeper itself")
        return dict(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


@dataclass(frozen=True)
class Instant(Proof):
    """A date and time, as ISO 8601 text or as TOML has it; without a zone it is of the job's."""

    def parse(self, value: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            raise needs("needs a date and time, such as 2026-12-01T08:00:00Z") from None

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True)
class StoreUrl(Proof):
    """Where state is: memory, sqlite, or sqlite:// and the absolute path of a file."""

    def parse(self, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(_STORE_URL, value):
            return value
        tail = ""
        if isinstance(value, str):
            if re.match(r"postgres(ql)?\b", value):
                tail = ": PostgreSQL is not there yet"
            elif value.startswith("sqlite:"):
                tail = ": a file is named by its whole path, behind two slashes"
            elif near := nearest(value, ("memory", "sqlite")):
                tail = f"; did you mean {near}?"
        raise needs("needs memory, sqlite or sqlite:///absolute/path", tail)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({_STORE_URL})$"}


@dataclass(frozen=True)
class Name(Proof):
    """The name of something: text that is not empty."""

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise needs("needs a name as text")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class ClassName(Proof):
    """The dotted name of an exception's class: its module and its own name."""

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or re.fullmatch(r"\w+(\.\w+)+", value) is None:
            builtin = isinstance(value, str) and hasattr(builtins, value)
            tail = f"; did you mean builtins.{value}?" if builtin else ""
            raise needs('needs the dotted name of a class, such as "httpx.ReadTimeout"', tail)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\w+(\.\w+)+$"}


@dataclass(frozen=True)
class Pattern(Proof):
    """A regular expression in Python's syntax."""

    def parse(self, value: Any) -> re.Pattern[str]:
        if not isinstance(value, str) or not value:
            raise needs("needs a regular expression as text")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set": the pattern compiles, and means what it says today
            try:
                return re.compile(value)
            except (re.error, OverflowError, RecursionError) as error:
                raise needs("needs a regular expression", f": {error}") from None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}
