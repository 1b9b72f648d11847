"""Supervisor: opens store and clock, starts runs, and stops them on leaving."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from policies.policy import Policy
from policies.verdict import Reason
from supervisor.alarms import Alarms
from supervisor.arguments import LONGEST_KEY, check_policies, check_session, lock_path_of, policy_of
from supervisor.attempt import CURRENT, must_be_work
from supervisor.clock import Clock, clock_of
from supervisor.effects import Effects
from supervisor.equipment import alerts_of, launcher_of, lost_runs_of, store_of
from supervisor.errors import RunFailed, RunRefused
from supervisor.events import Delivery, Event, Events, Listener
from supervisor.lock.session_lock import LockFiles, SystemLockFiles
from supervisor.recovery.left_behind import Recovery
from supervisor.report import RunReport, Status
from supervisor.run import supervise
from supervisor.settings.values import Limits, Settings, embedded_settings
from supervisor.steps.available_memory import available_memory
from supervisor.steps.running import Running
from supervisor.steps.stop import time_is_up
from supervisor.store.contract import Standing, Store
from supervisor.tasks import Pending, StartTask, start_eager, wait_until
from supervisor.tree.contract import Launcher
from supervisor.work.contract import AnyWork, ParkedWork

if TYPE_CHECKING:
    from supervisor.alerts.listener import Alerts
    from supervisor.recovery.lost_runs import OwnerDeath
    from supervisor.steps.host_limits import HostLimits

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("turnkeeper")


class Supervisor:
    """Runs agent turns under policies. Use it as `async with Supervisor() as supervisor:`.

    Without settings it runs on the embedded defaults. `policies` adds or replaces policies by name. `outer` is the run
    of another process within which this one was started. The other arguments are the effects that a test replaces;
    each has a real default.
    """

    def __init__(  # noqa: PLR0913 - each effect by its name
        self,
        settings: Settings | None = None,
        *,
        policies: Mapping[str, Policy] | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
        locks: LockFiles | None = None,
        start_task: StartTask[Any] | None = None,
        launcher: Launcher | None = None,
        memory: Callable[[], int] = available_memory,
        owner_death: "OwnerDeath | None" = None,
        outer: Standing | None = None,
    ) -> None:
        self._settings = embedded_settings() if settings is None else settings
        self._given_policies = dict(policies or {})
        self._policies = {**self._settings.policies, **self._given_policies}
        check_policies(self._policies)
        self._default = self._policies["default"]
        self._clock, self._store, self._locks, self._start_task = clock, store, locks, start_task
        self._launcher = launcher
        self._memory = memory
        self._owner_death = owner_death
        self._outer = outer
        self._events = Events()
        self._runs: dict[Running, None] = {}
        self._count = 0
        self._effects: Effects | None = None
        self._alerts: Alerts | None = None
        self._closed = False
        self._all_over: asyncio.Future[None] | None = None

    @classmethod
    def from_settings(cls, path: str | PathLike[str] | None = None, **overrides: Any) -> Self:
        """Read settings.toml (at `path`, else where the command looks for it), the environment, then `overrides`.

        Raises SettingsError with every problem at once.
        """
        from supervisor.settings.read import read_settings

        return cls(read_settings(None if path is None else Path(path), overrides=overrides or None))

    # --- its lifetime

    async def __aenter__(self) -> Self:
        if self._effects is not None:
            raise RuntimeError("a Supervisor is entered once; make a new one")
        loop = asyncio.get_running_loop()
        clock = self._clock or clock_of(loop)
        limits = self._settings.limits
        store = self._store or store_of(self._settings.state)
        opened = store.open(clock, self._events, limits.retries)
        if isinstance(opened, Pending):
            await opened
        start_task = self._start_task or getattr(loop, "turnkeeper_start_task", None) or start_eager
        self._recovery = Recovery(clock, store)
        self._effects = Effects(
            clock=clock,
            store=store,
            locks=self._locks or SystemLockFiles(clock),
            events=self._events,
            start_task=start_task,
            available_memory=self._memory,
            alarms=Alarms(time_is_up),
            recovery=self._recovery,
            supervise=self.run,
            over=self._over,
            launcher=launcher_of(self._launcher, clock, store),
        )
        self._identity = f"run-{clock.token(6)}"
        self._host = _host_limits(limits, self._effects)
        self._alerts = alerts_of(self._settings.alerts, self._effects)
        self._lost = lost_runs_of(self._effects, self._owner_death)
        if self._lost is not None:
            try:
                await self._lost.look()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel every run and wait for it, at most 2 × the longest grace + 1 s; log what was not proved gone.

        Alerts that it has claimed are told before it is left, for at most the longest of their timeouts.
        """
        effects = self._effects
        assert effects is not None, "it was entered"
        self._closed = True
        try:
            await self._stop_runs(effects)
        finally:
            for what in await self._recovery.close():
                _log.warning("%s stays quarantined: what it left was not seen to end", what)
            effects.alarms.close()
            if self._lost is not None:
                await self._lost.close()
            await self._events.drain(1.0)
            if self._alerts is not None:
                await self._alerts.close()
            closed = effects.store.close()
            if isinstance(closed, Pending):
                await closed

    async def _stop_runs(self, effects: Effects) -> None:
        grace_s = max((run.policy.attempt.grace_s for run in self._runs), default=0.0)
        until = effects.clock.now() + 2 * grace_s + 1.0
        here = asyncio.current_task()
        for run in tuple(self._runs):
            if run.task is not here:
                run.interrupt(Reason.CLOSED)
        while self._runs and effects.clock.now() < until:
            self._all_over = asyncio.get_running_loop().create_future()
            await wait_until(self._all_over, until)
        for run in self._runs:
            _log.warning("run %s of session %r was not over when the supervisor closed", run.run_id, run.session)

    # --- runs

    async def run(
        self,
        session: str,
        work: AnyWork,
        *,
        policy: str | Policy | None = None,
        lock: str | PathLike[str] | None = None,
    ) -> RunReport:
        """Run work for a session under a policy, and return its report once it has succeeded.

        Args:
            session: the key of the conversation whose turns must not overlap: 1 to 512 characters, none a control
                character. It is never used as a path.
            work: called with an Attempt; what it returns is awaited. Or anything with the Work protocol.
            policy: its name, "default" if left out. A Policy object is taken as it is.
            lock: the session's file; `<lock>.lock` is held during each attempt.

        Raises:
            RunFailed: no attempt succeeded; its report has each of them.
            RunRefused: the run was not allowed to start.
            ValueError: for an unknown policy, a bad session key or an empty lock path.
            asyncio.CancelledError: the caller was cancelled; the attempt was stopped and released first.
        """
        report = await supervise(self.new_run(session, work, policy, lock))
        if report.status is Status.SUCCEEDED:
            return report
        if report.status is Status.REFUSED:
            raise RunRefused(report)
        raise RunFailed(report)

    async def run_report(
        self,
        session: str,
        work: AnyWork,
        *,
        policy: str | Policy | None = None,
        lock: str | PathLike[str] | None = None,
    ) -> RunReport:
        """The same, but the report tells how the run ended: nothing is raised but for a cancelled caller."""
        return await supervise(self.new_run(session, work, policy, lock))

    def new_run(
        self, session: str, work: AnyWork, policy: str | Policy | None, lock: str | PathLike[str] | None
    ) -> Running:
        """Return a run that is not carried out yet: `supervise` does, in the task that this is called in."""
        effects = self._effects
        if effects is None or self._closed:
            raise RuntimeError("runs are started inside `async with Supervisor() as supervisor:`")
        if not (session.__class__ is str and 0 < len(session) <= LONGEST_KEY and session.isprintable()):
            check_session(session)
        parks = None
        if not callable(work):
            must_be_work(work)
            parks = work if isinstance(work, ParkedWork) else None
        rules = self._default if policy is None else policy_of(policy, self._policies)
        self._count += 1
        within = CURRENT.get()
        if within is not None and within._ended:
            within = None
        run = Running(self._identity, self._count, session, work, rules, effects, within, self._outer)
        if self._host is not None:
            run.host = self._host
        if lock is not None:
            run.lock_path = lock_path_of(lock, effects.locks)
        if parks is not None:
            run.parks = parks
        elif not callable(work):
            run.reaches_out = True
        self._runs[run] = None
        return run

    def _over(self, run: Running) -> None:
        """A run has ended, however it ended."""
        del self._runs[run]
        if not self._runs and self._all_over is not None and not self._all_over.done():
            self._all_over.set_result(None)

    def supervised(
        self, *, session: str | Callable[..., str], policy: str | Policy | None = None
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """Make each call of an async function a run; it returns what the function returns.

        `session` is a key, or is called with the function's arguments to get one. Inside, `current_attempt()` is the
        attempt.
        """

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            @wraps(function)
            async def call(*args: P.args, **kwargs: P.kwargs) -> T:
                key = session(*args, **kwargs) if callable(session) else session
                report = await self.run(key, lambda _: function(*args, **kwargs), policy=policy)
                value: T = report.value
                return value

            return call

        return decorate

    def reload(self, settings: Settings) -> None:
        """Have other settings from now on: policies for new runs, limits also for those who wait for them, alerts.

        A run keeps the policy that it was admitted with. `[state]` stays as it is, as do the policies that were given
        beside the settings.
        """
        effects = self._effects
        assert effects is not None, "it was entered"
        self._policies = {**settings.policies, **self._given_policies}
        self._default = self._policies["default"]
        limits = settings.limits
        if self._host is None:
            self._host = _host_limits(limits, effects)
        else:
            self._host.change(limits.running, limits.starts, limits.min_available_memory_bytes)
        effects.store.change_host(limits.retries)
        if self._alerts is not None:
            self._alerts.change(settings.alerts)
        else:
            self._alerts = alerts_of(settings.alerts, effects)
        self._settings = settings

    async def look_for_the_lost(self) -> None:
        """Find the runs of processes that died meanwhile. They are looked for anyway while runs are under way here."""
        if self._lost is not None:
            await self._lost.look()

    def name_jobs(self, job_of: Callable[[str], str | None]) -> None:
        """Have alerts name the job whose tick a run is of: `job_of` tells it by the run's id."""
        assert self._effects is not None, "it was entered"
        self._effects.job_of = job_of

    def tell(self, event: Event) -> None:
        """Have the listeners get an event that is of no run."""
        self._events.emit(event)

    def on(self, listener: Listener, *, capacity: int = 1024) -> Delivery:
        """Add a listener of events: a function that must not block, or an async one.

        Its queue holds `capacity` events; more are dropped and counted in the returned Delivery.
        """
        return self._events.on(listener, capacity)

    def cancel(self, session: str) -> int:
        """End every run of a session that is under way here; return how many there are.

        Each attempt is stopped, released and recorded first; the runs end as cancelled, and raise RunFailed.
        """
        runs = [run for run in self._runs if run.session == session]
        for run in runs:
            run.interrupt(Reason.CANCELLED)
        return len(runs)

    async def reset(self, session: str) -> None:
        """Forget a session's breaker, tokens and quarantines: an operator says that it is well."""
        if self._effects is None:
            raise RuntimeError("reset() is for the inside of `async with Supervisor() as supervisor:`")
        await self._effects.store.reset(session)


def _host_limits(limits: Limits, effects: Effects) -> "HostLimits | None":
    """Return what keeps the limits of the host; None: there are none."""
    if not (limits.running or limits.starts or limits.min_available_memory_bytes):
        return None
    from supervisor.steps.host_limits import HostLimits

    wanted = (limits.running, limits.starts, limits.min_available_memory_bytes)
    return HostLimits(effects.clock, effects.store, *wanted)
