"""Release: everything on the attempt's scope, in reverse order, on every exit, each step bounded. Then the receipt."""

import asyncio
from contextvars import Context, copy_context
from inspect import isawaitable
from typing import Any, Final

from policies.failure import Gone, Receipt, Unknown
from supervisor.attempt import Attempt, Held
from supervisor.recovery.left_behind import Left
from supervisor.steps.running import Running
from supervisor.tasks import Now, context_of, start_plain, wait_until
from supervisor.work.call import text_of
from supervisor.work.contract import Alive, Stopped, Work
from supervisor.work.let_go import let_go

ENDED: Final = Gone(("task ended",))
"""The receipt of an attempt whose task has ended and that held nothing."""

_ENDED: Final[tuple[Gone, None]] = (ENDED, None)

_NEVER_STARTED: Final = "never started"
_MOST_OF_A_STEP: Final = 500


class _Release:
    """One release in progress: what was done, what may still live, and how its end would be seen.

    Its steps run in the attempt's own context, so that what a manager has set in a context variable it can reset. It
    holds all that the work has put there, and is let go of with the last step.
    """

    def __init__(self, run: Running, attempt: Attempt, context: Context) -> None:
        self.run = run
        self.attempt = attempt
        self.context = context
        self.steps: list[str] = []
        self.alive: list[str] = []
        self.left = Left()
        self.overdue: list[tuple[str, asyncio.Task[Any]]] = []
        self.raised: list[BaseException] = []
        self.processes_killed = 0
        self.lock_reclaimed = False
        self.until = run.effects.clock.now() + run.policy.attempt.grace_s
        self.proof_s = 0.0

    def see_task(self, task: "asyncio.Task[None] | None") -> None:
        """Note whether the attempt's own task has ended, and the runs that were started within it."""
        attempt = self.attempt
        if task is not None and not task.done():
            self.alive.append(
                f"task of attempt {attempt.number} of run {attempt.run_id}, which ignores its cancellation"
            )
            self.left.tasks.append(task)
        else:
            self.steps.append(_NEVER_STARTED if task is None else ENDED.steps[0])
        attempt._left = self.left
        for what, child in attempt._children_left or ():
            self.alive.append(what)
            self.left.below.append(child)

    async def wait_for(self, task: "asyncio.Task[Any]", until: float) -> bool:
        """Wait for a task until a moment, whoever cancels the run meanwhile; where that has passed, for its first step.

        A task that is cancelled before its first step never runs: what it should have released would stay.
        """
        while True:
            try:
                await wait_until(task, until)
            except asyncio.CancelledError as error:
                self.run.note_cancelled(error)
            else:
                return task.done()

    def share_until(self, waiting: int) -> float:
        """Return until when one step may take: half of what is left while others wait, all of it for the last."""
        now = self.run.effects.clock.now()
        left = max(0.0, self.until - now)
        return now + (left / 2 if waiting else left)

    async def let_go(self, held: Held, error: BaseException | None, waiting: int) -> None:
        try:
            answer = self.context.run(held.let_go, error)
            if not isawaitable(answer):
                # A lock says how it was let go. What anything else returns is its own: a value, perhaps a secret.
                self.steps.append(answer if held.guards_session and isinstance(answer, str) else held.name)
                return
            task = start_plain(_awaited(answer), self.context)
        except BaseException as raised:
            self.steps.append(f"{held.name}: {_text(raised)}")
            self.raised.append(raised)
            if isinstance(raised, KeyboardInterrupt | SystemExit):
                self.run.fatal = raised
            return
        if not await self.wait_for(task, self.share_until(waiting)):
            task.cancel()
            self.overdue.append((held.name, task))
            return
        self.steps.append(f"{held.name}{self.how_it_ended(task)}")

    def how_it_ended(self, task: "asyncio.Task[Any]") -> str:
        """Return how a step ended, and keep what it raised until the others have seen the failure it may lead to."""
        if (raised := _raised_by(task)) is not None:
            self.raised.append(raised)
        return _how_it_ended(task)

    async def confirm(self, work: Work[Any], waiting: int) -> None:
        """Ask work that reaches beyond this process whether it has ended there; if not, it is asked again later."""
        before, attempt = len(self.alive), self.attempt
        until = max(self.share_until(waiting), self.run.effects.clock.now() + self.proof_s)
        await self._ask(work, until)
        if len(self.alive) > before:
            self.left.ask.append(lambda: _has_stopped(work, attempt))

    async def _ask(self, work: Work[Any], until: float) -> None:
        if self.run.parks is not None:  # its stop has time for a proof; what is left of that is here to hear it
            told_at, grace_s = self.attempt._stop_at, self.run.policy.attempt.grace_s
            began = self.run.effects.clock.now() if told_at is None else told_at
            until = max(until, began + grace_s + self.run.parks.proof_s)
        task = start_plain(_asked(work, self.attempt))
        if not await self.wait_for(task, until):
            task.cancel()
            task.add_done_callback(_let_go_of)
            self.alive.append("the work did not say in time whether it has stopped")
            return
        if task.cancelled() or (raised := task.exception()) is not None:
            self.alive.append("the work could not say whether it has stopped" + self.how_it_ended(task))
            return
        del raised
        match task.result():
            case Stopped() as stopped:
                self.steps.append(_bounded(stopped.step or "the work confirmed that it has stopped"))
                self.processes_killed += stopped.processes_killed
                self.lock_reclaimed = self.lock_reclaimed or stopped.lock_reclaimed
            case Alive(what):
                self.alive.append(_bounded(what))
            case other:
                self.alive.append(f"the work answered {type(other).__name__}, not Stopped or Alive")

    async def settle(self) -> None:
        """See which overdue steps have ended by now, a moment after they were cancelled."""
        now = self.run.effects.clock.now()
        for name, task in self.overdue:
            if await self.wait_for(task, max(self.until, now + 0.05)):
                how = self.how_it_ended(task)
                how = ", cancelled" if task.cancelled() else how
                self.steps.append(f"{name}: overdue{how}")
            else:
                task.add_done_callback(_let_go_of)
                self.alive.append(f"release step {name!r} of attempt {self.attempt.number} of run {self.run.run_id}")
                self.left.tasks.append(task)


def release(run: Running, attempt: Attempt, error: BaseException | None) -> Now[tuple[Receipt, Left | None]]:
    """Release what the attempt holds; return the receipt, and what must be watched where it is unknown.

    What keeps others out of the session (a lock) is let go last, and only when nothing may still live.
    """
    attempt._ended = True
    task, scope = attempt._task, attempt._scope
    if task is not None and task.done():
        # The task keeps its context, whose variables the work may have set, and which names the attempt: a circle.
        attempt._task = None
    if scope is None and attempt._task is None and attempt._children_left is None and callable(run.work):
        if task is None:  # told to end, or refused its lock, before it was launched
            return Gone((_NEVER_STARTED,)), None
        if attempt._stop_at is None:
            return _ENDED
        return Gone(ENDED.steps, run.effects.clock.now() - attempt._stop_at), None
    context = copy_context() if task is None else context_of(task)
    return _release_all(_Release(run, attempt, context), task, scope or [], error)


async def _release_all(
    going: _Release, task: "asyncio.Task[None] | None", scope: list[Held], error: BaseException | None
) -> tuple[Receipt, Left | None]:
    run, attempt = going.run, going.attempt
    began = run.effects.clock.now() if attempt._stop_at is None else attempt._stop_at
    going.see_task(task)
    attempt._scope = None
    guards = [held for held in reversed(scope) if held.guards_session]
    others = [held for held in reversed(scope) if not held.guards_session]
    if task is None and run.parks is not None:  # it waits for the word: its end was not asked for yet
        going.proof_s = run.parks.proof_s
        going.until += going.proof_s
    if not callable(run.work) and (task is not None or run.parks is not None):
        await going.confirm(run.work, len(others))
    for place, held in enumerate(others, start=1):
        await going.let_go(held, error, len(others) - place)
    await going.settle()
    for raised in going.raised:
        let_go(raised)
    if not going.alive:
        for held in guards:
            await going.let_go(held, error, 0)
        seconds = run.effects.clock.now() - began
        return Gone(tuple(going.steps), seconds, going.processes_killed, going.lock_reclaimed), None
    going.left.guards = guards
    steps = (*going.steps, *(f"{held.name} stays until that has ended" for held in guards))
    return Unknown(tuple(going.alive), steps, run.effects.clock.now() - began, going.processes_killed), going.left


async def _asked(work: Work[Any], attempt: Attempt) -> Any:
    return await work.confirm_stopped(attempt)  # called in here: it may raise before there is anything to await


async def _has_stopped(work: Work[Any], attempt: Attempt) -> bool:
    """Ask again, within the grace: no answer is no proof, and must not end the asking."""
    task = start_plain(_asked(work, attempt))
    task.add_done_callback(_let_go_of)
    try:
        await wait_until(task, asyncio.get_running_loop().time() + attempt._run.policy.attempt.grace_s)
    finally:
        task.cancel()
    return task.done() and _how_it_ended(task) == "" and isinstance(task.result(), Stopped)


async def _awaited(answer: Any) -> Any:
    return await answer


def _text(error: BaseException) -> str:
    return _bounded(f"{type(error).__name__}: {text_of(error)}".rstrip(": "))


def _bounded(text: object) -> str:
    """A receipt is kept with its report, and told to every listener."""
    text = str(text)
    return text if len(text) <= _MOST_OF_A_STEP else f"{text[: _MOST_OF_A_STEP - 2]} …"


def _raised_by(task: "asyncio.Task[Any]") -> BaseException | None:
    """Return what a task has raised, its CancelledError too: the task keeps that as well."""
    if not task.cancelled():
        return task.exception()
    try:
        task.result()
    except asyncio.CancelledError as error:
        return error
    return None


def _let_go_of(task: "asyncio.Task[Any]") -> None:
    if (raised := _raised_by(task)) is not None:
        let_go(raised)


def _how_it_ended(task: "asyncio.Task[Any]") -> str:
    if task.cancelled():
        return ": cancelled"
    raised = task.exception()
    return "" if raised is None else f": {_text(raised)}"
