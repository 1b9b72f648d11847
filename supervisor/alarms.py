"""Timeouts of one length fall due in the order they were set: one timer of the loop serves them all.

A timer of the loop for each attempt costs more than all else that is done for an attempt that suspends once: an
object, a place in a heap, and the heap's sweeping afterwards.
"""

import asyncio
from collections.abc import Callable, Hashable
from contextvars import Context
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Alarms(Generic[K]):
    """Calls `ring(key)` for each key that is still set when its time has come."""

    def __init__(self, ring: Callable[[K], None]) -> None:
        self._ring = ring
        self._lengths: dict[float, dict[K, float]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def set(self, length_s: float, key: K, now: float) -> None:
        """Ring for the key in `length_s` seconds, and not when it was set to before."""
        due = self._lengths.get(length_s)
        if due is None:
            due = self._lengths[length_s] = {}
        elif key in due:
            del due[key]  # it moves to the end
        due[key] = now + length_s
        if length_s not in self._timers:
            self._arm(length_s, now + length_s)

    def clear(self, length_s: float, key: K) -> None:
        """Do not ring for the key. Its timer may still fire: it then serves whoever is next."""
        due = self._lengths.get(length_s)
        if due is not None:
            due.pop(key, None)

    def _arm(self, length_s: float, at: float) -> None:
        # In no context of anybody's: a timer would keep what an attempt's variables hold until it was due.
        self._timers[length_s] = asyncio.get_running_loop().call_at(at, self._fire, length_s, context=Context())

    def _fire(self, length_s: float) -> None:
        now = asyncio.get_running_loop().time()
        del self._timers[length_s]
        due = self._lengths[length_s]
        while due:
            key, at = next(iter(due.items()))
            if at > now:
                break
            del due[key]
            self._ring(key)
        if not due:
            self._lengths.pop(length_s, None)  # ringing may have closed it
        elif length_s not in self._timers:  # ringing may have set it again
            self._arm(length_s, next(iter(due.values())))

    def close(self) -> None:
        """Forget every alarm."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._lengths.clear()
