"""The settings as plain frozen values, proved: what the engine reads. Needs no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policies.budget import Bucket
from policies.policy import Policy
from supervisor.settings.did_you_mean import did_you_mean

EMBEDDED: Final = "built-in defaults"
"""The `source` of settings that no file has a part in."""


@dataclass(frozen=True, slots=True)
class State:
    """Where sessions are remembered, and for how long a silent owner of one is believed."""

    url: str = "memory"
    lease_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the host; None is off.

    Attributes:
        running: attempts at once, of all sessions.
        starts: (count, period in seconds): at most so many attempts are started within any such period.
        min_available_memory_bytes: what must be free before an attempt starts.
        retries: the bucket that every retry on the host draws from.
    """

    running: int | None = None
    starts: tuple[int, float] | None = None
    min_available_memory_bytes: int | None = None
    retries: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. `policies` always has a `default`.

    `source` is the file they came from, or `built-in defaults`; `warnings` has one line for each thing that looks
    wrong and may be meant.
    """

    source: str = EMBEDDED
    state: State = State()
    limits: Limits = Limits()
    policies: Mapping[str, Policy] = field(default_factory=lambda: MappingProxyType({"default": Policy()}))
    warnings: tuple[str, ...] = ()

    def policy(self, name: str) -> Policy:
        """Return the policy of that name; ValueError, with the nearest name, if there is none."""
        if name not in self.policies:
            raise ValueError(f"no policy {name!r} in {self.source}{did_you_mean(name, self.policies)}")
        return self.policies[name]


def embedded_settings(warnings: tuple[str, ...] = ()) -> Settings:
    """Return the built-in defaults: the policy `default`, no limits, state in memory."""
    return Settings(warnings=warnings)
