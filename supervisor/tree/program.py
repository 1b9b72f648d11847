"""A program as its warden is told it, and what it means that it could not be started."""

import errno
import os
import signal
from typing import Any, Final

from policies.failure import Kind
from supervisor.os_error import reason_of
from supervisor.tree.contract import NotStarted, Program

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""As shells have it."""

_FOR_LACK_OF = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


def go_order(program: Program) -> tuple[Any, ...]:
    """Return the arguments of the order `go`. Raises NotStarted for what no system would take."""
    if not program.argv or not program.argv[0]:
        raise NotStarted(Kind.INVALID, "a command needs a program to run: its list of arguments is empty", NOT_FOUND)
    try:
        argv = [os.fsencode(argument) for argument in program.argv]
        env = {os.fsencode(name): os.fsencode(value) for name, value in program.env.items()}
        cwd = None if program.cwd is None else os.fsencode(program.cwd)
    except UnicodeEncodeError as error:
        raise NotStarted(
            Kind.INVALID, f"{program.argv[0]}: not text that a command can be given: {error}", None
        ) from None
    if any(b"\0" in part for part in (*argv, *env, *env.values(), cwd or b"")):
        raise NotStarted(Kind.INVALID, f"{program.argv[0]}: a NUL byte in its arguments or environment", NOT_EXECUTABLE)
    if any(not name or b"=" in name for name in env):
        raise NotStarted(
            Kind.INVALID, f"{program.argv[0]}: a name in its environment is empty or has a =", NOT_EXECUTABLE
        )
    mask = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    return argv, env, cwd, mask, program.max_rss_bytes


def not_started(program: Program, number: int, step: str) -> NotStarted:
    """Return the failure of a command whose start the system refused with an error number, at a step."""
    name, why = program.argv[0], reason_of(OSError(number, os.strerror(number)))
    if step == "cwd":
        return NotStarted(Kind.INVALID, f"{name} cannot be started in {program.cwd!r}: {why}", NOT_EXECUTABLE)
    if number in _FOR_LACK_OF:
        return NotStarted(Kind.ERROR, f"{name} could not be started now: {why}", None)
    if number == errno.ENOENT:
        where = "there is no such file, or what it is to be run by is missing" if "/" in name else "not found in PATH"
        return NotStarted(Kind.INVALID, f"{name}: command not found: {where}", NOT_FOUND)
    return NotStarted(Kind.INVALID, f"{name}: cannot be executed: {why}", NOT_EXECUTABLE)
