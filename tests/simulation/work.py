"""The work of a simulation: does what a play says, and writes down what it does."""

import asyncio
import types
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from policies.failure import Kind
from policies.policy import Policy
from supervisor import (
    Alive,
    Attempt,
    Failure,
    RunFailed,
    RunRefused,
    RunReport,
    Stopped,
    Supervisor,
)
from supervisor.subagents import Child
from supervisor.testing.cancelling import cancelled_at
from tests.simulation.commands import PlayedCommand
from tests.simulation.endings import Context, end_as, how_of, kind_of
from tests.simulation.facts import WHO, BodyFacts, Facts, RunFacts
from tests.simulation.scenario import Agents, Beat, Job, Lock, Nested, Open, Play, Sleep, Step

T = TypeVar("T")


class Troupe:
    """Plays the plays of one simulation."""

    def __init__(self, facts: Facts, supervisor: Supervisor, policies: Mapping[str, Policy]) -> None:
        self.facts = facts
        self.supervisor = supervisor
        self.policies = policies
        self.curtain = asyncio.Event()  # work that never ends, ends
        self.ending = False
        self._opened = 0

    def enlist(self, job: Job, key: str, parent: BodyFacts | None = None) -> RunFacts:
        """Make the facts of a run that is about to be asked for."""
        above = None if parent is None else parent.run
        run = RunFacts(key, job.session, self.policies[job.policy], above, job.lock)
        self.facts.admitted(run)
        if parent is not None:
            run.parents_attempt = parent.number
            parent.run.children.append(run)
        self.facts.runs[key] = run
        self.facts.note("asked_for", run, shown=f"{job.session} {job.policy}")
        return run

    async def call(self, run: RunFacts, job: Job, places: Mapping[int, int] | None = None) -> RunReport:
        """Be the caller of a run; come out as it comes out."""
        token = WHO.set(run)
        try:
            operation = self.supervisor.run(job.session, self.work(run, job), policy=job.policy, lock=job.lock or None)
            if places:
                report = await cancelled_at(operation, places, lambda: self.cancelling(run))
            else:
                report = await operation
        except BaseException as error:
            self.over(run, error)
            raise
        finally:
            WHO.reset(token)
        self.over(run, report)
        return report

    def cancelling(self, run: RunFacts) -> None:
        """Write down that its caller is about to be cancelled."""
        run.cancelled = True
        self.facts.note("cancelling", run)

    def over(self, run: RunFacts, end: Any) -> None:
        """Write down how a run came out: a report, or what was raised."""
        run.ended_at = self.facts.clock.now()
        said = f"{end.report.status} {end.report.reason}" if hasattr(end, "report") else type(end).__name__
        self.facts.note("over", run, end, shown=said)

    def work(self, run: RunFacts, job: Job) -> Any:
        """Return the work of a job: a command, a function, or where a play has a far end, an object that is work."""
        if job.trees:
            return PlayedCommand(self, run, job)
        if any(play.remote_s is not None for play in job.plays):
            return _Remote(self, run, job)
        return lambda attempt: self.attempt(run, job, attempt)

    async def attempt(self, run: RunFacts, job: Job, attempt: Attempt) -> str:
        facts, number = self.facts, attempt.number
        play = job.plays[min(number, len(job.plays)) - 1]
        now = facts.clock.now()
        body = BodyFacts(run, number, now, now, attempt_deadline=limit(run, now))
        context = Context()
        body.context = weakref.ref(context)
        facts.note("body_starting", body, shown=str(number))
        run.bodies[number] = body
        try:
            value = await seen(self._play(play, body, attempt, context), partial(self._thrown, body))
        except BaseException as error:
            body.raised = type(error).__name__
            self._end(body, play, how_of(error), kind_of(error), str(error))
            raise
        self._end(body, play, "returned", "", "")
        return value

    def _end(self, body: BodyFacts, play: Play, how: str, kind: str, text: str) -> None:
        body.how, body.kind, body.text = how, kind, text
        body.ended_at = body.last_at = self.facts.clock.now()
        if play.remote_s is not None:
            body.remote_until = body.ended_at + play.remote_s
        self.facts.note("body_ended", body, shown=f"{body.number} {how} {kind}")

    async def _play(self, play: Play, body: BodyFacts, attempt: Attempt, context: Context) -> str:
        try:
            for step in play.steps:
                await self._step(step, body, attempt, context)
            if play.ending == "hang":
                await asyncio.get_running_loop().create_future()
            if play.ending == "together":
                await self._be_together()
            return end_as(play, body, context)
        except asyncio.CancelledError:
            if self.ending or body.text == "by itself":
                raise
            self._told(body)
            if play.on_cancel == "obey":
                raise
            await self._go_on(play, body)
            if play.on_cancel == "cleanup":
                raise
        if play.on_cancel == "outraise":
            raise Failure(Kind.NETWORK, f"raised late in attempt {body.number} of {body.run.key}")
        return "late"

    def _thrown(self, body: BodyFacts) -> None:
        """A cancellation reaches the attempt's task; one for a run within it is not for the attempt."""
        body.thrown_at.append(self.facts.clock.now())
        if body.within:
            return
        if body.told_at is not None and not self.ending:
            self.facts.note("told_again", body, shown=str(body.number))
        self._told(body)

    def _told(self, body: BodyFacts) -> None:
        if body.told_at is None and not self.ending:
            # Of several, all but one were for a run within: the stop comes when its time is over.
            body.told_at = min(body.thrown_at, key=lambda at: abs(at - body.attempt_deadline))
            self.facts.note("told", body, shown=str(body.number))

    def expect(self, number: int) -> None:
        """The next so many attempts that are to be together wait for each other."""
        self._missing, self._together = number, asyncio.Event()

    async def _be_together(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._together.set()
        await self._together.wait()

    async def _go_on(self, play: Play, body: BodyFacts) -> None:
        """Go on after the cancellation, whoever cancels again."""
        clock = self.facts.clock
        until = clock.now() + play.for_s
        while not self.ending and (clock.now() < until or play.on_cancel == "never"):
            try:
                if play.on_cancel == "never":
                    await self.curtain.wait()
                else:
                    await clock.sleep(until - clock.now())
            except asyncio.CancelledError:
                pass

    async def _step(self, step: Step, body: BodyFacts, attempt: Attempt, context: Context) -> None:
        match step:
            case Sleep():
                await self.facts.clock.sleep(step.for_s)
            case Beat():
                attempt.heartbeat()
                body.beat_at = self.facts.clock.now()
            case Lock():
                body.locking = True
                await attempt.lock(step.path)
                body.locking = False
            case Open():
                await self._open(step, body, attempt, context)
            case Nested():
                await self._nested(step, body)
            case Agents():
                await self._agents(step, body, attempt)

    # --- the scope

    async def _open(self, step: Open, body: BodyFacts, attempt: Attempt, context: Context) -> None:
        self._opened += 1
        body.had_scope = True
        name = f"thing {self._opened}"
        if step.how == "enter":
            await attempt.enter(self._manager(name, step, body, context))
        else:
            body.open[name] = step.then
            attempt.callback(self._close, name, step, body, context)

    @asynccontextmanager
    async def _manager(self, name: str, step: Open, body: BodyFacts, context: Context) -> AsyncGenerator[Context]:
        body.open[name] = step.then
        try:
            yield context
        finally:
            await self._close(name, step, body, context)

    async def _close(self, name: str, step: Open, body: BodyFacts, context: Context) -> None:
        """Release one thing, in the way it was drawn to."""
        self.facts.note("closing", body, name, shown=name)
        try:
            await self.facts.clock.sleep(step.takes_s)
            if step.then == "hangs":
                await asyncio.get_running_loop().create_future()
            if step.then == "stubborn":
                until = self.facts.clock.now() + step.stubborn_s
                while not self.ending and (left := until - self.facts.clock.now()) > 0:
                    with suppress(asyncio.CancelledError):
                        await self.facts.clock.sleep(left)
            if step.then == "raises":
                raise OSError(f"{name} cannot be closed")
        finally:
            body.open.pop(name, None)
            body.last_at = self.facts.clock.now()
            self.facts.note("closed", body, name, shown=name)

    # --- runs within

    async def _nested(self, step: Nested, body: BodyFacts) -> None:
        body.within += 1
        try:
            await self.call(self.enlist(step.job, _key(body), body), step.job)
        except (RunFailed, RunRefused):
            if step.strict:
                raise
        finally:
            body.within -= 1

    async def _agents(self, step: Agents, body: BodyFacts, attempt: Attempt) -> None:
        async with attempt.subagents(limit=step.limit) as children:
            handles: list[Child] = []
            for job in step.jobs:
                run = self.enlist(job, _key(body), body)
                token = WHO.set(run)
                handles.append(children.spawn(job.session, self.work(run, job), policy=job.policy))
                WHO.reset(token)
                run.task = weakref.ref(handles[-1]._task)
                handles[-1]._task.add_done_callback(partial(self._child_over, run))
            if step.cancel_after_s is not None:
                await self.facts.clock.sleep(step.cancel_after_s)
                if not handles[-1].done:
                    self.cancelling(run)
                    handles[-1].cancel()

    def _child_over(self, run: RunFacts, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            self.over(run, asyncio.CancelledError())
        else:
            self.over(run, task.exception() or task.result())


def _key(body: BodyFacts) -> str:
    return f"{body.run.key}.{body.number}/{len(body.run.children) + 1}"


@types.coroutine
def seen(work: Coroutine[Any, Any, T], on_cancel: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await the work, and tell of each cancellation that is thrown into it."""
    step: Callable[[Any], Any] = work.send
    given: list[Any] = [None]
    while True:
        try:
            pending = step(given.pop())
        except StopIteration as ended:
            value: T = ended.value
            return value
        try:
            given.append((yield pending))
            step = work.send
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                on_cancel()
            given.append(error)
            step = work.throw


class _Remote:
    """Work with a far end, which lives on for a while after its task and answers when asked."""

    def __init__(self, troupe: Troupe, run: RunFacts, job: Job) -> None:
        self._troupe, self._run, self._job = troupe, run, job

    def start(self, attempt: Attempt) -> Awaitable[str]:
        return self._troupe.attempt(self._run, self._job, attempt)

    async def confirm_stopped(self, attempt: Attempt) -> Stopped | Alive:
        facts = self._troupe.facts
        body = self._run.bodies.get(attempt.number)
        facts.note("asked", self._run, shown=str(attempt.number))
        if body is None:
            return Stopped("never begun")
        play = self._job.plays[min(attempt.number, len(self._job.plays)) - 1]
        if play.confirm != "ok" and not body.confirm_trouble:
            body.confirm_trouble = True
            if play.confirm == "raises":
                raise OSError("the far end does not answer")
            await asyncio.get_running_loop().create_future()
        now = facts.clock.now()
        if body.ended_at is None or (body.remote_until is not None and now < body.remote_until):
            return Alive(f"the far end of {self._run.key}")
        return Stopped("the far end has stopped")


def limit(run: RunFacts, now: float) -> float:
    """The moment by which an attempt that starts now must be told to end."""
    timeout_s = run.policy.attempt.timeout_s
    return run.deadline if timeout_s is None else min(run.deadline, now + timeout_s)
