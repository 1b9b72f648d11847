"""`turnkeeper locks`: each lock file below a folder, who has it, and whether that one lives; the dead ones' removed."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.cli.exit_status import ExitStatus
from supervisor.clock import SystemClock

if TYPE_CHECKING:
    from supervisor.lock.survey import Found


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--reclaim", is_flag=True, help="Remove those whose holder is proved dead, and only those.")
@click.option(
    "--pids",
    type=click.Choice(["auto", "ours", "unknown"]),
    default="auto",
    help="Whether pids in foreign locks are of this pid namespace, as lock.pids in the settings.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def locks(folder: str, pids: str, *, reclaim: bool, as_json: bool) -> int:
    """Say of each lock file (*.lock) below DIR who has it, and whether that process lives: with the proof.

    No age proves anything. The exit status is 66 where DIR, or a folder in it, cannot be read, and 77 where a lock of
    the dead may not be removed.
    """
    if not folder:  # it would be taken for the current one
        raise click.UsageError("DIR is empty: which folder?")
    try:
        found, is_whole = asyncio.run(_survey(folder, pids, reclaim=reclaim))
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        return _cannot_read(folder, error)
    if as_json:
        now = SystemClock().wall()
        print(json.dumps([lock.as_json(now) for lock in found], indent=2))  # ASCII: no control character is left in it
    elif found:
        _print(found)
    if not as_json:
        _tell(_summary(found, folder, reclaim=reclaim))
    if reclaim and any(_is_left_though_dead(lock) for lock in found):
        return ExitStatus.NOT_PERMITTED
    return ExitStatus.OK if is_whole else ExitStatus.NO_INPUT


async def _survey(folder: str, pids: str, *, reclaim: bool) -> "tuple[list[Found], bool]":
    """Return what was found, and whether every folder could be read."""
    from policies.policy import Pids
    from supervisor.lock.survey import survey

    unread: list[OSError] = []

    def note(error: OSError) -> None:
        unread.append(error)
        _cannot_read(str(error.filename), error)

    found = [lock async for lock in survey(Path(folder), Pids(pids), SystemClock(), note, reclaim=reclaim)]
    return found, not unread


def _print(found: "list[Found]") -> None:
    from supervisor.cli.table import print_table

    now = SystemClock().wall()
    print_table(("lock", "holder", "state", "age", "why"), [_row(lock, now) for lock in found])


def _row(lock: "Found", now_unix: float) -> tuple[str, ...]:
    from supervisor.log import seconds

    age = "" if lock.since_unix is None else seconds(max(0.0, now_unix - lock.since_unix))
    state = f"{lock.state}, removed" if lock.removed else lock.state.value
    why = "; ".join(part for part in (lock.proof, lock.advice) if part)
    return str(lock.path), lock.holder, state, age, why


def _summary(found: "list[Found]", folder: str, *, reclaim: bool) -> str:
    if not found:
        return f"no lock file below {folder}"
    number = "1 lock file" if len(found) == 1 else f"{len(found)} lock files"
    removed = sum(lock.removed for lock in found)
    left = Counter(lock.state.value for lock in found if not lock.removed)
    parts = [f"{removed} removed"] if reclaim else []
    parts += [f"{count} {_WORDS[state]}" for state, count in sorted(left.items())]
    if not reclaim and left["dead"]:
        parts[-1] += "; --reclaim removes those of the dead"
    return f"{number}: {', '.join(parts)}"


_WORDS = {
    "alive": "of the living",
    "dead": "of the dead",
    "nobody": "that are no lock to be judged",
    "unknown": "that cannot be proved either way",
}


def _is_left_though_dead(lock: "Found") -> bool:
    return lock.state == "dead" and not lock.removed


def _cannot_read(folder: str, error: OSError | ValueError) -> int:
    from supervisor.os_error import reason_of

    why = reason_of(error) if isinstance(error, OSError) else str(error)
    _tell(f"{folder} cannot be read: {why}")
    return ExitStatus.NO_INPUT


def _tell(message: str) -> None:
    from supervisor.log import one_line

    print(f"turnkeeper: {one_line(message)}", file=sys.stderr)
