"""What no forked child of this process may keep open: a descriptor of a lock or a pipe outlives us in there."""

import os
import threading
from typing import Protocol

FORKING = threading.RLock()
"""Held while this process forks, and from the making of a descriptor until its holder is known here: a child that
another thread forks must not get one that it does not know of."""


class Holder(Protocol):
    """Has descriptors that belong to this process alone."""

    def let_go_in_child(self) -> None: ...


_holders: set[Holder] = set()


def let_no_child_keep(holder: Holder) -> None:
    """Have a forked child let go of what the holder has, until `may_be_kept`."""
    _holders.add(holder)


def may_be_kept(holder: Holder) -> None:
    """Forget the holder: it has nothing open any more."""
    _holders.discard(holder)


def _let_go_in_child() -> None:
    for holder in tuple(_holders):
        holder.let_go_in_child()
    _holders.clear()
    FORKING.release()


os.register_at_fork(before=FORKING.acquire, after_in_parent=FORKING.release, after_in_child=_let_go_in_child)
