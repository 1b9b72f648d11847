"""The processes below one, and signals that hit no stranger."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from supervisor.owner import starttime_of
from supervisor.tree.warden.processes import (
    Process,
    children,
    children_by_their_parent,
    descendants,
    facts_of,
    is_warden,
    name_of,
    read,
    send,
)
from tests.supervisor.tree.trees import until

pytestmark = pytest.mark.processes

NAME = "a) Z 1"
CODE = f"open('/proc/self/comm', 'w').write({NAME!r}); import time; time.sleep(60)"


def new_process() -> tuple["subprocess.Popen[bytes]", Process]:
    popen = subprocess.Popen([sys.executable, "-I", "-S", "-c", CODE])
    until(lambda: read(f"/proc/{popen.pid}/comm") == NAME.encode() + b"\n", "it has its odd name")
    starttime = starttime_of(popen.pid)
    assert starttime is not None
    return popen, (popen.pid, starttime)


@pytest.fixture
def process() -> Iterator[Process]:
    popen, process = new_process()
    yield process
    popen.kill()
    popen.wait()


def test_its_facts_are_read_whatever_it_is_called(process: Process) -> None:
    assert facts_of(process[0]) == (os.getpid(), process[1], False)
    assert process in descendants(os.getpid())
    assert name_of(process).startswith(f"process {process[0]} (")


def test_its_parent_can_be_found_without_the_kernels_lists(process: Process) -> None:
    assert sorted(children_by_their_parent(os.getpid())) == sorted(children(os.getpid()))
    assert process[0] in children_by_their_parent(os.getpid())


def test_children_of_every_thread_are_found() -> None:
    started: Queue[tuple[subprocess.Popen[bytes], Process]] = Queue()
    may_end = threading.Event()

    def start_and_stay() -> None:
        started.put(new_process())
        may_end.wait()

    thread = threading.Thread(target=start_and_stay)
    thread.start()
    popen, process = started.get()
    found = descendants(os.getpid())
    may_end.set()
    thread.join()
    popen.kill()
    popen.wait()
    assert process in found


def test_a_signal_that_is_not_for_this_process_is_not_sent(process: Process) -> None:
    assert not send((process[0], process[1] + 1), signal.SIGKILL)
    assert facts_of(process[0]) == (os.getpid(), process[1], False)


def test_a_dead_process_gets_no_signal_and_is_no_descendant(process: Process) -> None:
    assert send(process, signal.SIGKILL)
    os.waitid(os.P_PID, process[0], os.WEXITED | os.WNOWAIT)
    assert not send(process, signal.SIGKILL)
    assert process not in descendants(os.getpid())


def test_a_process_whose_end_was_the_first_of_several_signals_has_got_it(process: Process) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that it is gone at once
    try:
        assert send(process, *[signal.SIGKILL] * 20_000)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_is_only_like_a_warden_is_none(process: Process) -> None:
    assert not is_warden(process)
    assert not is_warden((4_194_304, 1))
