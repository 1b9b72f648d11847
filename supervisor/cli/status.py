"""`turnkeeper status`: which sessions are not at rest, and why; `--healthy` answers by the exit status alone."""

from typing import TYPE_CHECKING

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.shared_state import print_json, say, shared_options, shared_state

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings.values import Settings


@click.command()
@click.option("--healthy", is_flag=True, help="Status 0: all is well; 1: not, and why stands on stdout.")
@shared_options
def status(settings: str | None, state: str | None, *, healthy: bool, as_json: bool) -> int:
    """Show the sessions that are not at rest: running, waiting, open, half open, quarantined or paused.

    With --healthy, for a container's health check: the state answers within a second, a `turnkeeper serve` runs the
    jobs, where the settings have any, no run is under way whose process is dead, and no quarantine is older than the
    settings allow (state.quarantine_alarm).
    """
    from supervisor.clock import SystemClock

    found, store = shared_state(settings, state)
    if healthy:
        return _healthy(store.path, found, as_json=as_json)
    from supervisor.cli.looking import look

    seen = look(store.path)
    if as_json:
        from supervisor.cli import status_json

        print_json(status_json.as_json(seen, found, str(store.path)))
    else:
        from supervisor.cli.status_table import print_status
        from supervisor.clock import SystemClock

        print_status(seen, found, SystemClock().wall())
    return ExitStatus.OK


def _healthy(path: "Path", settings: "Settings", *, as_json: bool) -> int:
    from supervisor.cli.health import reasons_against

    reasons = list(reasons_against(path, settings))
    if as_json:
        print_json({"healthy": not reasons, "reasons": reasons})
    else:
        for reason in reasons:
            say(reason)
    return ExitStatus.FAILED if reasons else ExitStatus.OK
