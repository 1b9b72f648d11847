"""What a store tells of: breakers that change, sessions that are quarantined and freed."""

from policies.breaker import Closed, HalfOpen, Open
from policies.failure import Unknown
from supervisor.clock import Clock
from supervisor.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    Events,
    QuarantineLifted,
    SessionQuarantined,
)
from supervisor.store.contract import Standing
from supervisor.store.sqlite.asking import Changed


class Telling:
    """The events of one store."""

    def __init__(self, clock: Clock, events: Events) -> None:
        self._clock, self._events = clock, events

    def breaker(self, run: Standing, changed: Changed | None) -> None:
        """Tell how a breaker has changed in a transaction, if it has."""
        if changed is None or type(changed.after) is type(changed.before):
            return
        about = (run.session, run.run_id, self._clock.wall())
        match changed.after:
            case Open() as after:
                self._emit(BreakerOpened(*about, after.until - self._clock.boottime(), after.trips))
            case HalfOpen():
                self._emit(BreakerHalfOpened(*about))
            case Closed():
                self._emit(BreakerClosed(*about))

    def quarantined(self, run: Standing, receipt: Unknown) -> None:
        self._emit(SessionQuarantined(run.session, run.run_id, self._clock.wall(), receipt))

    def lifted(self, session: str, run_id: str) -> None:
        self._emit(QuarantineLifted(session, run_id, self._clock.wall()))

    def _emit(self, event: Event) -> None:
        if self._events.listeners:
            self._events.emit(event)
