"""`turnkeeper run`: one command under a policy, from the command line to its exit status."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.log_lines import LogFormat, LogLines
from supervisor.cli.report_file import ReportFile
from supervisor.cli.state import state_option, store_of

if TYPE_CHECKING:
    from policies.policy import Policy
    from supervisor.report import RunReport
    from supervisor.settings.values import Settings
    from supervisor.store.contract import Store
    from supervisor.supervisor import Supervisor
    from supervisor.work.command import Command
    from supervisor.work.nesting import OuterRun

_STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND [ARG]...", type=click.UNPROCESSED)
@click.option("--session", "-s", metavar="KEY", required=True, help="Whose turn it is: turns of one never overlap.")
@click.option("--policy", "-p", metavar="NAME", default="default", help="The rules, by their name in the settings.")
@click.option("--settings", metavar="FILE", help="Else where `turnkeeper check` finds them.")
@state_option
@click.option("--lock", metavar="PATH", help="The session's file: PATH.lock is held during each attempt.")
@click.option("--report", metavar="FILE", help="Write there, as one JSON object, how it went.")
@click.option(
    "--on-refused",
    type=click.IntRange(0, 255),
    default=int(ExitStatus.REFUSED),
    metavar="STATUS",
    help="Exit status of a run that was not allowed to start: 75 if left out.",
)
@click.option("--log", type=click.Choice([*map(str, LogFormat)]), default="text", help="How stderr's log is written.")
@click.option("--quiet", "-q", is_flag=True, help="Log only what went wrong.")
def run(  # noqa: PLR0913, PLR0917 - the options
    command: tuple[str, ...],
    session: str,
    policy: str,
    settings: str | None,
    state: str | None,
    lock: str | None,
    report: str | None,
    on_refused: int,
    log: str,
    *,
    quiet: bool,
) -> int:
    """Run a command under a policy: each attempt's whole process tree is proved gone before the next.

    The command's stdin, stdout and stderr are passed on as they are; the log goes to stderr. The exit status is the
    command's own; 124: timed out or idle, 137: too much memory, 70: something may still live, or it stood still for
    so long that its session was taken from it, 75: refused, try later, 69: the state cannot be used, 71: the machine
    refused what it needs, 73 or 74: the report cannot be made or written, 64 or 78: wrong usage or settings, 127 or
    126: not found or not executable.
    """
    from supervisor.settings.load import load_settings

    open_what_is_closed()
    if not command[0]:
        raise click.UsageError("a command needs a program to run: the first of its arguments is empty")
    if lock == "":
        raise click.UsageError("--lock needs the path of the session's file, got an empty one")
    found = load_settings(settings)
    _check(found, session, policy)
    store = store_of(found, state)
    lines = LogLines(LogFormat(log), session, quiet=quiet, refusals_are_fine=on_refused == 0)
    from supervisor.work.command import Command

    with ReportFile(report) as to:
        one = OneRun(Command(command, stdin=0, stdout=1, stderr=2), session, policy, lock, found, store, lines)
        return asyncio.run(one.to_its_end(to, on_refused=on_refused))


def open_what_is_closed() -> None:
    """Have something stand at descriptors 0 to 2: else what is opened next gets their numbers, and the command that."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _check(settings: "Settings", session: str, policy: str) -> None:
    from supervisor.arguments import check_session

    try:
        check_session(session)
        settings.policy(policy)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


class OneRun:
    """One run, and the signals that end it."""

    def __init__(
        self,
        command: "Command",
        session: str,
        policy: "str | Policy",
        lock: str | None,
        settings: "Settings",
        store: "Store",
        log: LogLines,
    ) -> None:
        from supervisor.supervisor import Supervisor  # before the loop is there: Ctrl-C while it is loaded ends all

        self._make_supervisor = Supervisor
        self._command = command
        self._session, self._policy, self._lock, self._settings = session, policy, lock, settings
        self._store = store
        self._log = log
        self._stopped_by: int | None = None

    async def to_its_end(self, *to: ReportFile, on_refused: int, on_breaker: str = "") -> int:
        """Return the exit status, once it is told to each of these files how it went.

        `on_breaker`: what a person is told whose run the breaker refused.
        """
        from policies.failure import Refusal

        async with self._log:
            for warning in self._settings.warnings:
                self._log.warn(warning)
            report = await self._supervised()
            status = exit_status(report, on_refused, self._stopped_by)
            if on_breaker and report.reason == Refusal.BREAKER_OPEN:
                self._log.warn(on_breaker)
            for file in to:
                if trouble := await file.write(report):
                    self._log.warn(trouble)
                    status = status or ExitStatus.IO
            return status

    async def _supervised(self) -> "RunReport":
        supervisor = self._make_supervisor(self._settings, store=self._store, outer=self._outer())
        supervisor.on(self._log.tell)
        async with supervisor:
            self._heed_signals(supervisor)
            return await supervisor.run_report(self._session, self._command, policy=self._policy, lock=self._lock)

    def _outer(self) -> "OuterRun | None":
        from supervisor.clock import SystemClock
        from supervisor.work.nesting import Ignored, outer_run

        clock = SystemClock()
        outer = outer_run(os.environ, clock.now(), clock.wall())
        if isinstance(outer, Ignored):
            self._log.warn(f"this is a run of its own: {outer.why}")
            return None
        return outer

    def _heed_signals(self, supervisor: "Supervisor") -> None:
        loop = asyncio.get_running_loop()
        for number in _STOPPED_BY:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background, asks for that
                loop.add_signal_handler(number, self._stop, number, supervisor)

    def _stop(self, number: int, supervisor: "Supervisor") -> None:
        if self._stopped_by is None:
            self._stopped_by = number
            supervisor.cancel(self._session)
        else:
            self._command.hasten()


def exit_status(report: "RunReport", on_refused: int, stopped_by: int | None) -> int:
    """Return the exit status that says how a run ended: what may still live is never silenced."""
    from policies.verdict import Reason
    from supervisor.report import Status

    match report.status:
        case Status.SUCCEEDED:
            return ExitStatus.OK
        case Status.QUARANTINED:
            return ExitStatus.UNCONFIRMED
        case Status.REFUSED:
            return on_refused
        case Status.CANCELLED if report.reason == Reason.PAUSED:
            return ExitStatus.REFUSED
        case Status.CANCELLED:
            return 128 + (stopped_by or signal.SIGTERM)  # another process has ended it
        case Status.FAILED if report.reason == Reason.LOST:  # what its command came to is another's to say by now
            return ExitStatus.UNCONFIRMED
        case Status.FAILED:
            return _of_failure(report)


def _of_failure(report: "RunReport") -> int:
    from policies.failure import Kind

    failed = report.attempts[-1].failure
    assert failed is not None, "a run fails with its last attempt"
    if failed.exit_code is not None:
        return failed.exit_code or ExitStatus.FAILED
    if failed.signal is not None:
        return 128 + failed.signal
    match failed.kind:
        case Kind.TIMEOUT | Kind.IDLE:
            return ExitStatus.TIMED_OUT
        case Kind.MEMORY:
            return ExitStatus.MEMORY
        case _:
            return ExitStatus.NOT_STARTED
