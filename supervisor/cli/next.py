"""`turnkeeper next`: when a cron expression is due."""

import json
import math
from datetime import UTC, datetime
from itertools import islice

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.clock import SystemClock


@click.command(name="next")
@click.argument("expression", metavar="EXPR")
@click.option("--tz", default="UTC", metavar="TZ", help="The zone that it is read in: Europe/Berlin. UTC if left out.")
@click.option(
    "--after", metavar="ISO", help="Later than this moment, in UTC unless it says otherwise. Now if left out."
)
@click.option("--count", type=click.IntRange(1, 100_000), default=5, metavar="N", help="So many: 5 if left out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def next_times(expression: str, tz: str, after: str | None, count: int, *, as_json: bool) -> int:
    """Print the next times of a cron expression, in UTC.

    EXPR has 5 fields, or 6 with seconds first, with croner's meaning: `turnkeeper next "30 7 * * 1-5"`. An --after
    within an hour that the zone's clocks repeat is taken for its first pass, as croner takes it. The exit status is 64
    where EXPR, TZ or ISO is wrong, and where EXPR is never due.
    """
    from policies.schedule import Cron, NeverDue, ScheduleError, between
    from supervisor.settings.zones import UnknownZone, zone_named

    try:
        cron = Cron(expression, zone_named(tz))
    except (ScheduleError, UnknownZone) as error:
        if as_json and isinstance(error, NeverDue):
            print("[]")  # for whoever reads only that
        raise click.UsageError(str(error)) from None
    start = SystemClock().wall() if after is None else cron.as_croner_reads(_moment(after))
    texts = [_text(tick) for tick in islice(between(cron, start, math.inf), count)]
    if not texts:
        raise click.UsageError(f"--after is too late for anything to be due, got {after}")
    print(json.dumps(texts) if as_json else "\n".join(texts))
    return ExitStatus.OK


def _text(tick: float) -> str:
    return datetime.fromtimestamp(tick, UTC).isoformat().replace("+00:00", "Z")


def _moment(after: str) -> float:
    try:
        moment = datetime.fromisoformat(after)
    except ValueError:
        raise click.UsageError(f"--after is a moment such as 2026-08-30T06:00Z, got {after!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
