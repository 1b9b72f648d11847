"""The store as the checker sees it: each commit is noted, with what was asked and what was answered."""

from collections.abc import Callable
from typing import Any

from policies.breaker import State
from policies.budget import Bucket
from policies.failure import Failed, Receipt
from policies.verdict import Reason, Verdict
from supervisor.clock import Clock
from supervisor.events import Events
from supervisor.store.contract import Ending, Refused, Standing, Waiting
from supervisor.store.memory import MemoryStore
from tests.simulation.facts import WHO, Facts, RunFacts


class WatchedStore:
    """Passes every call on. What is noted, is noted in the same step as the commit."""

    alive = None

    def __init__(self, inner: MemoryStore, facts: Facts) -> None:
        self.inner = inner
        self._facts = facts
        facts.store = inner

    def open(self, clock: Clock, events: Events, host: Bucket | None) -> None:
        self.inner.open(clock, events, host)

    def close(self) -> None:
        self.inner.close()

    def change_host(self, host: Bucket | None) -> None:
        self.inner.change_host(host)

    async def slot(self, run: Standing, slots: Callable[[], int], rank: int, until: float | None) -> bool:
        return await self.inner.slot(run, slots, rank, until)

    async def give_slot(self, run: Standing) -> None:
        await self.inner.give_slot(run)

    def _who(self, run: Standing) -> RunFacts:
        who = self._facts.by_id.get(run.run_id)
        if who is None:
            who = self._facts.by_id[run.run_id] = WHO.get()
            who.run_id = run.run_id
        return who

    def _note(self, name: str, who: RunFacts, run: Standing, *args: Any, shown: str = "") -> None:
        self._facts.note(name, who, run, *args, shown=shown)
        self._facts.note("committed", who)

    def arrive(self, run: Standing) -> Refused | Waiting | None:
        who = self._who(run)
        self._facts.note("arriving", who, run)
        answer = self.inner.arrive(run)
        self._note("arrived", who, run, answer, shown=_said(answer))
        return answer

    async def turn(self, run: Standing, until: float | None) -> Refused | None:
        who = self._who(run)
        try:
            answer = await self.inner.turn(run, until)
        except BaseException:
            self._note("turn_broken", who, run)
            raise
        self._note("turned", who, run, answer, shown=_said(answer))
        return answer

    def leave(self, run: Standing) -> None:
        self.inner.leave(run)
        self._note("left", self._who(run), run)

    def begin(self, run: Standing) -> Refused | None:
        answer = self.inner.begin(run)
        self._note("began", self._who(run), run, answer, shown=f"{run.number} {_said(answer)}")
        return answer

    def record(self, run: Standing, failed: Failed | None, receipt: Receipt, stopped: Reason | None) -> Verdict:
        who = self._who(run)
        self._facts.note("recording", who, run, failed, receipt, stopped)
        verdict = self.inner.record(run, failed, receipt, stopped)
        kind = "succeeded" if failed is None else failed.kind.value
        shown = f"{run.number} {kind} {type(receipt).__name__} -> {_verdict(verdict)}"
        self._note("recorded", who, run, verdict, shown=shown)
        return verdict

    def end(self, run: Standing, ending: Ending) -> None:
        was_reserved, tokens = run.retry_reserved, run.tokens
        self.inner.end(run, ending)
        if was_reserved and not run.retry_reserved:
            self._facts.note("gave_back", self._who(run), run, tokens, shown=f"{tokens:g}")
        self._note("ended", self._who(run), run)

    async def breaker_moved(self, session: str, seen: State | None, until: float | None) -> None:
        await self.inner.breaker_moved(session, seen, until)

    async def lift(self, session: str, run_id: str) -> None:
        await self.inner.lift(session, run_id)
        self._facts.note("lifted", self._facts.by_id[run_id])

    async def reset(self, session: str) -> None:
        await self.inner.reset(session)
        self._facts.note("reset", session)


def _said(answer: Refused | Waiting | None) -> str:
    match answer:
        case None:
            return "yes"
        case Waiting():
            return "wait"
        case Refused():
            return f"refused {answer.reason.value}"


def _verdict(verdict: Verdict) -> str:
    reason = getattr(verdict, "reason", None)
    delay = getattr(verdict, "delay_s", None)
    said = type(verdict).__name__
    return said + (f" {reason.value}" if reason is not None else "") + (f" {delay:.4f}" if delay is not None else "")
