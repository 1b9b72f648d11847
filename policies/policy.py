"""The bundle of rules that a run is under. No logic but its hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from policies.backoff import Backoff
from policies.breaker import Breaker
from policies.budget import Budget
from policies.classification import Rule
from policies.failure import DEFAULT_EFFECTS, FIXED_KINDS, Effect, Kind
from policies.gate import Gate


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """The limits of one attempt.

    Attributes:
        timeout_s: its length; None: none but the run's deadline.
        idle_timeout_s: the longest time without output or heartbeat; None: any.
        grace_s: between the request to stop and force; also bounds the release.
        max_rss_bytes: of a command's whole tree; None: any.
        leave_children: a command that succeeded may leave processes behind.
    """

    timeout_s: float | None = 300.0
    idle_timeout_s: float | None = None
    grace_s: float = 10.0
    max_rss_bytes: int | None = None
    leave_children: bool = False


class LockedBy(StrEnum):
    """Who takes the session's lock file."""

    SUPERVISOR = "supervisor"
    COMMAND = "command"


class Pids(StrEnum):
    """Whether the pids in foreign lock files are of our own pid namespace."""

    AUTO = "auto"
    OURS = "ours"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LockRule:
    """The rule for the session's lock file; `wait_s` counts time in which it was seen held."""

    wait_s: float = 10.0
    by: LockedBy = LockedBy.SUPERVISOR
    pids: Pids = Pids.AUTO


class OnLost(StrEnum):
    """What follows when the supervisor of a run died."""

    GIVE_UP = "give_up"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Policy:
    """Every rule that a run is under. The defaults are the embedded `default` policy.

    `kinds` has an effect for each kind; `failures` are the classification rules, first match first. `hash` is 12
    hexadecimal digits that change with any rule, and not with the name.
    """

    name: str = "default"
    attempt: AttemptLimits = AttemptLimits()
    budget: Budget = Budget()
    backoff: Backoff = Backoff()
    breaker: Breaker = Breaker()
    gate: Gate = Gate()
    lock: LockRule = LockRule()
    kinds: Mapping[Kind, Effect] = field(default_factory=lambda: DEFAULT_EFFECTS)
    failures: tuple[Rule, ...] = ()
    on_lost: OnLost = OnLost.GIVE_UP
    hash: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        rules = json.dumps(_comparable(_plain(self)), sort_keys=True)
        object.__setattr__(self, "hash", hashlib.sha256(rules.encode()).hexdigest()[:12])

    def effect(self, kind: Kind) -> Effect:
        """Return what a failure of this kind does under this policy; `kinds` changes no fixed kind."""
        return DEFAULT_EFFECTS[kind] if kind in FIXED_KINDS else self.kinds.get(kind, DEFAULT_EFFECTS[kind])


def _comparable(value: object) -> object:
    """Return the value with 2 for 2.0 and the like: equal policies have one hash."""
    if isinstance(value, dict):
        return {key: _comparable(part) for key, part in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(policy: Policy) -> dict[str, object]:
    plain: dict[str, object] = {
        part: asdict(getattr(policy, part)) for part in ("attempt", "budget", "backoff", "breaker", "gate", "lock")
    }
    plain["kinds"] = {kind.value: asdict(policy.effect(kind)) for kind in Kind}
    plain["failures"] = [
        [rule.kind, rule.exception, rule.exit_code, rule.output and [rule.output.pattern, rule.output.flags]]
        for rule in policy.failures
    ]
    plain["on_lost"] = policy.on_lost.value
    return plain
