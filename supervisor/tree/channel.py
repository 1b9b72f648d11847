"""Our ends of the two pipes between a tree's warden and us: orders go down, words come up. See `warden/protocol.py`."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from supervisor.tree.warden.protocol import packed, unpacked

_READ_BYTES = 65536


class Channel:
    """Our ends. Closing it is an order, too: the warden stops its tree without grace."""

    def __init__(self, orders: int, words: int, on_word: Callable[[str, list[Any]], None]) -> None:
        self._orders = orders
        self._words = words
        self._on_word = on_word
        self._unsent = b""
        self._unread = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(orders, False)
        os.set_blocking(words, False)
        self._loop.add_reader(words, self._read)

    def send(self, order: str, *arguments: Any) -> None:
        """Send an order. What a full pipe does not take now follows when it can; to a dead warden nothing is sent."""
        if self._orders < 0:
            return
        is_waiting = bool(self._unsent)
        self._unsent += packed(order, *arguments)
        if not is_waiting:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self._orders, self._flush)

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._orders, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it is dead: its end comes by another way
            self._unsent = b""
        if not self._unsent:
            self._loop.remove_writer(self._orders)

    def _read(self) -> None:
        try:
            said = os.read(self._words, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._loop.remove_reader(self._words)
        words, self._unread = unpacked(self._unread + said)
        for word, *arguments in words:
            self._on_word(word, arguments)

    def hang_up(self) -> None:
        """Send nothing more: to the warden it is as if this process had died. What it says is still heard."""
        if self._orders >= 0:
            self._loop.remove_writer(self._orders)
            os.close(self._orders)
            self._orders = -1

    def close(self) -> None:
        """Hear what was said to the last, and close both ends."""
        self.hang_up()
        if self._words >= 0:
            self._read()  # a warden's words of a lifetime fit into one pipe, and one reading
            self._loop.remove_reader(self._words)
            os.close(self._words)
            self._words = -1

    def let_go_in_child(self) -> None:
        """Close both ends in a forked child, whose copy of the loop is nothing that may be touched."""
        for descriptor in {self._orders, self._words} - {-1}:
            os.close(descriptor)
        self._orders = self._words = -1
