"""What systemd is told, where it started us: READY, WATCHDOG, STOPPING. Elsewhere nobody is told anything."""

import socket
from collections.abc import Mapping
from contextlib import suppress


class Systemd:
    """The socket of `$NOTIFY_SOCKET`, and how often the watchdog wants to hear.

    `watchdog_s`: at least once in so many seconds; None: it does not ask.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s: float | None = None
        usec, theirs = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
        if self._address and usec.isdecimal() and int(usec) > 0 and theirs == str(pid):
            self.watchdog_s = int(usec) / 1e6

    def tell(self, *lines: str) -> None:
        """Send lines such as `READY=1`; one that is not taken at once is lost, as a watchdog's should be."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            to.connect(self._address)
            to.send("\n".join(lines).encode())


def without_notify(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which nobody else speaks for this service."""
    return {k: v for k, v in environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
