"""What a warden and its supervisor say to each other, over two pipes: whole messages, in order, none waited for.

A message is four bytes of length, then a tuple in `marshal`: both ends are the same Python.

    orders   files(known)                    the files in its name, before they have names
             go(argv, env, cwd, mask, most_bytes)
             stop(grace_s)                   a second one can only hasten the first
             leave                           what the command has left may stay, once it has exited
    words    ready
             started(pid, starttime)         or not_started(errno, "cwd" or "program")
             exited(code, signal)            of the command itself; one of them is None
             memory(bytes)                   the tree holds more than it may
             gone(killed, left, steps)       the last
"""

import marshal

TYPE_CHECKING = False  # to import it from typing would cost a warden as much again as all that it is
if TYPE_CHECKING:
    from typing import Any

ORDERS, WORDS, FIRST_FILE = 3, 4, 5
"""The warden's descriptors."""

ROOM_FOR_GONE_BYTES = 64
"""What each file keeps free for the warden's last word in it."""

_HEAD_BYTES = 4


def packed(word: str, *arguments: "Any") -> bytes:
    """Return a message's bytes."""
    text = marshal.dumps((word, *arguments))
    return len(text).to_bytes(_HEAD_BYTES, "big") + text


def unpacked(unread: bytes) -> "tuple[list[Any], bytes]":
    """Return the messages that are there whole, each a tuple, and the bytes that are left."""
    messages = []
    while len(unread) >= _HEAD_BYTES:
        end = _HEAD_BYTES + int.from_bytes(unread[:_HEAD_BYTES], "big")
        if len(unread) < end:
            break
        messages.append(marshal.loads(unread[_HEAD_BYTES:end]))  # noqa: S302 - of nobody but the other end
        unread = unread[end:]
    return messages, unread
