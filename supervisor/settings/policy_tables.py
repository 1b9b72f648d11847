"""The tables of a policy: what each key means, what it must be, and the rule that it becomes.

A default here is the text of the built-in one in `policies`; a test holds the two equal.
"""

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, create_model

from policies.backoff import Backoff, Strategy
from policies.breaker import Breaker
from policies.budget import MOST_ATTEMPTS, Bucket, Budget
from policies.classification import Rule
from policies.failure import DEFAULT_EFFECTS, FIXED_KINDS, Effect
from policies.gate import Gate, Overlap
from policies.policy import AttemptLimits, LockedBy, LockRule, OnLost, Pids, Policy
from supervisor.settings.proofs import Duration, Flag, Name, Number, OneOf, Size, Whole
from supervisor.settings.table import Table, key

_TOO_MANY: Final = (
    "a session that failed 32 times is not mended by a 33rd attempt, and gateways that allowed 160 retries died of them"
)


class BucketTable(Table):
    """A bucket of tokens: retries withdraw them, time and first attempts bring them back."""

    capacity: Annotated[float, Number()] = key(10.0, "Tokens in a full bucket.")
    refill: Annotated[float, Number(zero=True)] = key(1.0, "Tokens that come back a minute.")
    deposit: Annotated[float, Number(zero=True, most=1)] = key(
        0.1, "The part of a token, 0 to 1, that each first attempt puts in."
    )

    def rule(self) -> Bucket:
        return Bucket(self.capacity, self.refill, self.deposit)


class AttemptTable(Table):
    """Limits of one attempt."""

    timeout: Annotated[float | None, Duration(off=True)] = key("5m", "Its length, or off.")
    idle_timeout: Annotated[float | None, Duration(off=True)] = key(
        "off", "The longest time without output or heartbeat, or off."
    )
    grace: Annotated[float, Duration()] = key(
        "10s", "Between the request to stop and force; at most half of state.lease."
    )
    max_rss: Annotated[int | None, Size(off=True)] = key("off", "Memory of a command's whole tree, or off.")
    leave_children: Annotated[bool, Flag()] = key(False, "A command that succeeded may leave processes behind.")

    def rule(self) -> AttemptLimits:
        return AttemptLimits(self.timeout, self.idle_timeout, self.grace, self.max_rss, self.leave_children)


class BudgetTable(Table):
    """What a run may spend."""

    attempts: Annotated[int, Whole(1, MOST_ATTEMPTS, _TOO_MANY)] = key(
        4, f"Attempts of a run, the first one included; at most {MOST_ATTEMPTS}."
    )
    deadline: Annotated[float | None, Duration(off=True)] = key(
        "30m", "The length of a whole run, waits included, or off."
    )
    session: BucketTable = Field(
        default_factory=BucketTable, description="The bucket that every retry of the session draws from."
    )

    def rule(self) -> Budget:
        return Budget(self.attempts, self.deadline, self.session.rule())


class BackoffTable(Table):
    """The wait before a retry."""

    strategy: Annotated[Strategy, OneOf(Strategy)] = key(
        "full_jitter", "How the wait grows, and how much of it is random."
    )
    base: Annotated[float, Duration(zero=True)] = key(
        "2s", "The first wait, doubled after each further failure; 0s retries at once."
    )
    cap: Annotated[float, Duration()] = key(
        "2m", "The longest wait. A stated Retry-After is waited out in full all the same."
    )

    def rule(self) -> Backoff:
        return Backoff(self.strategy, self.base, self.cap)


class BreakerTable(Table):
    """When a session is left alone for a while, and for how long."""

    failures: Annotated[int, Whole(1)] = key(5, "It opens on so many failures in a row, ...")
    window: Annotated[float, Duration()] = key("10m", "... or, within this length of time, ...")
    failure_rate: Annotated[float, Number(most=1)] = key(
        0.5, "... on this part of the outcomes, more than 0 and at most 1, ..."
    )
    minimum: Annotated[int, Whole(1)] = key(10, "... of at least so many.")
    cooldown: Annotated[float, Duration()] = key(
        "1m", "How long it stays open, doubled each time it opens again in a row."
    )
    cooldown_cap: Annotated[float, Duration()] = key("30m", "The longest cooldown.")
    trials: Annotated[int, Whole(1)] = key(1, "Attempts at once after a cooldown.")

    def rule(self) -> Breaker:
        return Breaker(
            self.failures,
            self.window,
            self.failure_rate,
            self.minimum,
            self.cooldown,
            self.cooldown_cap,
            self.trials,
        )


class GateTable(Table):
    """How many attempts of a session go on at once, and what others do meanwhile."""

    permits: Annotated[int, Whole(1)] = key(1, "Attempts of the session at once.")
    queue: Annotated[int, Whole(0)] = key(16, "First attempts in line; 0: none waits.")
    wait: Annotated[float, Duration(zero=True)] = key("1m", "The longest time in line.")
    overlap: Annotated[Overlap, OneOf(Overlap)] = key(
        "queue", "What a new run does while runs of its session are under way, backoff included."
    )

    def rule(self) -> Gate:
        return Gate(self.permits, self.queue, self.wait, self.overlap)


class LockTable(Table):
    """The session's lock file."""

    wait: Annotated[float, Duration(zero=True)] = key("10s", "How long a lock that is seen held is waited for.")
    by: Annotated[LockedBy, OneOf(LockedBy)] = key(
        "supervisor", "Who takes it: the supervisor, or the command itself (as OpenClaw does)."
    )
    pids: Annotated[Pids, OneOf(Pids)] = key(
        "auto", "Whether the pids in other programs' lock files are of our own pid namespace."
    )

    def rule(self) -> LockRule:
        return LockRule(self.wait, self.by, self.pids)


class EffectTable(Table):
    """What a failure of one kind does. A key left out keeps its built-in value."""

    retried: Annotated[bool, Flag()] | None = key(None, "Another attempt may follow it.")
    counts: Annotated[bool, Flag()] | None = key(None, "It counts for the session's breaker.")
    tokens: Annotated[float, Number(zero=True)] | None = key(None, "What a retry costs.")

    def rule(self, default: Effect) -> Effect:
        return Effect(
            default.retried if self.retried is None else self.retried,
            default.counts if self.counts is None else self.counts,
            default.tokens if self.tokens is None else self.tokens,
        )


def _built_in(effect: Effect) -> str:
    retried, counts = str(effect.retried).lower(), str(effect.counts).lower()
    return f"Built in: retried = {retried}, counts = {counts}, tokens = {effect.tokens:g}."


if TYPE_CHECKING:

    class KindsTable(Table): ...

else:
    KindsTable = create_model(
        "KindsTable",
        __base__=Table,
        __doc__="What failures do, by kind.",
        **{
            kind.value: (EffectTable | None, key(None, _built_in(effect)))
            for kind, effect in DEFAULT_EFFECTS.items()
            if kind not in FIXED_KINDS
        },
    )


class PolicyTable(Table):
    """The named bundle of rules that a run is under. A key left out has the value of the policy it extends."""

    extends: Annotated[str, Name()] | None = key(
        None, "The policy whose values hold where this one says nothing; default, if left out."
    )
    attempt: AttemptTable = Field(default_factory=AttemptTable)
    budget: BudgetTable = Field(default_factory=BudgetTable)
    backoff: BackoffTable = Field(default_factory=BackoffTable)
    breaker: BreakerTable = Field(default_factory=BreakerTable)
    gate: GateTable = Field(default_factory=GateTable)
    lock: LockTable = Field(default_factory=LockTable)
    kinds: KindsTable = Field(default_factory=KindsTable)
    on_lost: Annotated[OnLost, OneOf(OnLost)] = key("give_up", "What follows for a job's run whose supervisor died.")

    def rule(self, name: str, failures: tuple[Rule, ...]) -> Policy:
        """Return the policy; `failures` are the classification rules of the whole file."""
        effects = dict(DEFAULT_EFFECTS)
        for kind, default in DEFAULT_EFFECTS.items():
            table: EffectTable | None = getattr(self.kinds, kind.value, None)
            if table is not None:
                effects[kind] = table.rule(default)
        return Policy(
            name=name,
            attempt=self.attempt.rule(),
            budget=self.budget.rule(),
            backoff=self.backoff.rule(),
            breaker=self.breaker.rule(),
            gate=self.gate.rule(),
            lock=self.lock.rule(),
            kinds=DEFAULT_EFFECTS if effects == DEFAULT_EFFECTS else MappingProxyType(effects),
            failures=failures,
            on_lost=self.on_lost,
        )
