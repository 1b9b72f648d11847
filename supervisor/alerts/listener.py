"""The listener of events that tells an operator: what a supervisor with `[[alerts]]` has, and nobody else imports."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from policies.alerting import AlertKind, Send, Summary
from supervisor.alerts.ledger import AlertLedger, Claimed, Collected, MemoryLedger
from supervisor.alerts.message import Told, alert_json, kind_of, summary_json
from supervisor.alerts.notify import notify
from supervisor.clock import Clock
from supervisor.credentials import hide_credentials
from supervisor.events import AttemptEnded, RunEnded
from supervisor.log import seconds, short
from supervisor.settings.values import Alert
from supervisor.tasks import start_plain, wait_until

MOST_AT_ONCE: Final = 4
MOST_WAITING: Final = 64
MOST_UNCLAIMED: Final = 10_000
_MOST_REMEMBERED: Final = 4096

Notify = Callable[[Alert, bytes], Awaitable[str | None]]
"""Runs an alert's command with a message; returns what went wrong."""

C = TypeVar("C", Claimed, Collected)

_log = logging.getLogger("turnkeeper")


class Alerts:
    """Tells of events by the commands of `[[alerts]]`, as its ledger decides; runs do not wait for any of it.

    At most 4 commands run at once, and 64 wait. What is too much is counted and logged; so is what goes wrong, each
    once. `ledger` may be one of several processes: whoever sees a minute end tells of it, and what is held when all of
    them have ended is told by the next that starts, or claims. While it does not answer, this process has its own.
    `job_of` tells by a run's id whose tick it is.
    """

    def __init__(
        self,
        alerts: Sequence[Alert],
        clock: Clock,
        ledger: AlertLedger,
        notify: Notify = notify,
        job_of: Callable[[str], str | None] = lambda _run_id: None,
    ) -> None:
        self._alerts = alerts
        self._clock = clock
        self._ledger = ledger
        self._own = ledger if isinstance(ledger, MemoryLedger) else MemoryLedger(clock.now)
        self._notify = notify
        self._job_of = job_of
        self._kinds = frozenset(kind for alert in alerts for kind in alert.on)
        self._unclaimed: deque[tuple[AlertKind, Told, str | None]] = deque()
        self._claiming: asyncio.Task[None] | None = None
        self._collecting: asyncio.Task[None] | None = None
        self._collect_at: float | None = None
        self._is_asleep = False
        self._waiting: deque[tuple[Alert, bytes]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._failures: dict[str, str] = {}
        self._logged: set[str] = set()
        self._is_closed = False
        self.dropped = 0

    def change(self, alerts: Sequence[Alert]) -> None:
        """Tell by these from now on; what waits is told as it was."""
        self._alerts = alerts
        self._kinds = frozenset(kind for alert in alerts for kind in alert.on)

    def start(self) -> None:
        """Look for what processes that have ended left to be told."""
        self._collect_in(0.0)

    def __call__(self, event: Any) -> None:
        """Take note of an event: the listener itself."""
        if type(event) is AttemptEnded:
            self._remember(event)
            return
        failure = self._failures.pop(event.run_id, None) if type(event) is RunEnded else None
        kind = kind_of(event)
        if kind is None or kind not in self._kinds:
            return
        if len(self._unclaimed) >= MOST_UNCLAIMED:
            self._drop("the store does not keep up with them")
            return
        self._unclaimed.append((kind, event, failure))
        if self._claiming is None:
            self._claiming = start_plain(self._claim_all())

    async def close(self) -> None:
        """Tell of what was claimed, for at most the longest timeout of an alert; then stop what still runs."""
        self._is_closed = True
        loop = asyncio.get_running_loop()
        until = loop.time() + max((alert.timeout_s for alert in self._alerts), default=0.0)
        try:
            last = start_plain(self._last_words())
            if not await wait_until(last, until):
                last.cancel()
                await asyncio.wait((last,))
            while self._running and loop.time() < until:
                await asyncio.wait(self._running, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop()

    async def _last_words(self) -> None:
        if self._collecting is not None and self._is_asleep:
            self._collecting.cancel()
        if under_way := [task for task in (self._claiming, self._collecting) if task is not None]:
            await asyncio.wait(under_way)
        await self._collect(leaving=True)

    async def _stop(self) -> None:
        self.dropped += len(self._waiting) + len(self._unclaimed)
        self._waiting.clear()
        self._unclaimed.clear()
        tasks = {*self._running, *(task for task in (self._claiming, self._collecting) if task is not None)}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.dropped:
            _log.warning("%d alerts were not told", self.dropped)

    # --- what is claimed

    def _remember(self, event: AttemptEnded) -> None:
        """Keep how the attempt failed, in a line: the end of its run may be told, and does not say it."""
        failed = event.attempt.failure
        if failed is None or AlertKind.GIVE_UP not in self._kinds:
            return
        self._failures.pop(event.run_id, None)
        self._failures[event.run_id] = f"{failed.kind}: {short(hide_credentials(failed.message))}"
        if len(self._failures) > _MOST_REMEMBERED:  # ends that were never told: a full queue dropped them
            for run_id in tuple(islice(self._failures, len(self._failures) // 2)):
                del self._failures[run_id]

    async def _claim_all(self) -> None:
        try:
            while self._unclaimed:
                kind, event, failure = self._unclaimed[0]
                claimed = await self._asked(self._ledger.claim(kind, event.session))
                if claimed is None:
                    claimed = await self._own.claim(kind, event.session)
                self._unclaimed.popleft()
                if claimed.summary is not None:
                    self._tell_summary(claimed.summary)
                if isinstance(claimed.answer, Send):
                    message = alert_json(kind, event, self._job_of(event.run_id), claimed.answer.repeats, failure)
                    self._tell(message, (alert for alert in self._alerts if kind in alert.on))
                self._collect_in(claimed.wait_s)
        finally:
            self._claiming = None

    async def _asked(self, asking: Awaitable[C]) -> C | None:
        try:
            return await asking
        except Exception as error:  # StoreUnavailable above all
            self._log_once(f"alerts are grouped by this process alone: {error}")
            return None

    def _collect_in(self, wait_s: float | None) -> None:
        if wait_s is None or self._is_closed:
            return
        at = self._clock.now() + wait_s
        self._collect_at = at if self._collect_at is None else min(at, self._collect_at)
        if self._collecting is None:
            self._collecting = start_plain(self._collect_when_due())

    async def _collect_when_due(self) -> None:
        try:
            while self._collect_at is not None:
                self._is_asleep = True
                await self._clock.sleep(self._collect_at - self._clock.now())
                self._is_asleep, self._collect_at = False, None
                await self._collect(leaving=False)
        finally:
            self._collecting = None

    async def _collect(self, *, leaving: bool) -> None:
        for ledger in dict.fromkeys((self._ledger, self._own)):
            collected = await self._asked(ledger.collect(leaving=leaving))
            if collected is not None:
                if collected.summary is not None:
                    self._tell_summary(collected.summary)
                self._collect_in(collected.wait_s)

    # --- what is told

    def _tell_summary(self, summary: Summary) -> None:
        for alert in self._alerts:
            if (of := summary.of(alert.on)) is not None:
                self._tell(summary_json(of, self._clock.wall()), (alert,))

    def _tell(self, message: bytes, alerts: Any) -> None:
        for alert in alerts:
            if len(self._running) < MOST_AT_ONCE:
                self._run(alert, message)
            elif len(self._waiting) < MOST_WAITING:
                self._waiting.append((alert, message))
            else:
                self._drop(f"{MOST_WAITING} wait for their commands already")

    def _run(self, alert: Alert, message: bytes) -> None:
        task = start_plain(self._run_one(alert, message))
        self._running.add(task)
        task.add_done_callback(self._over)

    async def _run_one(self, alert: Alert, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            trouble = await self._notify(alert, message)
        except asyncio.CancelledError:  # its own timeout rings later than that of `close`, which began before it did
            self._log_once(f"the alert command {alert.command[0]!r} was killed after {seconds(loop.time() - began)}")
            raise
        if trouble is not None:
            self._log_once(f"the alert command {alert.command[0]!r} {hide_credentials(trouble)}")

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log_once(f"an alert raised {type(error).__name__}: {error}")
        if self._waiting:
            self._run(*self._waiting.popleft())

    def _drop(self, why: str) -> None:
        self.dropped += 1
        self._log_once(f"alerts are not told: {why}")

    def _log_once(self, what: str) -> None:
        if what not in self._logged and len(self._logged) < MOST_WAITING:
            self._logged.add(what)
            _log.warning("%s", what)
