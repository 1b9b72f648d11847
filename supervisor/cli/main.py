"""The `turnkeeper` command: which subcommands there are, and how an error becomes a message and an exit status."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from supervisor.cli import check, jobs, locks, operate, run, runs, serve, status
from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.next import next_times
from supervisor.cli.report_file import CannotCreate
from supervisor.errors import SettingsError, StoreUnavailable
from supervisor.os_error import reason_of


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"turnkeeper {version('turnkeeper')}")
    except PackageNotFoundError:
        click.echo("turnkeeper, not installed: run from its sources")
    context.exit()


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
def app() -> None:
    """Runs agent turns: attempt over, session free, and only then a verdict."""


for command in (
    run.run,
    serve.serve,
    jobs.jobs,
    status.status,
    runs.runs,
    runs.show,
    operate.reset,
    operate.pause,
    operate.resume,
    operate.stop,
    locks.locks,
    next_times,
    check.check,
    check.init,
    check.schema,
):
    app.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. No error leaves it as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    try:
        status = app(args=arguments, prog_name="turnkeeper", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SettingsError as error:
        number = "one problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
        print(f"turnkeeper: {number} in {error}", file=sys.stderr)
        return ExitStatus.SETTINGS
    except (StoreUnavailable, CannotCreate) as error:
        return _cannot_start(error)
    except click.ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return ExitStatus.INTERRUPTED
    except OSError as error:
        return _no_descriptors(error) if error.errno == errno.EMFILE else _cannot_print(error)
    except SystemExit:  # click ends so when the reader of standard output is gone
        return ExitStatus.IO
    return status if isinstance(status, int) else ExitStatus.OK


def _cannot_start(error: StoreUnavailable | CannotCreate) -> int:
    if isinstance(error, StoreUnavailable):
        print(f"turnkeeper: {error}", file=sys.stderr)
        return ExitStatus.UNAVAILABLE
    print(f"turnkeeper: {error}; nothing was started", file=sys.stderr)
    return ExitStatus.CANNOT_CREATE


def _usage(error: Any) -> int:
    command = "turnkeeper" if error.ctx is None else error.ctx.command_path
    print(f"turnkeeper: {error.format_message()}\nTry `{command} --help`.", file=sys.stderr)
    return ExitStatus.USAGE


def _no_descriptors(error: OSError) -> int:
    """End where not even a module could be opened any more."""
    print(f"turnkeeper: {reason_of(error)}", file=sys.stderr)
    return ExitStatus.NOT_STARTED


def _cannot_print(error: OSError) -> int:
    """End when standard output is full, or when its reader is gone, which is no news to anyone."""
    if not isinstance(error, BrokenPipeError):
        print(f"turnkeeper: {error}", file=sys.stderr)
    if sys.stdout is not None:
        # What is left in the buffer would raise again, on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitStatus.IO


if __name__ == "__main__":
    sys.exit(main())
