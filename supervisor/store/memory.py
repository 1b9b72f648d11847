"""State in this process's memory. What equals the default is dropped: a healthy, idle session costs nothing."""

import asyncio
import math
from collections import deque
from typing import Final

from policies import budget, gate
from policies.breaker import CLOSED, Admitted, Closed, HalfOpen, Open, State, admit, look, reset
from policies.breaker import Refused as BreakerRefused
from policies.budget import FULL, Bucket, Tokens
from policies.failure import Failed, Gone, Receipt, Refusal, Unknown
from policies.verdict import FINISH, Case, Ledger, Reason, Retry, Verdict, decide
from supervisor.clock import Clock
from supervisor.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Events,
    QuarantineLifted,
    SessionQuarantined,
)
from supervisor.store.contract import WAITING, Refused, Standing, Waiting
from supervisor.tasks import wait_until

FORGET_AFTER_S: Final = 7 * 86400.0
"""A row of failures that nothing was added to for a week is forgotten: session keys may be new for each run."""

_SWEEP_FROM: Final = 4096
_MOST_SPARE: Final = 64
_ADMITTED: Final = Admitted(0)
_OVER: Final = Refused(Refusal.WAIT_OVER)
_NO_LINE: Final[deque[Standing]] = deque(maxlen=0)


class _Live:
    """What goes on in one session now. Gone when nothing does."""

    __slots__ = ("in_line", "line", "newest", "running", "standing")

    def __init__(self) -> None:
        self.running = 0
        self.standing: dict[Standing, None] = {}  # every run that has not ended, in order, but the newest that waits
        self.line: deque[Standing] = _NO_LINE
        self.in_line = 0  # first attempts in line
        self.newest: Standing | None = None  # under `coalesce`: behind everybody

    def traffic(self) -> gate.Traffic:
        """What a run that arrives, or waits as the newest, is judged by. It is not in `standing` itself."""
        retries_in_line = len(self.line) - self.in_line
        return gate.Traffic(self.running, self.in_line, len(self.standing) - self.in_line, retries_in_line)

    def leave_line(self, run: Standing) -> None:
        if run in self.line:
            self.line.remove(run)
            self.in_line -= run.number == 0
        if self.newest is run:
            self.newest = None


class MemoryStore:
    """The library's default store."""

    def __init__(self) -> None:
        self._live: dict[str, _Live] = {}
        self._spare: list[_Live] = []
        self._breakers: dict[str, State] = {}
        self._tokens: dict[str, Tokens] = {}
        self._quarantines: dict[str, dict[str, Unknown]] = {}
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}
        self._host = FULL
        self._fence = 0
        self._sweep_at = _SWEEP_FROM

    def open(self, clock: Clock, events: Events, host: Bucket | None) -> None:
        self._clock, self._events, self._host_rule = clock, events, host
        self._now = clock.now

    # --- admission

    def arrive(self, run: Standing) -> Refused | Waiting | None:
        session = run.session
        if (self._breakers or self._quarantines) and (refused := self._look(run)) is not None:
            return refused
        live = self._live.get(session)
        if live is None:
            live = self._live[session] = self._spare.pop() if self._spare else _Live()
        if run.number:
            return self._return_to_line(live, run)
        if not live.standing:
            live.standing[run] = None
            live.running += 1
            run.holds_permit = True
            return None
        return self._join(live, run)

    def _look(self, run: Standing) -> Refused | None:
        session = run.session
        if self._quarantines and session in self._quarantines:
            alive = [what for receipt in self._quarantines[session].values() for what in receipt.alive]
            return Refused(Refusal.QUARANTINED, "may still live: " + ", ".join(alive))
        state = self._breakers.get(session)
        if state is not None and type(state) is not Closed:
            answer = look(run.policy.breaker, state, self._now())
            if answer is not None:
                return self._breaker_refused(answer, state)
        return None

    def _breaker_refused(self, answer: BreakerRefused, state: State) -> Refused:
        if answer.until is None:
            return Refused(Refusal.BREAKER_OPEN, "half open, and its trial is under way", seen=state)
        return Refused(Refusal.BREAKER_OPEN, f"open for {answer.until - self._now():.1f} s more", answer.until, state)

    def _join(self, live: _Live, run: Standing) -> Refused | Waiting | None:
        match answer := gate.arrive(run.policy.gate, live.traffic()):
            case Refusal():
                return Refused(answer)
            case gate.Answer.ENTER:
                live.standing[run] = None
                live.running += 1
                run.holds_permit = True
                return None
            case gate.Answer.WAIT:
                pass
            case gate.Answer.REPLACE:
                for older in tuple(live.standing):
                    older.interrupt(Reason.REPLACED)
                if live.newest is not None:
                    live.newest.interrupt(Reason.REPLACED)
                run.replaces = True
            case gate.Answer.WAIT_AS_NEWEST:
                self._displace_newest(live)
                run.turn = asyncio.get_running_loop().create_future()
                live.newest = run
                self._pass_on(live)
                return WAITING
        live.standing[run] = None
        return self._stand_in_line(live, run)

    def _displace_newest(self, live: _Live) -> None:
        displaced, live.newest = live.newest, None
        if displaced is not None and displaced.turn is not None and not displaced.turn.done():
            displaced.turn.set_result(Refused(Refusal.OVERLAP, "a newer run took its place"))

    def _return_to_line(self, live: _Live, run: Standing) -> Waiting | None:
        if not live.line and gate.may_enter(run.policy.gate, live.running):
            live.running += 1
            run.holds_permit = True
            return None
        return self._stand_in_line(live, run)

    def _stand_in_line(self, live: _Live, run: Standing) -> Waiting:
        if live.line is _NO_LINE:
            live.line = deque()
        run.turn = asyncio.get_running_loop().create_future()
        live.line.append(run)
        live.in_line += run.number == 0
        self._pass_on(live)
        return WAITING

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        turn = run.turn
        assert turn is not None, "only a run that waits has a turn to come"
        timer = None if until is None else asyncio.get_running_loop().call_at(until, _end_waiting, turn)
        try:
            refused = await turn
        finally:
            if timer is not None:
                timer.cancel()
        if refused is _OVER:
            self._take_out(run)
            return Refused(Refusal.WAIT_OVER, f"its turn did not come within {run.policy.gate.wait_s:g} s")
        run.turn = None
        return refused

    def leave(self, run: Standing) -> None:
        self._take_out(run)

    def _take_out(self, run: Standing) -> None:
        live = self._live.get(run.session)
        run.turn = None
        if live is None:
            return
        if run.holds_permit:
            run.holds_permit = False
            live.running -= 1
        else:
            live.leave_line(run)
        if run.number == 0:
            live.standing.pop(run, None)
        self._pass_on(live)
        self._drop_if_idle(run.session, live)

    def _pass_on(self, live: _Live) -> None:
        """Let whoever stands first go, while the rule of the one that stands first allows it. Nobody passes it."""
        while live.line and gate.may_enter(live.line[0].policy.gate, live.running):
            if live.line[0].replaces and next(iter(live.standing)) is not live.line[0]:
                return  # an older run is not over yet: it may be in its backoff, or hold another permit
            head = live.line.popleft()
            live.in_line -= head.number == 0
            self._grant(live, head)
        newest = live.newest
        if newest is not None and not live.line and gate.newest_may_enter(newest.policy.gate, live.traffic()):
            live.newest = None
            live.standing[newest] = None
            self._grant(live, newest)

    def _grant(self, live: _Live, run: Standing) -> None:
        turn = run.turn
        if turn is None or turn.done():  # it is on its way out
            return
        live.running += 1
        run.holds_permit = True
        turn.set_result(None)

    def _refuse_line(self, live: _Live) -> None:
        """Refuse every first attempt in line once nothing may start; a retry asks again when its turn comes."""
        waiting = [run for run in live.line if run.number == 0]
        if live.newest is not None:
            waiting.append(live.newest)
        for run in waiting:
            if (refused := self._look(run)) is None:
                continue
            if run.turn is not None and not run.turn.done():
                run.turn.set_result(refused)
            live.leave_line(run)
            live.standing.pop(run, None)

    # --- the attempt

    def begin(self, run: Standing) -> Refused | None:
        session = run.session
        admitted = _ADMITTED
        if self._quarantines and (refused := self._look(run)) is not None:
            self._take_out(run)
            return refused
        if self._breakers and session in self._breakers:
            before = self._breakers[session]
            after, answer = admit(run.policy.breaker, before, self._now())
            if isinstance(answer, BreakerRefused):
                self._take_out(run)
                return self._breaker_refused(answer, after)
            admitted = answer
            self._set_breaker(run, before, after)
        if run.number == 0:
            self._deposit(run)
        else:
            run.retry_reserved, run.tokens = False, 0.0
        run.admitted = admitted
        self._fence += 1
        run.fence = self._fence
        run.number += 1
        return None

    def _deposit(self, run: Standing) -> None:
        if self._tokens and (tokens := self._tokens.get(run.session)) is not None:
            self._set_tokens(run.session, budget.deposit(run.policy.budget.session, tokens, self._now()))
        if self._host_rule is not None:
            self._host = budget.deposit(self._host_rule, self._host, self._now())

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        session = run.session
        live = self._live[session]
        run.holds_permit = False
        live.running -= 1
        verdict: Verdict
        if failed is None and stopped is None and session not in self._breakers and type(receipt) is Gone:
            verdict = FINISH  # what decide() says; a success leaves a closed breaker without failures as it was
        else:
            verdict = self._decide(run, failed, receipt, stopped)
            if isinstance(receipt, Unknown):
                self._quarantine(run, receipt)
        if type(verdict) is not Retry:
            live.standing.pop(run, None)
        if live.line or live.newest is not None:
            if session in self._quarantines or type(self._breakers.get(session, CLOSED)) is not Closed:
                self._refuse_line(live)
            self._pass_on(live)
        if not live.standing:
            self._drop_if_idle(session, live)
        return verdict

    def _decide(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        session = run.session
        before = self._breakers.get(session, CLOSED)
        ledger = Ledger(before, self._tokens.get(session, FULL), self._host)
        case = Case(
            run.policy,
            run.number,
            failed,
            receipt,
            run.admitted,
            None if run.parent is None else run.retries_left_above(),
            run.deadline,
            stopped,
            run.retries_below,
        )
        ledger, verdict = decide(case, ledger, self._host_rule, self._now(), self._clock.draw)
        self._set_tokens(session, ledger.session)
        self._host = ledger.host
        if isinstance(verdict, Retry):
            run.retry_reserved, run.tokens = True, verdict.tokens
            if run.parent is not None:
                run.charge_parents(1)
        self._set_breaker(run, before, ledger.breaker)
        return verdict

    def _quarantine(self, run: Standing, receipt: Unknown) -> None:
        self._quarantines.setdefault(run.session, {})[run.run_id] = receipt
        if self._events.listeners:
            self._events.emit(SessionQuarantined(run.session, run.run_id, self._clock.wall(), receipt))

    def give_back(self, run: Standing) -> None:
        if not run.retry_reserved:
            return
        if run.tokens:
            now, tokens = self._now(), self._tokens.get(run.session, FULL)
            self._set_tokens(run.session, budget.give_back(run.policy.budget.session, tokens, run.tokens, now))
            if self._host_rule is not None:
                self._host = budget.give_back(self._host_rule, self._host, run.tokens, now)
        run.retry_reserved, run.tokens = False, 0.0
        run.charge_parents(-1)

    def end(self, run: Standing) -> None:
        live = self._live.get(run.session)
        if live is None:
            return
        live.standing.pop(run, None)
        self._pass_on(live)
        self._drop_if_idle(run.session, live)

    # --- what is kept

    def _set_breaker(self, run: Standing, before: State, after: State) -> None:
        session = run.session
        if after is before:
            return
        self._breakers[session] = after
        self._sweep_if_many()
        if session in self._watchers:
            self._wake_watchers(session)
        if self._events.listeners and type(after) is not type(before):
            about = (session, run.run_id, self._clock.wall())
            match after:
                case Open():
                    self._events.emit(BreakerOpened(*about, after.until - self._now(), after.trips))
                case HalfOpen():
                    self._events.emit(BreakerHalfOpened(*about))
                case Closed():
                    self._events.emit(BreakerClosed(*about))

    def _set_tokens(self, session: str, tokens: Tokens) -> None:
        if tokens is not FULL:
            self._tokens[session] = tokens
            self._sweep_if_many()
        elif session in self._tokens:
            del self._tokens[session]

    def _drop_if_idle(self, session: str, live: _Live) -> None:
        if live.running or live.standing or live.line or live.newest or self._live.get(session) is not live:
            return
        del self._live[session]
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(live)
        if self._breakers:
            state = self._breakers.get(session)
            # No attempt runs, so none can report late: the generation need not be kept.
            if isinstance(state, Closed) and not state.in_a_row and not state.outcomes:
                del self._breakers[session]

    def _sweep_if_many(self) -> None:
        """Forget what nothing was added to for a week; done each time that what is kept has doubled."""
        if len(self._breakers) <= self._sweep_at and len(self._tokens) <= self._sweep_at:
            return
        long_ago = self._now() - FORGET_AFTER_S
        for session, state in tuple(self._breakers.items()):
            if session not in self._live and _last_change(state) < long_ago:
                del self._breakers[session]
        for session, tokens in tuple(self._tokens.items()):
            if tokens.at < long_ago:
                del self._tokens[session]
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._breakers), 2 * len(self._tokens))

    async def breaker_moved(self, session: str, seen: State | None, until: float | None) -> None:
        if seen is not None and self._breakers.get(session, CLOSED) != seen:
            return  # it moved while the refusal was on its way
        watcher = asyncio.get_running_loop().create_future()
        watchers = self._watchers.setdefault(session, [])
        watchers.append(watcher)
        try:
            await wait_until(watcher, until)
        finally:
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers and self._watchers.get(session) is watchers:
                del self._watchers[session]

    async def lift(self, session: str, run_id: str) -> None:
        quarantined = self._quarantines.get(session)
        if quarantined is None or quarantined.pop(run_id, None) is None:
            return
        if not quarantined:
            del self._quarantines[session]
        if self._events.listeners:
            self._events.emit(QuarantineLifted(session, run_id, self._clock.wall()))

    async def reset(self, session: str) -> None:
        state = self._breakers.pop(session, None)
        if state is not None and session in self._live:
            self._breakers[session] = reset(state)  # attempts that run now report too late to matter
        self._tokens.pop(session, None)
        self._quarantines.pop(session, None)
        self._wake_watchers(session)

    def _wake_watchers(self, session: str) -> None:
        for watcher in self._watchers.pop(session, ()):
            if not watcher.done():
                watcher.set_result(None)


def _last_change(state: State) -> float:
    """Return a moment that nothing has happened since; infinity where the state does not tell."""
    match state:
        case Closed():
            return state.outcomes[-3] if state.outcomes else -math.inf
        case Open():
            return state.until
        case HalfOpen():
            return math.inf


def _end_waiting(turn: "asyncio.Future[Refused | None]") -> None:
    if not turn.done():
        turn.set_result(_OVER)
