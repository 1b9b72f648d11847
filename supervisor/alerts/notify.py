"""Running an alert's command: the event on its stdin, a bounded time, and its last words where it failed."""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import Final

from supervisor.settings.names import OF_A_RUN
from supervisor.settings.values import Alert
from supervisor.tasks import wait_until

_LAST_WORDS: Final = 1024
_TO_DIE_S: Final = 1.0


async def notify(alert: Alert, message: bytes) -> str | None:
    """Run the command of an alert; return what went wrong, for a person, or None.

    It is a session of its own. At its timeout, or when this is cancelled, its process group is killed. What it leaves
    behind in the background is its own affair.
    """
    stderr, its_stderr = os.pipe()
    os.set_blocking(stderr, False)
    words = _LastWords(stderr)
    try:
        stdin = _file_with(message)
        try:
            process = _start(alert, stdin, its_stderr)
        finally:
            os.close(stdin)
            os.close(its_stderr)
        return await _ended(process, alert, words)
    except (OSError, ValueError) as error:  # ValueError: an argument that the system's encoding has not
        return f"cannot be run: {getattr(error, 'strerror', None) or error}"
    finally:
        words.close()


def _start(alert: Alert, stdin: int, stderr: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - what the operator's settings name
        alert.command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr, env=_environment(), start_new_session=True
    )


async def _ended(process: "subprocess.Popen[bytes]", alert: Alert, words: "_LastWords") -> str | None:
    # Not asyncio's subprocess: on 3.11 it waits in a thread, whose news may come after the loop was closed.
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(process.pid)
    ended = loop.create_future()
    loop.add_reader(pidfd, _note_ended, loop, pidfd, ended)
    try:
        if not await wait_until(ended, loop.time() + alert.timeout_s):
            return f"was killed after {alert.timeout_s:g} s{words.told()}"
    finally:
        if not ended.done():
            # Its leader was not waited for yet, so the group is no other one's.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(asyncio.CancelledError):  # it came while this was ending anyway
                await wait_until(ended, loop.time() + _TO_DIE_S)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TO_DIE_S)  # a killed process is there for milliseconds, not for a zombie's life
        loop.remove_reader(pidfd)
        os.close(pidfd)
        status = process.poll()
    if status == 0:
        return None
    how = f"exit status {status}" if status is not None and status > 0 else f"signal {-(status or 0)}"
    return f"ended with {how}{words.told()}"


def _note_ended(loop: asyncio.AbstractEventLoop, pidfd: int, ended: "asyncio.Future[None]") -> None:
    loop.remove_reader(pidfd)
    ended.set_result(None)


class _LastWords:
    """The end of what comes out of a pipe. It is read to the last, so that no writer waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._kept = b""
        self._loop.add_reader(descriptor, self._read)
        self._is_open = True

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if chunk:
            self._kept = (self._kept + chunk)[-_LAST_WORDS:]
        else:
            self._loop.remove_reader(self._descriptor)

    def told(self) -> str:
        """Return the end of a sentence that quotes them."""
        self._read()  # what was written just before the end
        text = self._kept.decode(errors="replace").strip()
        return f": {text}" if text else ""

    def close(self) -> None:
        """Read no more: what the command left in the background may write on, to nobody."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def _file_with(message: bytes) -> int:
    """Return a file in memory to read the message from: nobody waits for a command that does not, nor a full disk."""
    descriptor = os.memfd_create("turnkeeper alert")
    try:
        os.write(descriptor, message)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _environment() -> dict[str, str]:
    """Return this process's, without what tells a command of the run that it is in."""
    return {name: value for name, value in os.environ.items() if name not in OF_A_RUN}
