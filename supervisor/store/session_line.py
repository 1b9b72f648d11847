"""Who is under way in one session, and who waits for a permit: first come, first served."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Final

from policies import gate
from policies.failure import Refusal
from policies.verdict import Reason
from supervisor.store.contract import WAITING, Refused, Standing, Waiting

_OVER: Final = Refused(Refusal.WAIT_OVER)
_NOBODY: Final[deque[Standing]] = deque(maxlen=0)


class SessionLine:
    """What goes on in one session now; the store drops it when nothing does. No await lies within any of its changes.

    Attributes:
        running: attempts that hold a permit.
        standing: every run that has not ended, in the order in which they came, but the newest that waits.
        waiting: the runs that wait for a permit, first attempts and retries.
        in_line: how many of those are first attempts.
        newest: under `coalesce`, the run that waits behind everybody.
    """

    __slots__ = ("in_line", "newest", "running", "standing", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.standing: dict[Standing, None] = {}
        self.waiting: deque[Standing] = _NOBODY
        self.in_line = 0
        self.newest: Standing | None = None

    @property
    def is_idle(self) -> bool:
        """Nobody is under way here, and nobody waits."""
        return not (self.running or self.standing or self.waiting or self.newest)

    def traffic(self) -> gate.Traffic:
        """What a run that arrives, or waits as the newest, is judged by. It is not in `standing` itself."""
        retries_in_line = len(self.waiting) - self.in_line
        return gate.Traffic(self.running, self.in_line, len(self.standing) - self.in_line, retries_in_line)

    def enter(self, run: Standing) -> None:
        """Give the run a permit at its arrival."""
        self.standing[run] = None
        self._give_permit(run)

    def join(self, run: Standing) -> Refused | Waiting | None:
        """Ask the gate for a first attempt. None: it holds a permit; Waiting: it has a `turn` to come."""
        match answer := gate.arrive(run.policy.gate, self.traffic()):
            case Refusal():
                return Refused(answer)
            case gate.Answer.ENTER:
                self.enter(run)
                return None
            case gate.Answer.WAIT:
                pass
            case gate.Answer.REPLACE:
                for older in tuple(self.standing):
                    older.interrupt(Reason.REPLACED)
                if self.newest is not None:
                    self.newest.interrupt(Reason.REPLACED)
                run.replaces = True
            case gate.Answer.WAIT_AS_NEWEST:
                self._displace_newest()
                run.turn = asyncio.get_running_loop().create_future()
                self.newest = run
                self.pass_on()
                return WAITING
        self.standing[run] = None
        return self._stand(run)

    def come_back(self, run: Standing) -> Waiting | None:
        """Let a retry in, behind those who came meanwhile."""
        if not self.waiting and gate.may_enter(run.policy.gate, self.running):
            self._give_permit(run)
            return None
        return self._stand(run)

    def _stand(self, run: Standing) -> Waiting:
        if self.waiting is _NOBODY:
            self.waiting = deque()
        run.turn = asyncio.get_running_loop().create_future()
        self.waiting.append(run)
        self.in_line += run.number == 0
        self.pass_on()
        return WAITING

    def _displace_newest(self) -> None:
        displaced, self.newest = self.newest, None
        if displaced is not None and displaced.turn is not None and not displaced.turn.done():
            displaced.turn.set_result(Refused(Refusal.OVERLAP, "a newer run took its place"))

    def take_out(self, run: Standing) -> None:
        """Take the run out of the line, or its permit back, and let whoever is next go."""
        if run.holds_permit:
            run.holds_permit = False
            self.running -= 1
        else:
            self._leave(run)
        if run.number == 0:
            self.standing.pop(run, None)
        self.pass_on()

    def _leave(self, run: Standing) -> None:
        if run in self.waiting:
            self.waiting.remove(run)
            self.in_line -= run.number == 0
        if self.newest is run:
            self.newest = None

    def pass_on(self) -> None:
        """Let whoever stands first go, while the rule of the one that stands first allows it. Nobody passes it."""
        while self.waiting and gate.may_enter(self.waiting[0].policy.gate, self.running):
            if self.waiting[0].replaces and next(iter(self.standing)) is not self.waiting[0]:
                return  # an older run is not over yet: it may be in its backoff, or hold another permit
            head = self.waiting.popleft()
            self.in_line -= head.number == 0
            self._grant(head)
        newest = self.newest
        if newest is not None and not self.waiting and gate.newest_may_enter(newest.policy.gate, self.traffic()):
            self.newest = None
            self.standing[newest] = None
            self._grant(newest)

    def _grant(self, run: Standing) -> None:
        turn = run.turn
        if turn is None or turn.done():  # it is on its way out
            return
        self._give_permit(run)
        turn.set_result(None)

    def _give_permit(self, run: Standing) -> None:
        self.running += 1
        run.holds_permit = True

    def refuse(self, refusal_of: Callable[[Standing], Refused | None]) -> None:
        """Refuse every first attempt in line that may not start; a retry asks again when its turn comes."""
        first_attempts = [run for run in self.waiting if run.number == 0]
        if self.newest is not None:
            first_attempts.append(self.newest)
        for run in first_attempts:
            if (refused := refusal_of(run)) is None:
                continue
            if run.turn is not None and not run.turn.done():
                run.turn.set_result(refused)
            self._leave(run)
            self.standing.pop(run, None)


async def turn_of(run: Standing, until: float | None) -> Refused | None:
    """Wait for a run's turn until a moment. None: it holds a permit. Refused (wait_over): it still stands in line."""
    turn = run.turn
    assert turn is not None, "only a run that waits has a turn to come"
    loop = asyncio.get_running_loop()
    timer = None if until is None else loop.call_at(until, _end_waiting, turn, context=Context())
    try:
        refused = await turn
    finally:
        if timer is not None:
            timer.cancel()
    if refused is _OVER:
        return Refused(Refusal.WAIT_OVER, f"its turn did not come within {run.policy.gate.wait_s:g} s")
    run.turn = None
    return refused


def _end_waiting(turn: "asyncio.Future[Refused | None]") -> None:
    if not turn.done():
        turn.set_result(_OVER)
