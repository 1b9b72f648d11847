"""A run under way, as the steps see it: what it is, what it holds, and who wants it to stop."""

import asyncio
from typing import TYPE_CHECKING, Any

from policies.policy import Policy
from policies.verdict import Reason, Retry
from supervisor.attempt import Attempt
from supervisor.effects import Effects
from supervisor.report import AttemptReport
from supervisor.store.contract import Standing

if TYPE_CHECKING:
    from supervisor.steps.host_limits import HostLimits
    from supervisor.work.contract import ParkedWork


class NotedCancellation(asyncio.CancelledError):
    """Ends a run for a cancellation that it took note of before: it says nothing new, least of all whose it was."""


class Running(Standing):
    """One run.

    Attributes:
        host: the host's limits; None where none is set.
        holds_slot: it has one of the host's slots.
        start_charged: this attempt has had its start from `limits.starts`.
        parks: its work, where that is made ready before an attempt begins.
        reports: of the attempts that have ended.
        interrupted: the reason for which another run, or the supervisor, wants it to end.
        cancelled: its caller was cancelled: the arguments of that CancelledError.
        parent_attempt: the attempt within which it was started.
        is_beginning: the store is asked to begin an attempt, and has not answered yet.
        given_id: its id, where that says more than who started it.
        rests_until: the moment at which its next attempt is due, while it waits for that.
        resumes: the verdict with which another process, that is dead, would have gone on.
    """

    # Defaults of the class: a run is made on each call, and most never set most of them.
    host: "HostLimits | None" = None
    holds_slot = False
    start_charged = False
    parks: "ParkedWork[Any] | None" = None
    is_beginning = False
    interrupted: Reason | None = None
    cancelled: tuple[Any, ...] | None = None
    fatal: BaseException | None = None  # KeyboardInterrupt or SystemExit, raised once the run is over
    parent_attempt: Attempt | None = None
    given_id: str | None = None
    resumes: Retry | None = None
    rests_until: float | None = None
    _interrupting = False

    def __init__(
        self,
        identity: str,
        count: int,
        session: str,
        work: Any,
        policy: Policy,
        effects: Effects,
        parent: Attempt | None,
        outer: Standing | None,
    ) -> None:
        self._identity = identity
        self._count = count
        self.session = session
        self.work = work
        self.policy = policy
        self.effects = effects
        self.reports: list[AttemptReport] = []
        clock = effects.clock
        self.started_at = now = clock.now()
        self.started_unix = clock.wall()
        deadline_s = policy.budget.deadline_s
        self.deadline = None if deadline_s is None else now + deadline_s
        if parent is not None:
            self.parent_attempt = parent
            outer = parent._run
        if outer is not None:
            self.parent = outer
            above = outer.deadline
            if above is not None and (self.deadline is None or above < self.deadline):
                self.deadline = above
        task = asyncio.current_task()
        assert task is not None, "a run is awaited in a task"
        self.task: asyncio.Task[Any] = task
        self._base_cancels = task.cancelling()

    @property
    def run_id(self) -> str:
        return self.given_id or f"{self._identity}-{self._count}"

    @property
    def begins_at_once(self) -> bool:
        return self.host is None and self.lock_path is None and self.parks is None

    @property
    def stopped(self) -> Reason | None:
        """Why nothing more may start, whatever the attempts came to; None: nobody asked."""
        return self.interrupted if self.cancelled is None and self.fatal is None else Reason.CANCELLED

    def interrupt(self, reason: Reason) -> None:
        """End the run wherever it waits; an attempt of it is stopped, released and recorded first.

        It goes the way of a cancellation, which `note_cancelled` tells apart from one by the caller.
        """
        if self.interrupted is None and hasattr(self, "task"):  # one that is over has no task any more
            self.interrupted = reason
            self._interrupting = True
            self.task.cancel()

    def note_cancelled(self, error: asyncio.CancelledError) -> None:
        """Take note of a CancelledError that was raised in this run: by its caller, or by `interrupt`."""
        if isinstance(error, NotedCancellation):
            return
        if self._interrupting:
            self._interrupting = False
            self.task.uncancel()
            if self.task.cancelling() <= self._base_cancels:
                return
        self.cancelled = error.args

    def forget(self) -> None:
        """The run is over. Its work and its task may lead to all that an attempt has made, and a cancelled timer of the
        work still leads here: it keeps the context that it was set in, and with it `current_attempt()`.
        """
        self.work = None
        if self.parks is not None:
            self.parks.over(self.run_id)
            self.parks = None
        del self.task

    def about(self) -> tuple[str, str, float]:
        """Return the fields that every event begins with."""
        return self.session, self.run_id, self.effects.clock.wall()
