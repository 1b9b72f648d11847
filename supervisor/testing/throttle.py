"""asyncio-throttle on a loop's time: the one patch that virtual time needs."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncio_throttle import throttler

_patched: Any = throttler
_machine: Any = _patched.time  # the real module: what Throttler asks outside virtual loops
_guard = threading.Lock()
_users = 0


class _TimeOfTheLoop:
    """Stands in for the module `time` within asyncio-throttle, which asks it for `monotonic()` alone."""

    @staticmethod
    def monotonic() -> float:
        """Return the virtual time where a virtual loop is running in this thread, the machine's time elsewhere."""
        loop = asyncio._get_running_loop()
        moment: float = loop.time() if loop is not None and hasattr(loop, "is_virtual") else _machine.monotonic()
        return moment

    def __getattr__(self, name: str) -> Any:
        return getattr(_machine, name)


@contextmanager
def throttle_on_loop_time() -> Iterator[None]:
    """Give asyncio-throttle the time of the running virtual loop; undone when the last user leaves."""
    global _users  # noqa: PLW0603 - the patched module is one for the process, so is the count of who needs it
    with _guard:
        _users += 1
        if _users == 1:
            _patched.time = _TimeOfTheLoop()
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if _users == 0:
                _patched.time = _machine
