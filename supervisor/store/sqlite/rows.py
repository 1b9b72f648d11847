"""States as they stand in columns, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from policies.backoff import Backoff, Strategy
from policies.breaker import CLOSED, Breaker, Closed, HalfOpen, Open, State
from policies.budget import FULL, Bucket, Budget, Tokens
from policies.failure import DEFAULT_EFFECTS, Effect, Gone, Kind, Receipt, Refusal
from policies.policy import AttemptLimits, OnLost, Policy
from policies.verdict import FINISH, Finish, GiveUp, Quarantine, Reason, Retry, Verdict
from supervisor.credentials import hidden, hide_credentials
from supervisor.store.contract import Ending


def breaker_text(state: State) -> str | None:
    """Return a breaker's state as JSON; None for the default."""
    match state:
        case Closed():
            if state == CLOSED:
                return None
            return json.dumps(["closed", state.generation, state.in_a_row, *state.outcomes])
        case Open():
            return json.dumps(["open", state.generation, state.until, state.trips, state.wait_s])
        case HalfOpen():
            return json.dumps(["half_open", state.generation, state.trips, state.taken, state.not_before, state.wait_s])


def breaker_of(text: str | None) -> State:
    """Return the state that was written."""
    if text is None:
        return CLOSED
    match json.loads(text):
        case ["closed", generation, in_a_row, *outcomes]:
            return Closed(generation, in_a_row, tuple(outcomes))
        case ["open", generation, until, trips, wait_s]:
            return Open(generation, until, trips, wait_s)
        case ["half_open", generation, trips, taken, not_before, wait_s]:
            return HalfOpen(generation, trips, taken, not_before, wait_s)
        case other:
            raise AssertionError(f"no breaker is written so: {other!r}")


def moved(state: State, by: float, now: float) -> State:
    """Return the state with each of its moments so much later: as another boot's clock has them, at whose `now` no
    outcome lies ahead, and no end of a cooldown further than it was long.
    """
    match state:
        case Closed():
            outcomes = tuple(min(now, value + by) if n % 3 == 0 else value for n, value in enumerate(state.outcomes))
            return Closed(state.generation, state.in_a_row, outcomes)
        case Open():
            return Open(state.generation, min(now + state.wait_s, state.until + by), state.trips, state.wait_s)
        case HalfOpen():
            return HalfOpen(
                state.generation, state.trips, state.taken, min(now + state.wait_s, state.not_before + by), state.wait_s
            )


def tokens_of(spent: float, at: float) -> Tokens:
    """Return the tokens that were written."""
    return Tokens(spent, at) if spent else FULL


def rules_text(policy: Policy) -> str:
    """Return what a lost run is judged by, and stopped under, as JSON: others need no more of its policy."""
    lost = policy.effect(Kind.LOST)
    return json.dumps(
        {
            "budget": asdict(policy.budget),
            "backoff": asdict(policy.backoff),
            "breaker": asdict(policy.breaker),
            "lost": asdict(lost),
            "on_lost": policy.on_lost.value,
            "grace_s": policy.attempt.grace_s,
        }
    )


def rules_of(name: str, text: str) -> Policy:
    """Return the policy that `rules_text` wrote, with the defaults for what it leaves out."""
    shape: dict[str, Any] = json.loads(text)
    budget, backoff = shape["budget"], shape["backoff"]
    kinds: Mapping[Kind, Effect] = {**DEFAULT_EFFECTS, Kind.LOST: Effect(**shape["lost"])}
    return Policy(
        name,
        budget=Budget(budget["attempts"], budget["deadline_s"], Bucket(**budget["session"])),
        backoff=Backoff(Strategy(backoff["strategy"]), backoff["base_s"], backoff["cap_s"]),
        breaker=Breaker(**shape["breaker"]),
        kinds=kinds,
        on_lost=OnLost(shape["on_lost"]),
        attempt=AttemptLimits(grace_s=shape["grace_s"]),
    )


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict as JSON, with the moment of a retry as of the store's clock."""
    match verdict:
        case Finish():
            return '{"action": "finish"}'
        case Retry():
            shape = {"action": "retry", "at": verdict.at, "delay_s": verdict.delay_s, "tokens": verdict.tokens}
        case GiveUp():
            shape = {"action": "give_up", "reason": verdict.reason.value}
        case Quarantine():
            shape = {"action": "quarantine", "alive": hidden(list(verdict.alive))}
    return json.dumps(shape)


def verdict_of(text: str, receipt: Receipt) -> Verdict:
    """Return the verdict that was written; a retry asks for the receipt, as ever."""
    shape: dict[str, Any] = json.loads(text)
    match shape["action"]:
        case "finish":
            return FINISH
        case "retry":
            assert isinstance(receipt, Gone), "a retry was granted on proof"
            return Retry(shape["at"], shape["delay_s"], shape["tokens"], receipt)
        case "quarantine":
            return Quarantine(tuple(shape["alive"]))
        case _:
            return GiveUp(reason_of(shape["reason"]))


def reason_of(text: str) -> Reason | Refusal:
    """Return the reason, or the refusal, of that name."""
    return Reason(text) if text in tuple(Reason) else Refusal(text)


def ending_columns(ending: Ending) -> tuple[str, str | None, str]:
    """Return the status, reason and detail of a run's row."""
    return ending.status.value, None if ending.reason is None else str(ending.reason), hide_credentials(ending.detail)
