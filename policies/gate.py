"""The per-session concurrency limit: permits, a bounded line, and what happens when runs overlap.

A permit is held during an attempt, never during backoff. Who stands in line is state of the store; who may go, wait
or leave is decided here.
"""

from dataclasses import dataclass
from enum import StrEnum

from policies.failure import Refusal


class Overlap(StrEnum):
    """What a new run does while runs of its session are under way (their backoff included)."""

    QUEUE = "queue"
    SKIP = "skip"
    COALESCE = "coalesce"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Gate:
    """The rule: at most `permits` attempts at once, `queue` first attempts in line, each for at most `wait_s`."""

    permits: int = 1
    queue: int = 16
    wait_s: float = 60.0
    overlap: Overlap = Overlap.QUEUE


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes on in a session when somebody asks.

    Attributes:
        running: attempts that hold a permit.
        in_line: first attempts that wait for one.
        under_way: runs that were admitted and have not ended, their backoffs included.
        retries_in_line: retries that wait for a permit: newcomers stand behind them, they fill no line.
    """

    running: int = 0
    in_line: int = 0
    under_way: int = 0
    retries_in_line: int = 0


class Answer(StrEnum):
    """What an arriving run is told, where it is not refused."""

    ENTER = "enter"
    WAIT = "wait"  # at the end of the line
    WAIT_AS_NEWEST = "wait_as_newest"  # behind the line; whoever waited there is displaced: refused, reason overlap
    REPLACE = "replace"  # every older run of the session is cancelled; then in line like anyone


def arrive(rule: Gate, traffic: Traffic) -> Answer | Refusal:
    """Decide on a run that comes for its first attempt."""
    if traffic.under_way + traffic.in_line >= rule.permits:
        match rule.overlap:
            case Overlap.SKIP:
                return Refusal.OVERLAP
            case Overlap.COALESCE:
                return Answer.WAIT_AS_NEWEST
            case Overlap.REPLACE:
                return Answer.REPLACE
            case Overlap.QUEUE:
                pass
    if may_enter(rule, traffic.running) and not traffic.in_line and not traffic.retries_in_line:
        return Answer.ENTER
    return Answer.WAIT if traffic.in_line < rule.queue else Refusal.QUEUE_FULL


def may_enter(rule: Gate, running: int) -> bool:
    """Say whether the head of the line may start its attempt: fewer attempts run than *its* permits."""
    return running < rule.permits


def newest_may_enter(rule: Gate, traffic: Traffic) -> bool:
    """Say whether the run that waits as the newest (coalesce) may go: no line is left, and fewer runs are under way."""
    if traffic.in_line or traffic.retries_in_line:
        return False
    return traffic.under_way < rule.permits and may_enter(rule, traffic.running)
