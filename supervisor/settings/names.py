"""Environment variables of ours. Needs no library."""

from typing import Final

PREFIX: Final = "TURNKEEPER_"

OF_A_RUN: Final = frozenset(
    f"{PREFIX}{name}" for name in ("RUN_ID", "SESSION", "ATTEMPT", "IDEMPOTENCY_KEY", "DEADLINE", "PARENT")
)
"""Names that a supervised command finds in its environment."""

RESERVED: Final = OF_A_RUN | {f"{PREFIX}SETTINGS"}
"""Those, and the one that names the file: not settings."""
