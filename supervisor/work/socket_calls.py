"""Sockets that others share are read and written without waiting, and without O_NONBLOCK: by a flag of each call."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _socket(descriptor: int) -> Iterator[socket.socket]:
    # SOCK_NONBLOCK is about this object alone: without it the host's `socket.setdefaulttimeout` would set O_NONBLOCK.
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0, descriptor)
    try:
        yield one
    finally:
        one.detach()


def send_now(descriptor: int, chunk: memoryview) -> int:
    """Send what the socket takes at once; return how many bytes. Raises BlockingIOError if it takes none."""
    with _socket(descriptor) as one:
        return one.send(chunk, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive_now(descriptor: int, into: bytearray) -> int:
    """Receive what is there; return how many bytes, none at the end. Raises BlockingIOError if there is nothing yet."""
    with _socket(descriptor) as one:
        return one.recv_into(into, 0, socket.MSG_DONTWAIT)
