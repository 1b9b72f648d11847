"""The events of a supervisor, kept in order."""

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

from supervisor.clock import iso_utc

E = TypeVar("E")


class Recorded:
    """A listener that keeps every event: `supervisor.on(recorded)`, then ask.

    Events are delivered in a later round of the loop: ask after the supervisor was left, or after a sleep.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        """Keep an event."""
        self.events.append(event)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one class, and of those derived from it."""
        return [event for event in self.events if isinstance(event, kind)]

    def for_run(self, run_id: str) -> list[Any]:
        """Return the events of one run."""
        return [event for event in self.events if event.run_id == run_id]

    def names(self) -> list[str]:
        """Return the class name of each event."""
        return [type(event).__name__ for event in self.events]

    def text(self) -> str:
        """Return one line for each event: its moment in UTC, its name, and each field as key=value."""
        return "\n".join(_line(event) for event in self.events)


def _line(event: Any) -> str:
    values = [f"{field.name}={_value(getattr(event, field.name))}" for field in fields(event) if field.name != "unix"]
    return " ".join((iso_utc(event.unix), type(event).__name__, *values))


def _value(value: Any) -> str:
    """Return a value on one line; a number without the noise of its last digits."""
    match value:
        case Enum():
            return str(value.value)
        case float():
            return f"{value:.6g}"
        case _:
            return repr(value)
