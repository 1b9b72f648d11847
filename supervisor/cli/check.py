"""The commands around settings.toml: `check` proves it, `init` writes it, `schema` describes it to editors."""

import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.clock import SystemClock
from supervisor.errors import SettingsError


@click.command()
@click.argument("file", required=False)
@click.option("--settings", metavar="FILE", help="The same, as for other commands.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(file: str | None, settings: str | None, *, as_json: bool) -> int:
    """Say what is wrong with the settings (status 78), or show them as they stand, each policy with its hash."""
    from supervisor.settings import describe
    from supervisor.settings.problems import printable
    from supervisor.settings.read import read_settings

    if file is not None and settings is not None and file != settings:
        raise click.BadParameter(f"one file at a time: got {file} and --settings {settings}")
    try:
        found = read_settings(settings if file is None else file)
    except SettingsError as error:
        if as_json:
            _print_json({"source": error.source, "problems": list(error.problems)})
        raise  # main says what is wrong, as for every command
    if found.jobs:
        from supervisor.settings.job_warnings import job_warnings

        found = replace(found, warnings=(*found.warnings, *job_warnings(found, SystemClock().wall())))
    for warning in found.warnings:
        print(f"turnkeeper: warning: {warning}", file=sys.stderr)
    if as_json:
        _print_json(describe.as_json(found))
    else:
        print(f"# {printable(found.source)}: no problems. As it stands, inheritance and environment included:\n")
        print(describe.as_toml(found), end="")
    return ExitStatus.OK


@click.command()
@click.argument("file", default="settings.toml")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(file: str, *, force: bool) -> int:
    """Write a settings file in which every key is explained."""
    from importlib.resources import files

    content = files("supervisor.settings").joinpath("settings.toml").read_bytes()
    try:
        _write_whole(file, content, force=force)
    except FileExistsError:
        return _not_written(f"{file} is there already; --force writes over it")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        return _not_written(f"cannot write {file}: {getattr(error, 'strerror', None) or error}")
    print(f"turnkeeper: wrote {file}; `turnkeeper check {file}` shows what it sets", file=sys.stderr)
    return ExitStatus.OK


@click.command()
def schema() -> int:
    """Print the JSON Schema of settings.toml."""
    from supervisor.settings.schema import json_schema

    _print_json(json_schema())
    return ExitStatus.OK


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _not_written(message: str) -> int:
    print(f"turnkeeper: {message}", file=sys.stderr)
    return ExitStatus.CANNOT_CREATE


def _write_whole(path: str, content: bytes, *, force: bool) -> None:
    """Write a file that is there whole or not at all; FileExistsError where there is one and not `force`.

    With `force` a symbolic link stays, and the file that it names is written.
    """
    import tempfile

    target = Path(os.path.realpath(path) if force else path)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        if force:
            os.replace(temporary, target)
        else:
            os.link(temporary, target)  # unlike a rename, it fails where somebody was faster
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
