"""`turnkeeper serve`: the dispatcher from its start to its drain; settings that change; who is told that it lives."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from policies.catch_up import tick_mark
from supervisor.clock import SystemClock
from supervisor.dispatch.commands import command_of
from supervisor.dispatch.dispatcher import LOOK_S, Dispatcher
from supervisor.dispatch.orphans import reap_orphans
from supervisor.dispatch.reload import PolicyInUse, SettingsFile, changes, kept, must_have_jobs, must_not_remove
from supervisor.dispatch.state_file import StateFile
from supervisor.dispatch.systemd import Systemd
from supervisor.errors import SettingsError, StoreUnavailable
from supervisor.log import seconds
from supervisor.settings.job_paths import with_whole_paths
from supervisor.settings.values import EMBEDDED, Job, Settings
from supervisor.store.sqlite.store import SqliteStore
from supervisor.supervisor import Supervisor

LOOK_AT_FILE_S: Final = 1.0

_STAY: Final = "the settings stay as they were: %s: %s"

_log = logging.getLogger("turnkeeper")


class Server:
    """One `turnkeeper serve`.

    `make_store` returns a store that is not opened yet; `read` reads the settings anew, from their file; `on_event`
    gets every event, and `say` what goes on beside them.
    """

    def __init__(
        self,
        settings: Settings,
        make_store: Callable[[], SqliteStore],
        read: Callable[[Path | None], Settings],
        on_event: Callable[[object], None],
        say: Callable[[str], None],
    ) -> None:
        if settings.source != EMBEDDED:  # it is read again, from a folder that may be gone by then
            settings = replace(settings, source=os.path.abspath(settings.source))
        self._settings, self._make_store, self._on_event, self._say = settings, make_store, on_event, say
        self._clock = SystemClock()
        self._file = SettingsFile(settings, read)
        self._systemd = Systemd(os.environ, os.getpid())
        # Names of jobs, also of those that are gone, by what the ids of their runs begin with.
        self._names: dict[str, str] = {}
        self._told_to_end = asyncio.Event()
        self._reload_now = self._reload_waits = self._is_meant = self._is_ending = False
        self._waits_for: frozenset[str] = frozenset()  # policies in use, without which new settings are
        self._dispatcher: Dispatcher | None = None

    async def serve(self) -> None:
        """Run the jobs until `end`. Where the state is deleted meanwhile, go on in a new one.

        Before that what runs is over, or proved gone: a new state knows of nobody who has a session.
        """
        while not self._told_to_end.is_set():
            self._is_ending = False
            store = self._make_store()
            supervisor = Supervisor(self._settings, store=store, clock=self._clock)
            supervisor.on(self._on_event, capacity=100_000)
            watchdog = None
            try:
                async with supervisor:
                    supervisor.name_jobs(self.job_of)
                    dispatcher = Dispatcher(supervisor, store, self._clock, command_of)
                    await dispatcher.set_jobs(self._jobs_of(self._settings))
                    self._say_what_is_served(store)
                    self._systemd.tell("READY=1")
                    watchdog = asyncio.ensure_future(self._pet_watchdog(dispatcher))
                    await self._run_jobs(supervisor, dispatcher, StateFile(store.path))
            finally:
                if watchdog is not None:  # what is stopped last takes its time, too, and is no reason to be killed
                    watchdog.cancel()

    def _say_what_is_served(self, store: SqliteStore) -> None:
        settings = self._settings
        self._say(f"serving {_jobs(settings)} of {settings.source}, state {store.path}, pid {os.getpid()}")
        if settings.source == EMBEDDED:
            _log.warning("no settings file is found where `turnkeeper check` looks for one; SIGHUP looks again")
        elif not settings.jobs:
            _log.warning("there are no jobs in %s; when it is changed, it is read again", settings.source)

    async def _run_jobs(self, supervisor: Supervisor, dispatcher: Dispatcher, state: StateFile) -> None:
        self._dispatcher = dispatcher
        running = asyncio.ensure_future(dispatcher.run())
        gone = asyncio.ensure_future(state.gone(self._clock))
        ended = asyncio.ensure_future(self._told_to_end.wait())
        watching = asyncio.ensure_future(self._watch_file(supervisor, dispatcher))
        reaping = asyncio.ensure_future(reap_orphans(self._clock))
        await asyncio.wait((running, gone, ended), return_when=asyncio.FIRST_COMPLETED)
        self._is_ending = True
        for task in (watching, reaping, gone, ended):
            task.cancel()
        why = "the state is gone"
        if not gone.done():
            why = "told to end" if self._told_to_end.is_set() else "broken"
            self._systemd.tell("STOPPING=1")
        within_s, running_now = self._settings.serve.drain_s, dispatcher.running()
        may_go_on = running_now and within_s
        longest = f", for {seconds(within_s)} at most" if may_go_on else ""
        if may_go_on and self._told_to_end.is_set():
            longest += f"; once more stops {'it' if running_now == 1 else 'them'} now"
        self._say(f"{why}: no new ticks; {_runs(running_now)} under way{longest}")
        left = await dispatcher.drain(within_s)
        await running
        if left:
            self._say(f"{_runs(left)} not over: stopped now")

    def end(self) -> None:
        """Start nothing more, and return from `serve` once what runs is over; told twice, that is stopped at once."""
        if self._told_to_end.is_set() and self._dispatcher is not None:
            self._dispatcher.hasten()
        self._told_to_end.set()

    def reload(self) -> None:
        """Read the settings again, whether or not their file looks changed, and also where it has no jobs any more."""
        self._reload_now = self._is_meant = True

    async def _watch_file(self, supervisor: Supervisor, dispatcher: Dispatcher) -> None:
        while True:
            are_over = self._waits_for and not self._waits_for & dispatcher.policies_in_use()
            if self._file.is_changed() or self._reload_now or are_over:
                self._reload_now = False
                self._systemd.tell("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.now() * 1e6)}")
                await self._reload(supervisor, dispatcher)
                self._systemd.tell("READY=1")
            await self._clock.sleep(LOOK_AT_FILE_S)

    async def _reload(self, supervisor: Supervisor, dispatcher: Dispatcher) -> None:
        """Have new settings in force, or say why the old ones stay."""
        is_meant, self._is_meant = self._is_meant, False
        try:
            new = await asyncio.to_thread(self._file.read)
            if not is_meant:
                must_have_jobs(self._settings, new)
            must_not_remove(new, dispatcher.policies_in_use())
            await dispatcher.set_jobs(self._jobs_of(new))
        except PolicyInUse as error:
            if error.gone != self._waits_for:
                _log.warning(_STAY, error.source, "; ".join(error.problems))
            self._waits_for, self._is_meant = error.gone, self._is_meant or is_meant
            return
        except SettingsError as error:
            _log.warning(_STAY, error.source, "; ".join(error.problems))
            self._waits_for = frozenset()
            return
        except StoreUnavailable as error:
            if not self._reload_waits:
                _log.warning("the settings stay as they were until the state answers: %s", error)
            self._reload_now = self._reload_waits = True
            self._is_meant = self._is_meant or is_meant
            return
        except Exception as error:  # whoever reads them next time must still be there
            _log.exception("the settings stay as they were: to read them failed: %s", error)
            return
        self._reload_waits = False
        self._waits_for = frozenset()
        supervisor.reload(new)
        for line in (*kept(self._settings, new), *new.warnings):
            _log.warning("%s", line)
        self._say(f"reloaded: {_jobs(new)}{changes(self._settings, new)}")
        self._settings = new

    def job_of(self, run_id: str) -> str | None:
        """Return the name of the job whose tick a run is of; None for one that is of none."""
        return self._names.get(run_id.rpartition("-")[0])

    def _jobs_of(self, settings: Settings) -> list[Job]:
        self._names |= {tick_mark(job.name): job.name for job in settings.jobs}
        return [with_whole_paths(job, settings) for job in settings.jobs]

    async def _pet_watchdog(self, dispatcher: Dispatcher) -> None:
        """Tell the watchdog that the loop turned, the store answered, and all that was due was looked at.

        Once nothing more is started, that the loop turns.
        """
        within_s = self._systemd.watchdog_s
        while within_s is not None:
            at_most_s = max(within_s, 2 * LOOK_S)  # while nothing is due, it looks no more often than that
            if self._is_ending or self._clock.now() - dispatcher.passed_at < at_most_s:
                self._systemd.tell("WATCHDOG=1")
            await self._clock.sleep(within_s / 2)


def _runs(number: int) -> str:
    return "1 run is" if number == 1 else f"{number} runs are"


def _jobs(settings: Settings) -> str:
    number = len(settings.jobs)
    return "1 job" if number == 1 else f"{number} jobs"
