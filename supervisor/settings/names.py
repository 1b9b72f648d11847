"""Environment variables of ours. Needs no library."""

from typing import Final

PREFIX: Final = "TURNKEEPER_"

RESERVED: Final = frozenset(
    f"{PREFIX}{name}" for name in ("RUN_ID", "SESSION", "ATTEMPT", "IDEMPOTENCY_KEY", "DEADLINE", "PARENT", "SETTINGS")
)
"""Names that a supervised command finds in its environment, and the one that names the file: not settings."""
