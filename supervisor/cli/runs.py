"""`turnkeeper runs` and `turnkeeper show`: what was run, how it went, and why it was tried again or given up."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.shared_state import must_be_a_session, note, print_json, say, shared_options, shared_state

if TYPE_CHECKING:
    from supervisor.store.sqlite.asking import Connection


@click.command()
@click.option("--session", "-s", metavar="KEY", help="Only those of one session.")
@click.option(
    "--since", metavar="WHEN", help="Only those asked for since then: 2h (so long ago), or 2026-08-30T06:00Z."
)
@click.option("--failed", is_flag=True, help="Only those that failed, or left something that may still live.")
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="So many of the newest: 50 if left out.")
@shared_options
def runs(
    session: str | None,
    since: str | None,
    limit: int,
    settings: str | None,
    state: str | None,
    *,
    failed: bool,
    as_json: bool,
) -> int:
    """List runs, the newest first; with --json an array, each in the shape of `turnkeeper run --report`."""
    from supervisor.store.sqlite import history
    from supervisor.store.sqlite.reading import reading

    if session is not None:
        must_be_a_session(session)
    _, store = shared_state(settings, state)
    wanted = history.Wanted(session, None if since is None else _moment(since), failed, limit)
    with reading(store.path) as database:
        found = [] if database is None else history.runs(database, wanted)
    if as_json:
        print_json(found)
    elif found:
        from supervisor.cli.table import print_table

        print_table(
            ("run", "session", "policy", "status", "started", "took", "attempts", "why"), [_row(r) for r in found]
        )
    else:
        note("there is no such run")
    return ExitStatus.OK


def _moment(since: str) -> float:
    """Return the moment that is meant, in seconds since 1970: a length of time before now, or a date and time."""
    from supervisor.clock import SystemClock
    from supervisor.settings.units import parse_duration

    try:
        return SystemClock().wall() - parse_duration(since)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise click.UsageError(
            f'--since is a length of time such as "2h", or a moment such as 2026-08-30T06:00Z, got {since!r}'
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    from supervisor.cli.table import cut
    from supervisor.log import seconds

    took = "" if run["duration_s"] is None else seconds(run["duration_s"])
    failures = [attempt["failure"] for attempt in run["attempts"] if attempt["failure"] is not None]
    started = run["started_at"][:19].replace("T", " ")
    attempts = str(len(run["attempts"]))
    failed = None if run["status"] == "succeeded" or not failures else failures[-1]
    why = _why(run["reason"], failed)
    return run["run_id"], cut(run["session"]), run["policy"], run["status"], started, took, attempts, why[:200]


def _why(reason: str | None, failed: dict[str, Any] | None) -> str:
    """Return why a run ended, and what its last failure was; one that goes on has that alone."""
    if failed is None:
        return reason or ""
    failure = f"{failed['kind']}, {failed['message']}"
    if reason is None:
        return failure
    return f"{reason}: {failed['message'] if reason == failed['kind'] else failure}"


@click.command()
@click.argument("run_id", metavar="RUN")
@shared_options
def show(run_id: str, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """Show one run: each attempt, what was left of it and how that was proved, and why its verdict fell.

    The beginning of its id is enough. The exit status is 66 where there is no such run.
    """
    from supervisor.store.sqlite import history
    from supervisor.store.sqlite.reading import reading

    if not run_id:  # it would begin every id
        raise click.UsageError("RUN is empty: which run?")
    _, store = shared_state(settings, state)
    with reading(store.path) as database:
        alike = [] if database is None else history.ids_like(database, run_id)
        if len(alike) != 1:
            return _not_one(database, run_id, alike)
        assert database is not None, "it is in there"
        found = history.run(database, alike[0])
    assert found is not None, "it was found"
    if as_json:
        print_json(found)
    else:
        from supervisor.cli.words import run_words

        for line in run_words(found):
            say(line)
    return ExitStatus.OK


def _not_one(database: "Connection | None", run_id: str, alike: list[str]) -> int:
    from supervisor.settings.did_you_mean import nearest
    from supervisor.store.sqlite import history

    if alike:
        note(f"{run_id!r} begins the ids of more than one run: {', '.join(alike)}")
        return ExitStatus.NO_INPUT
    near = None if database is None else nearest(run_id, history.newest_ids(database))
    advice = "`turnkeeper runs` lists them" if near is None else f"did you mean {near}?"
    note(f"there is no run {run_id!r}; {advice}")
    return ExitStatus.NO_INPUT
