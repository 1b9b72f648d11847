"""Commands whose trees are hard to stop: python -I -S tree_shapes.py SHAPE [ARGUMENT]. Each says `ready`.

All are bounded: nothing forks without a count, and everything ends by itself after a minute.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

LIFE_S = 60.0


def say(*what: object) -> None:
    os.write(1, (" ".join(map(str, what)) + "\n").encode())


def child(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def sleep() -> None:
    time.sleep(LIFE_S)


def ignore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()


def obedient(count: str = "20") -> None:
    """Children that end when asked."""
    for _ in range(int(count)):
        child(sleep)
    say("ready")
    sleep()


def ignorers(count: str = "20") -> None:
    """Children that ignore SIGTERM, as their parent does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(int(count)):
        child(sleep)
    say("ready")
    sleep()


def sessions() -> None:
    """Children in sessions of their own, which ignore SIGTERM and SIGHUP."""

    def alone() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ignore()

    for _ in range(5):
        child(alone)
    time.sleep(0.05)
    say("ready")
    sleep()


def daemons() -> None:
    """Daemons, forked twice, whose parents have ended; the command itself exits."""

    def daemon() -> None:
        os.setsid()
        child(ignore)

    for _ in range(5):
        os.waitpid(child(daemon), 0)
    time.sleep(0.05)
    say("ready")


def leader_obeys() -> None:
    """The command ends when asked, a grandchild does not."""

    def parent() -> None:
        child(ignore)
        sleep()

    child(parent)
    time.sleep(0.05)
    say("ready")
    sleep()


def stopped() -> None:
    """A child, and then the command itself, stopped by SIGSTOP."""
    os.kill(child(sleep), signal.SIGSTOP)
    say("ready")
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep()


def chain(most: str = "400") -> None:
    """Fork and exit, over and over: whoever looks finds a pid that has gone; ends after so many links."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("ready")
    for _ in range(int(most)):
        if os.fork():
            os._exit(0)
        time.sleep(0.001)
    sleep()


def fan(most: str = "200") -> None:
    """Fork children faster than they can be counted, up to so many."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child(sleep)
    say("ready")
    for _ in range(int(most) - 1):
        child(sleep)
        time.sleep(0.001)
    sleep()


def hydra(depth: str = "7", pause_s: str = "0.005") -> None:
    """Every process forks, again and again: 2 ** depth at most, still growing when it says that it is ready."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        say("ready")
    for _ in range(int(depth) - 1):
        os.fork()
        time.sleep(float(pause_s))
    sleep()


def lost_leader() -> None:
    """A process whose first thread has ended while another runs on: it looks like a zombie."""
    import ctypes
    import threading

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=sleep).start()
    say("ready")
    ctypes.CDLL(None).pthread_exit(None)


def another_user() -> None:
    """A process of a user whose processes the warden may not signal; it ends by itself."""
    os.setresuid(65534, 65534, 65534)
    say("ready")
    time.sleep(1.0)


if __name__ == "__main__":
    shapes = (
        obedient, ignorers, sessions, daemons, leader_obeys, stopped, chain, fan, hydra, lost_leader, another_user,
    )  # fmt: skip
    {shape.__name__: shape for shape in shapes}[sys.argv[1]](*sys.argv[2:])
