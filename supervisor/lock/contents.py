"""What a lock file says: OpenClaw's keys (`pid`, `createdAt`, `maxHoldMs`, `starttime`) and, behind them, our table.

The table says whose life the lock hangs on. A warden's also has room for `gone`, its last word; a process's has none.
"""

import functools
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from supervisor.cgroup import Cgroup, cgroup_of
from supervisor.clock import iso_utc
from supervisor.owner import this_process

MOST_BYTES = 64 * 1024
"""A lock file that is longer is not read to its end: it is nobody's lock."""

_LARGEST_PID = 2**22
_OF_A_CGROUP = ("path", "inode", "namespace")


class OwnedBy(StrEnum):
    """Whose life a lock of ours hangs on."""

    PROCESS = "process"
    WARDEN = "warden"


@dataclass(frozen=True, slots=True)
class OurPart:
    """The table that Turnkeeper adds.

    Attributes:
        gone: the warden wrote, as its last act, that its tree is gone.
        exit_code: of a warden's command, with `gone`; None where it died by a signal, or never ran.
        signal: the number of the signal that it died by.
        pid_namespace, init_start: as in `Owner`; a warden's are those of the process that started it.
        cgroup: the one that it was in when this was written.
    """

    owned_by: OwnedBy
    boot_id: str
    host: str
    gone: bool
    exit_code: int | None = None
    signal: int | None = None
    pid_namespace: int = 0
    init_start: int | None = None
    cgroup: Cgroup | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a lock file says. `ours` is None for a foreign one, such as OpenClaw's."""

    pid: int
    starttime: int | None
    created_at: str
    ours: OurPart | None


@functools.cache
def _own_frame(_pid: int) -> tuple[str, str]:
    """Return the parts of a payload that are the same for every lock of this process."""
    me = this_process()
    return _frame(OwnedBy.PROCESS, me.pid, me.starttime, me.cgroup)


def _frame(owned_by: OwnedBy, pid: int, starttime: int | None, cgroup: Cgroup | None) -> tuple[str, str]:
    me = this_process()
    start = "" if starttime is None else f',\n  "starttime": {starttime}'
    ours: dict[str, Any] = {
        "owner": owned_by.value,
        "bootId": me.boot_id,
        "host": me.host,
        "pidNamespace": me.pid_namespace,
        "initStart": me.init_start,
    }
    if cgroup is not None:
        ours["cgroup"] = {"path": cgroup.path, "inode": cgroup.inode, "namespace": cgroup.namespace}
    table = json.dumps(ours, indent=2)[:-2].replace("\n", "\n  ")
    return f'{{\n  "pid": {pid},\n  "createdAt": "', f'{start},\n  "turnkeeper": {table},\n    "nonce": "'


def payload(*, created_unix: float, max_hold_s: float, nonce: str) -> bytes:
    """Return the bytes of a new lock of this process: JSON, indented by 2, OpenClaw's keys first."""
    return _fill(_own_frame(os.getpid()), created_unix, max_hold_s, nonce, "").encode()


def warden_payload(
    pid: int, starttime: int | None, *, created_unix: float, max_hold_s: float, nonce: str, room_bytes: int
) -> tuple[bytes, int]:
    """Return the bytes of a file in the name of a warden, a child of this process, and where in it goes its last word.

    There it has `null` and room for a JSON value of so many bytes, so that `gone` can be written on a full disk.
    """
    gone = ',\n    "gone": '
    frame = _frame(OwnedBy.WARDEN, pid, starttime, cgroup_of(pid))
    text = _fill(frame, created_unix, max_hold_s, nonce, gone + "null".ljust(room_bytes)).encode()
    return text, text.rindex(gone.encode()) + len(gone)


def _fill(frame: tuple[str, str], created_unix: float, max_hold_s: float, nonce: str, gone: str) -> str:
    head, middle = frame
    hold_ms = round(max_hold_s * 1000)
    return f'{head}{iso_utc(created_unix)}",\n  "maxHoldMs": {hold_ms}{middle}{nonce}"{gone}\n  }}\n}}\n'


def parse(raw: bytes) -> Contents | str:
    """Return what a lock file says, or in words why it says nothing that could be judged."""
    if not raw:
        return "it is empty; its holder may be about to write it"
    if len(raw) > MOST_BYTES:
        return f"it is larger than {MOST_BYTES // 1024} KiB"
    try:
        shape = json.loads(raw)
    except (ValueError, RecursionError):
        return "it is not JSON, or cut short"
    if not isinstance(shape, dict):
        return "it is not a JSON object"
    return _contents(shape)


def _contents(shape: dict[str, Any]) -> Contents | str:
    pid, start, created, ours = (shape.get(key) for key in ("pid", "starttime", "createdAt", "turnkeeper"))
    if type(pid) is not int or not 0 < pid <= _LARGEST_PID:
        return "it names no process"
    if start is not None and type(start) is not int:
        return "its starttime is not a number"
    part = None if ours is None else _our_part(ours)
    if isinstance(part, str):
        return part
    return Contents(pid, start, created if isinstance(created, str) else "", part)


def _our_part(table: Any) -> OurPart | str:
    if not isinstance(table, dict):
        return "its turnkeeper table is not an object"
    owner, boot_id, host = (table.get(key) for key in ("owner", "bootId", "host"))
    if owner not in tuple(OwnedBy) or not isinstance(boot_id, str) or not isinstance(host, str):
        return "its turnkeeper table does not say whose it is"
    gone = table.get("gone")
    ended = gone if isinstance(gone, dict) else {}
    code, signal = (value if type(value) is int else None for value in map(ended.get, ("exitCode", "signal")))
    namespace, init_start = (table.get(key) for key in ("pidNamespace", "initStart"))
    return OurPart(
        OwnedBy(owner),
        boot_id,
        host,
        bool(gone),
        code,
        signal,
        namespace if type(namespace) is int else 0,
        init_start if type(init_start) is int else None,
        _cgroup(table.get("cgroup")),
    )


def _cgroup(table: Any) -> Cgroup | None:
    path, inode, namespace = (table.get(key) if isinstance(table, dict) else None for key in _OF_A_CGROUP)
    if isinstance(path, str) and type(inode) is int and type(namespace) is int:
        return Cgroup(path, inode, namespace)
    return None
