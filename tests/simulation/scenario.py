"""A scenario: policies, jobs and faults as frozen data, and the same as JSON. Who runs it draws nothing more."""

import dataclasses
import json
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import Bucket, Budget
from policies.failure import DEFAULT_EFFECTS, Effect, Kind
from policies.gate import Gate, Overlap
from policies.policy import AttemptLimits, LockRule, Policy
from supervisor.testing.faults import Fault, ProcessFault, Slowness
from supervisor.testing.tree_script import TreeScript


@dataclass(frozen=True, slots=True)
class Sleep:
    for_s: float


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat."""


@dataclass(frozen=True, slots=True)
class Lock:
    """attempt.lock(path)."""

    path: str


@dataclass(frozen=True, slots=True)
class Open:
    """Put something on the scope. `how`: callback | enter. Its release takes a while, then: ok | raises | hangs (until
    cancelled) | stubborn (ignores cancellation for `stubborn_s`).
    """

    how: str
    takes_s: float = 0.0
    then: str = "ok"
    stubborn_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Nested:
    """A run within the attempt, awaited in its task. Its errors come out where `strict`."""

    job: "Job"
    strict: bool = True


@dataclass(frozen=True, slots=True)
class Agents:
    """Subagents; after `cancel_after_s` the first is cancelled by its parent."""

    jobs: "tuple[Job, ...]"
    limit: int = 8
    cancel_after_s: float | None = None


Step = Sleep | Beat | Lock | Open | Nested | Agents


@dataclass(frozen=True, slots=True)
class Play:
    """What the work does in one attempt.

    Attributes:
        ending: return | hang | fail:KIND | raise:HOW (plain, chained, group, stored, cancelled, base, keyboard).
        on_cancel: obey | cleanup (takes `for_s`, then goes on being cancelled) | ignore (for `for_s`, then returns) |
            outraise (ignores, then raises) | never (until the simulation ends).
        retry_after: of the failure.
        remote_s: work with a far end that lives so long after its task; None: none.
        confirm: ok | hangs | raises: how the far end answers when it is first asked.
    """

    steps: tuple[Step, ...] = ()
    ending: str = "return"
    on_cancel: str = "obey"
    for_s: float = 0.0
    retry_after: float | None = None
    remote_s: float | None = None
    confirm: str = "ok"


@dataclass(frozen=True, slots=True)
class Job:
    """A run. `plays`: of its attempts in turn, the last for all that follow. `at` is when it is asked for.

    Where there are `trees`, it is a command, and they are its attempts instead. `process`: whose it is, where there are
    several.
    """

    session: str
    policy: str
    plays: tuple[Play, ...]
    at: float = 0.0
    lock: str = ""
    trees: tuple[TreeScript, ...] = ()
    process: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy, flat: what may be drawn."""

    name: str
    timeout_s: float | None = 5.0
    idle_s: float | None = None
    grace_s: float = 1.0
    attempts: int = 3
    deadline_s: float = 30.0
    capacity: float = 10.0
    refill: float = 1.0
    deposit: float = 0.1
    strategy: str = "full_jitter"
    base_s: float = 0.5
    cap_s: float = 2.0
    failures: int = 3
    cooldown_s: float = 1.0
    cooldown_cap_s: float = 4.0
    trials: int = 1
    permits: int = 1
    queue: int = 16
    wait_s: float = 10.0
    overlap: str = "queue"
    lock_wait_s: float = 1.0
    timeout_tokens: float = 2.0
    timeout_retried: bool = True
    leave_children: bool = False
    max_rss_bytes: int | None = None

    def policy(self) -> Policy:
        kinds = {**DEFAULT_EFFECTS, Kind.TIMEOUT: Effect(self.timeout_retried, counts=True, tokens=self.timeout_tokens)}
        return Policy(
            self.name,
            AttemptLimits(self.timeout_s, self.idle_s, self.grace_s, self.max_rss_bytes, self.leave_children),
            Budget(self.attempts, self.deadline_s, Bucket(self.capacity, self.refill, self.deposit)),
            Backoff(Strategy(self.strategy), self.base_s, self.cap_s),
            # A row of failures alone opens it: the checker has a model of that.
            Breaker(self.failures, 600.0, 0.5, 10_000, self.cooldown_s, self.cooldown_cap_s, self.trials),
            Gate(self.permits, self.queue, self.wait_s, Overlap(self.overlap)),
            LockRule(self.lock_wait_s),
            kinds,
        )


_NEVER_SLOW = Slowness()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`running`, `starts` (count, period) and `host_bucket` (capacity, refill, deposit) are the host's limits.

    `turns` and `lease_s` are of a world of several processes: the share of turns that are drawn, and for how long one
    may be silent.
    """

    seed: int
    policies: tuple[Rules, ...]
    jobs: tuple[Job, ...]
    faults: tuple[Fault | ProcessFault, ...] = ()
    slowness: Slowness = _NEVER_SLOW
    running: int | None = None
    starts: tuple[int, float] | None = None
    memory: bool = False
    host_bucket: tuple[float, float, float] | None = None
    turns: float = 0.0
    lease_s: float = 0.0


def _classes(union: Any) -> list[type]:
    return list(get_args(union)) if isinstance(union, UnionType) else [union]


_CLASSES = {
    cls.__name__: cls
    for cls in (*_classes(Step), *_classes(Fault | ProcessFault), Play, TreeScript, Job, Rules, Scenario, Slowness)
}


def as_json(scenario: Scenario) -> str:
    return json.dumps(_plain(scenario), separators=(",", ":"))


def from_json(text: str) -> Scenario:
    made = _made(json.loads(text))
    assert isinstance(made, Scenario)
    return made


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        shape: dict[str, Any] = {"is": type(value).__name__}
        for field in dataclasses.fields(value):
            given = getattr(value, field.name)
            if field.default is dataclasses.MISSING or given != field.default:
                shape[field.name] = _plain(given)
        return shape
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _made(value: Any) -> Any:
    if isinstance(value, dict):
        given = {name: _made(item) for name, item in value.items() if name != "is"}
        return _CLASSES[value["is"]](**given)
    return tuple(_made(item) for item in value) if isinstance(value, list) else value
