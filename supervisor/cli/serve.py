"""`turnkeeper serve`: the jobs of the settings, each run when it is due, until it is told to end."""

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.log_lines import LogFormat, LogLines
from supervisor.cli.shared_state import shared_store
from supervisor.cli.state import state_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.settings.values import Settings
    from supervisor.store.sqlite.store import SqliteStore


@click.command()
@click.option("--settings", metavar="FILE", help="Else where `turnkeeper check` finds them.")
@state_option
@click.option("--dry-run", is_flag=True, help="Print what would start in the next day, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print it as JSON.")
@click.option("--log", type=click.Choice([*map(str, LogFormat)]), default="text", help="How stderr's log is written.")
@click.option("--quiet", "-q", is_flag=True, help="Log only what went wrong.")
def serve(settings: str | None, state: str | None, log: str, *, dry_run: bool, as_json: bool, quiet: bool) -> int:
    """Run the jobs of the settings, each when it is due, as a run under its policy.

    SIGTERM ends it: nothing new starts, what runs may go on for `serve.drain`, then it is stopped and proved gone; a
    second one ends that at once. SIGHUP, or a changed file, reads the settings again: bad ones change nothing.
    """
    from supervisor.settings.load import load_settings

    found = load_settings(settings)
    if dry_run:
        from supervisor.cli.dry_run import print_next_day

        print_next_day(found, as_json=as_json)
        return ExitStatus.OK
    if as_json:
        raise click.UsageError("--json goes with --dry-run; the log is JSON with --log json")
    shared_store(found, state)  # what can be none is told before anything is begun
    return asyncio.run(_serve(found, settings, lambda: shared_store(found, state), LogFormat(log), quiet=quiet))


async def _serve(
    settings: "Settings", path: str | None, make_store: "Callable[[], SqliteStore]", log: LogFormat, *, quiet: bool
) -> int:
    from supervisor.dispatch.serve import Server
    from supervisor.settings.load import load_settings

    lines = LogLines(log, "", quiet=quiet, refusals_are_fine=False, dated=True)
    async with lines:
        for warning in settings.warnings:
            lines.warn(warning)
        server = Server(settings, make_store, lambda file: load_settings(file or path), lines.tell, lines.note)
        lines.job_of = server.job_of
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.end)
        loop.add_signal_handler(signal.SIGHUP, server.reload)
        await server.serve()
    return ExitStatus.OK
