"""Who was told of what: what all that share a ledger decide their alerts by, one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from policies import alerting
from policies.alerting import AlertKind, Answer, Minute, Summary, Summed, Told

_SWEEP_FROM: Final = 1024


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to one alert, and what is due besides.

    Attributes:
        answer: send it, or leave it to a summary or to the next one of its session and kind.
        summary: what whoever gets this has to tell of now; nobody else was given it.
        wait_s: seconds until what is held is due, and `collect` will have it; None: nothing is held.
    """

    answer: Answer
    summary: Summary | None
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Collected:
    """The same, where nobody has an alert of his own."""

    summary: Summary | None
    wait_s: float | None


class AlertLedger(Protocol):
    """Each call is one transaction. StoreUnavailable, where the ledger is in a store that does not answer."""

    async def claim(self, kind: AlertKind, session: str) -> Claimed:
        """Decide on an alert, and write the decision down."""

    async def collect(self, *, leaving: bool) -> Collected:
        """Take the summary, if its minute is over. `leaving`: who asks ends now, and takes what is his alone."""


class MemoryLedger:
    """The ledger of one process."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: dict[tuple[AlertKind, str], Told] = {}
        self._minute = Minute()
        self._summed: tuple[Summed, ...] = ()
        self._sweep_at = _SWEEP_FROM

    async def claim(self, kind: AlertKind, session: str) -> Claimed:
        now = self._now()
        summary = self._due(now)
        told, self._minute, answer = alerting.claim(self._told.get((kind, session)), self._minute, now)
        self._told[kind, session] = told
        if answer is alerting.HOLD:
            self._summed = alerting.add(self._summed, kind, session)
        self._sweep_if_many(now)
        return Claimed(answer, summary, alerting.over_in_s(self._minute, now))

    async def collect(self, *, leaving: bool) -> Collected:
        now = self._now()
        summary = self._release(now) if leaving else self._due(now)
        return Collected(summary, alerting.over_in_s(self._minute, now))

    def _due(self, now: float) -> Summary | None:
        return self._release(now) if alerting.over_in_s(self._minute, now) == 0.0 else None

    def _release(self, now: float) -> Summary | None:
        since = self._minute.held_since
        if since is None:
            return None
        summary = Summary(self._summed, max(0.0, now - since))
        self._minute, self._summed = alerting.released(self._minute), ()
        return summary

    def _sweep_if_many(self, now: float) -> None:
        """Forget what no decision depends on; done each time that what is kept has doubled."""
        if len(self._told) < self._sweep_at:
            return
        self._told = {key: told for key, told in self._told.items() if not alerting.is_forgotten(told, now)}
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._told))
