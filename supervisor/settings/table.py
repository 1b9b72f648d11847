"""What every table of settings.toml is, and every key."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def key(default: Any, description: str) -> Any:
    """Return a key of a table: `default` is what the file would say, `...` where it has to say something."""
    return Field(default=default, description=description)


class Table(BaseModel):
    """A table of the file: a key that it does not know is an error, and a default is proved like any value."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)
