"""The `turnkeeper` command: which subcommands there are, and how an error becomes a message and an exit status."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.report_file import CannotCreate
from supervisor.errors import SettingsError, StoreUnavailable
from supervisor.os_error import reason_of
from supervisor.settings.did_you_mean import did_you_mean


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"turnkeeper {version('turnkeeper')}")
    except PackageNotFoundError:
        click.echo("turnkeeper, not installed: run from its sources")
    context.exit()


_MODULES: Final = {
    "run": ("run",),
    "serve": ("serve",),
    "jobs": ("jobs",),
    "status": ("status",),
    "runs": ("runs", "show"),
    "operate": ("reset", "pause", "resume", "stop"),
    "locks": ("locks",),
    "next": ("next",),
    "check": ("check", "init", "schema"),
}
"""The commands of each module: a run that starts each minute reads no other."""

_COMMANDS: Final = {command: module for module, commands in _MODULES.items() for command in commands}


class _Commands(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        found = vars(import_module(f"supervisor.cli.{_COMMANDS[name]}")).values()
        return next(each for each in found if isinstance(each, click.Command) and each.name == name)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in _COMMANDS and not name.startswith("-"):
            context.fail(f"No such command {name!r}{did_you_mean(name, _COMMANDS)}")
        return super().resolve_command(context, arguments)


@click.group(cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
def app() -> None:
    """Runs agent turns: attempt over, session free, and only then a verdict."""


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
