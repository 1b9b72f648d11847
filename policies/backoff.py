"""The wait before the next attempt."""

from dataclasses import dataclass
from enum import StrEnum

from policies.dice import Draw


class Strategy(StrEnum):
    """How the wait grows, and how much of it is random."""

    CONSTANT = "constant"
    EXPONENTIAL = "exponential"
    FULL_JITTER = "full_jitter"
    EQUAL_JITTER = "equal_jitter"


@dataclass(frozen=True, slots=True)
class Backoff:
    """The rule. `base_s` of zero retries at once; `cap_s` bounds every wait but a stated Retry-After."""

    strategy: Strategy = Strategy.FULL_JITTER
    base_s: float = 2.0
    cap_s: float = 120.0


_MOST_DOUBLINGS = 63  # 2.0**1024 overflows; 63 is past any cap


def backoff_s(rule: Backoff, failed_attempts: int, draw: Draw) -> float:
    """Return the seconds to wait after the given number (1 or more) of failed attempts.

    With ceiling = min(cap_s, base_s * 2**(failed_attempts - 1)): exponential waits the ceiling, full_jitter
    uniformly in [0, ceiling), equal_jitter uniformly in [ceiling / 2, ceiling). constant waits min(cap_s, base_s).
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    ceiling = min(rule.cap_s, rule.base_s * 2.0 ** min(max(failed_attempts, 1) - 1, _MOST_DOUBLINGS))
    match rule.strategy:
        case Strategy.CONSTANT:
            return min(rule.cap_s, rule.base_s)
        case Strategy.EXPONENTIAL:
            return ceiling
        case Strategy.FULL_JITTER:
            return draw() * ceiling
        case Strategy.EQUAL_JITTER:
            return ceiling / 2 + draw() * ceiling / 2
