"""`turnkeeper jobs`: how the jobs fare; `jobs run`, `jobs pause`, `jobs resume`, `jobs ticks`."""

import asyncio
from shlex import quote
from typing import TYPE_CHECKING

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.log_lines import LogFormat, LogLines
from supervisor.cli.report_file import ReportFile
from supervisor.cli.shared_state import note, opened, print_json, say, shared_options, shared_state

if TYPE_CHECKING:
    from supervisor.settings.values import Job, Settings
    from supervisor.store.sqlite.store import SqliteStore


@click.group(invoke_without_command=True)
@shared_options
@click.pass_context
def jobs(context: click.Context, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """List the jobs: how the last run went, when the next one is due, and what became of the last day's ticks."""
    if context.invoked_subcommand is not None:
        if settings is not None or state is not None or as_json:
            raise click.UsageError(f"options of `jobs {context.invoked_subcommand}` stand behind it")
        return ExitStatus.OK
    from supervisor.cli.jobs_table import listed, print_jobs

    found, store = shared_state(settings, state)
    rows = listed(found, store.path)
    if as_json:
        print_json(rows)
    elif rows:
        from supervisor.cli.health import nobody_serves

        print_jobs(rows)
        if not rows[0]["served"]:
            note(nobody_serves(found))
    else:
        note(f"there are no jobs in {found.source}")
    return ExitStatus.OK


@jobs.command()
@click.argument("name")
@click.option("--report", metavar="FILE", help="Write there, as one JSON object, how it went.")
@click.option("--log", type=click.Choice([*map(str, LogFormat)]), default="text", help="How stderr's log is written.")
@click.option("--quiet", "-q", is_flag=True, help="Log only what went wrong.")
@shared_options
def run(
    name: str, settings: str | None, state: str | None, report: str | None, log: str, *, quiet: bool, as_json: bool
) -> int:
    """Run a job now, even a paused one, and wait for its end.

    What it prints is passed on; with --json the report is printed in its place. The exit status is as of `turnkeeper
    run`. No tick of the ledger stands for it, but its success is one of the job's.
    """
    from supervisor.cli.run import OneRun, open_what_is_closed
    from supervisor.dispatch.commands import command_of
    from supervisor.settings.job_paths import with_whole_paths

    open_what_is_closed()
    found, store = shared_state(settings, state)
    job = with_whole_paths(_job(found, name), found)
    lines = LogLines(LogFormat(log), job.session, quiet=quiet, refusals_are_fine=False)
    output = None if as_json else (1, 2)
    command = command_of(job, stdin=0, stdout=output and output[0], stderr=output and output[1])
    way_out = f"its breaker is open; `turnkeeper reset {quote(job.session)}` closes it, and forgets why it opened"
    with ReportFile(report) as to, ReportFile("/dev/stdout" if as_json else None) as printed:
        one = OneRun(command, job.session, job.policy, job.lock, found, store, lines)
        status = asyncio.run(one.to_its_end(to, printed, on_refused=int(ExitStatus.REFUSED), on_breaker=way_out))
    if status == ExitStatus.OK:
        _, store = shared_state(settings, state)
        asyncio.run(opened(found, store, lambda: _note_success(store, job)))
    return status


async def _note_success(store: "SqliteStore", job: "Job") -> None:
    from supervisor.dispatch.ledger import asked
    from supervisor.store.sqlite import jobs as job_rows

    await store.database.run(job_rows.know, asked(job), store.clock.wall())
    await store.database.run(job_rows.note_job_succeeded, job.name, store.clock.wall(), job.offset_s)


@jobs.command()
@click.argument("name")
@shared_options
def pause(name: str, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """Skip the ticks of a job, until `jobs resume`. What runs is finished; its session is open to others."""
    from supervisor.dispatch.ledger import asked
    from supervisor.store.sqlite import jobs as job_rows

    found, store = shared_state(settings, state)
    job = _job(found, name)

    async def act() -> bool:
        await store.database.run(job_rows.know, asked(job), store.clock.wall())
        return await store.database.run(job_rows.pause, job.name, store.clock.wall())

    changed = asyncio.run(opened(found, store, act))
    if as_json:
        print_json([{"job": name, "paused": True, "changed": changed}])
    else:
        say(f"job {name} is paused: its ticks are skipped until `turnkeeper jobs resume`")
    return ExitStatus.OK


@jobs.command()
@click.argument("name")
@shared_options
def resume(name: str, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """Have a paused job run again, from its next tick on."""
    from supervisor.dispatch.ledger import asked
    from supervisor.store.sqlite import ticks

    found, store = shared_state(settings, state)
    job = _job(found, name)

    async def act() -> bool:
        return await store.database.run(ticks.resume_from_now, asked(job), store.clock.wall)

    changed = asyncio.run(opened(found, store, act))
    if as_json:
        print_json([{"job": name, "paused": False, "changed": changed}])
    else:
        say(f"job {name} is resumed" if changed else f"job {name} is not paused")
    return ExitStatus.OK


@jobs.command("ticks")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="So many of the newest: 50 if left out.")
@shared_options
def ticks_(name: str, limit: int, settings: str | None, state: str | None, *, as_json: bool) -> int:
    """Show what became of a job's ticks, the newest first.

    started: its run began an attempt. skipped: it was refused, and why. expired: it was missed, and is not caught up.
    open: none of these yet. A job that the settings have no more has its ledger still.
    """
    from supervisor.cli.jobs_table import ledger_rows, print_ledger
    from supervisor.store.sqlite import ticks
    from supervisor.store.sqlite.reading import reading

    found, store = shared_state(settings, state)
    with reading(store.path) as database:
        ledger = [] if database is None else ticks.ledger_of(database, name, limit)
    if not ledger and all(job.name != name for job in found.jobs):
        _job(found, name)
    rows = ledger_rows(ledger)
    if as_json:
        print_json(rows)
    elif rows:
        print_ledger(rows)
    else:
        note(f"no tick of {name} was due yet")
    return ExitStatus.OK


def _job(settings: "Settings", name: str) -> "Job":
    """Return the job of that name; a usage error, with the nearest name, if there is none."""
    from supervisor.settings.did_you_mean import did_you_mean

    for job in settings.jobs:
        if job.name == name:
            return job
    hint = did_you_mean(name, [job.name for job in settings.jobs])
    raise click.UsageError(f"no job {name!r} in {settings.source}{hint}")
