"""State in this process's memory. What equals the default is dropped: a healthy, idle session costs nothing."""

import asyncio
from collections.abc import Callable
from typing import Final

from policies import budget
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
from supervisor.store.contract import Ending, Refused, Standing, Waiting
from supervisor.store.forgetting import forget_old
from supervisor.store.session_line import SessionLine, turn_of
from supervisor.tasks import wait_until

_SWEEP_FROM: Final = 4096
_MOST_SPARE: Final = 64
_ADMITTED: Final = Admitted(0)


class MemoryStore:
    """The library's default store."""

    alive = None

    def __init__(self) -> None:
        self._lines: dict[str, SessionLine] = {}
        self._spare: list[SessionLine] = []
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

    def change_host(self, host: Bucket | None) -> None:
        self._host_rule = host

    def close(self) -> None:
        """There is nothing to let go of."""

    # --- admission

    def arrive(self, run: Standing) -> Refused | Waiting | None:
        session = run.session
        if (self._breakers or self._quarantines) and (refused := self._look(run)) is not None:
            return refused
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = self._spare.pop() if self._spare else SessionLine()
        if run.number:
            return line.come_back(run)
        if not line.standing:
            line.enter(run)
            return None
        return line.join(run)

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

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        refused = await turn_of(run, until)
        if refused is not None and refused.reason is Refusal.WAIT_OVER:
            self._take_out(run)
        return refused

    def leave(self, run: Standing) -> None:
        self._take_out(run)

    def _take_out(self, run: Standing) -> None:
        run.turn = None
        line = self._lines.get(run.session)
        if line is not None:
            line.take_out(run)
            self._drop_if_idle(run.session, line)

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
            run.retry_reserved = False
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
        line = self._lines[session]
        run.holds_permit = False
        line.running -= 1
        verdict: Verdict
        if failed is None and stopped is None and session not in self._breakers and type(receipt) is Gone:
            verdict = FINISH  # what decide() says; a success leaves a closed breaker without failures as it was
        else:
            verdict = self._decide(run, failed, receipt, stopped)
            if isinstance(receipt, Unknown):
                self._quarantine(run, receipt)
        if type(verdict) is not Retry:
            line.standing.pop(run, None)
        if line.waiting or line.newest is not None:
            if session in self._quarantines or type(self._breakers.get(session, CLOSED)) is not Closed:
                line.refuse(self._look)
            line.pass_on()
        if not line.standing:
            self._drop_if_idle(session, line)
        return verdict

    def _decide(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        session = run.session
        if run.never_launched and run.number > 1:
            self._give_back(run)
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

    def _give_back(self, run: Standing) -> None:
        """Return what a retry took that is not launched."""
        if run.tokens:
            now, tokens = self._now(), self._tokens.get(run.session, FULL)
            self._set_tokens(run.session, budget.give_back(run.policy.budget.session, tokens, run.tokens, now))
            if self._host_rule is not None:
                self._host = budget.give_back(self._host_rule, self._host, run.tokens, now)
        run.retry_reserved, run.tokens = False, 0.0
        run.charge_parents(-1)

    def end(self, run: Standing, ending: Ending) -> None:  # noqa: ARG002 - it keeps no history
        if run.retry_reserved:
            self._give_back(run)
        line = self._lines.get(run.session)
        if line is not None:
            line.standing.pop(run, None)
            self._take_out(run)

    async def slot(self, run: Standing, slots: Callable[[], int], rank: int, until: float | None) -> bool:  # noqa: ARG002
        raise AssertionError("the slots of one process are its own to count")

    async def give_slot(self, run: Standing) -> None:  # noqa: ARG002
        raise AssertionError("the slots of one process are its own to count")

    # --- what is kept

    def _set_breaker(self, run: Standing, before: State, after: State) -> None:
        session = run.session
        if after is before:
            return
        if session not in self._breakers:
            self._sweep_if_many()
        self._breakers[session] = after
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
            if session not in self._tokens:
                self._sweep_if_many()
            self._tokens[session] = tokens
        elif session in self._tokens:
            del self._tokens[session]

    def _drop_if_idle(self, session: str, line: SessionLine) -> None:
        if not line.is_idle or self._lines.get(session) is not line:
            return
        del self._lines[session]
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(line)
        if self._breakers:
            state = self._breakers.get(session)
            # No attempt runs, so none can report late: the generation need not be kept.
            if isinstance(state, Closed) and not state.in_a_row and not state.outcomes:
                del self._breakers[session]

    def _sweep_if_many(self) -> None:
        """Forget what nothing was added to for a week; done each time that what is kept has doubled."""
        if len(self._breakers) < self._sweep_at and len(self._tokens) < self._sweep_at:
            return
        forget_old(self._breakers, self._tokens, self._lines, self._now())
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
        if state is not None and session in self._lines:
            self._breakers[session] = reset(state)  # attempts that run now report too late to matter
        self._tokens.pop(session, None)
        self._quarantines.pop(session, None)
        self._wake_watchers(session)

    def _wake_watchers(self, session: str) -> None:
        for watcher in self._watchers.pop(session, ()):
            if not watcher.done():
                watcher.set_result(None)
