"""Lock files of the dead and of others, written by hand. Each is named by its session's file, the transcript."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.lock.contents import payload

ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"
NEVER_STARTED = 2**60


def lock_of(transcript: Path) -> Path:
    return Path(f"{transcript}.lock")


def write_ours(transcript: Path, pid: int = 7, **changes: Any) -> Path:
    """Write a lock of ours that nobody keeps flocked: its holder was killed."""
    shape = json.loads(payload(created_unix=0.0, max_hold_s=1.0, nonce="ab12"))
    shape["pid"] = pid
    shape["turnkeeper"].update(changes)
    lock_of(transcript).write_text(json.dumps(shape, indent=2) + "\n")
    return lock_of(transcript)


def write_foreign(transcript: Path, pid: int, starttime: int | None) -> Path:
    shape: dict[str, Any] = {"pid": pid, "createdAt": "2026-01-01T00:00:00.000Z", "maxHoldMs": 1}
    lock_of(transcript).write_text(json.dumps(shape if starttime is None else {**shape, "starttime": starttime}))
    return lock_of(transcript)


@contextmanager
def flocked(path: Path) -> Iterator[None]:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
