"""Facts about processes, and proof of their death."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policies.policy import Pids
from supervisor import owner, proc
from supervisor.owner import foreign_alive, this_process

NEVER_STARTED = 2**60


def starttime(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@contextmanager
def child(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_process_knows_its_pid_start_boot_and_host() -> None:
    me = this_process()
    assert (me.pid, me.starttime) == (os.getpid(), starttime(os.getpid()))
    assert me.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert me.host == os.uname().nodename
    assert me.pid_namespace == os.stat("/proc/self/ns/pid").st_ino


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.processes
def test_a_forked_child_has_facts_of_its_own() -> None:
    assert this_process().pid == os.getpid()
    child = os.fork()
    if child == 0:
        mine = this_process()
        os._exit(0 if (mine.pid, mine.starttime) == (os.getpid(), starttime(os.getpid())) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_this_process_is_alive() -> None:
    assert foreign_alive(os.getpid(), this_process().starttime, Pids.OURS) is True


def test_a_pid_that_started_at_another_time_is_another_process() -> None:
    assert foreign_alive(os.getpid(), NEVER_STARTED, Pids.OURS) is False


def test_a_pid_without_a_start_time_may_be_anybodys() -> None:
    assert foreign_alive(os.getpid(), None, Pids.OURS) is None


def test_the_id_of_a_thread_is_no_process_that_wrote_a_lock() -> None:
    ids: list[int] = []
    done, seen = threading.Event(), threading.Event()

    def body() -> None:
        ids.append(threading.get_native_id())
        seen.set()
        done.wait()

    thread = threading.Thread(target=body)
    thread.start()
    seen.wait()
    assert foreign_alive(ids[0], NEVER_STARTED, Pids.OURS) is False
    assert owner._alive_here(ids[0], NEVER_STARTED) is False
    done.set()
    thread.join()


def test_where_pids_are_unknown_nobody_is_judged() -> None:
    assert foreign_alive(os.getpid(), this_process().starttime, Pids.UNKNOWN) is None
    assert foreign_alive(os.getpid(), NEVER_STARTED, Pids.UNKNOWN) is None


@pytest.mark.processes
def test_a_process_that_ended_is_dead_and_so_is_a_zombie() -> None:
    with child("sleep", "60") as process:
        start = starttime(process.pid)
        for judge in (owner._alive_anywhere, owner._alive_here):
            assert judge(process.pid, start) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie, and left one
        for judge in (owner._alive_anywhere, owner._alive_here):
            assert judge(process.pid, start) is False
        process.wait()
        for judge in (owner._alive_anywhere, owner._alive_here):
            assert judge(process.pid, start) is False
            assert judge(process.pid, None) is False


@pytest.mark.processes
def test_a_process_whose_first_thread_ended_lives_though_it_looks_like_a_zombie() -> None:
    body = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('go', flush=True), time.sleep(60))).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with child(sys.executable, "-c", body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        start = starttime(process.pid)
        if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pytest.skip("this C library keeps the first thread alive")
        for judge in (owner._alive_anywhere, owner._alive_here):
            assert judge(process.pid, start) is True


@pytest.mark.processes
def test_a_name_with_spaces_and_brackets_confuses_nobody() -> None:
    body = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 (x) 2'); print('go', flush=True); input()"
    with child(sys.executable, "-c", body) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert foreign_alive(process.pid, starttime(process.pid), Pids.OURS) is True


def test_a_process_that_may_not_be_signalled_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert owner._alive_here(os.getpid(), this_process().starttime) is True


def test_with_no_descriptor_left_to_look_nobody_is_dead() -> None:
    this_process(), owner.in_initial_pid_namespace(), owner._own_time_is_common(), owner._proc_is_ours()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(OSError, match="Too many open files"):
            proc.stat_of("self")
        verdicts = [foreign_alive(2**22, NEVER_STARTED, pids) for pids in (Pids.OURS, Pids.AUTO)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert verdicts[0] is (None if owner.in_initial_pid_namespace() else False)  # elsewhere kill() has said it
    assert verdicts[1] is None


@pytest.mark.parametrize(
    ("arguments", "is_gateway"),
    [
        (["openclaw-gateway"], True),  # its process title
        (["/usr/bin/openclaw-gateway", "--port", "1"], True),
        (["node", "/usr/lib/node_modules/openclaw/openclaw.mjs", "gateway", "run"], True),
        (["node", "/usr/bin/openclaw", "gateway"], True),
        (["openclaw", "gateway", "run"], True),
        (["node", "/app/dist/index.js", "gateway"], True),
        (["/usr/bin/node", "dist/entry.js", "gateway"], True),
        (["node", "/usr/bin/openclaw", "agent", "--local"], False),  # a command, perhaps our own
        (["openclaw"], False),
        (["openclaw-agent"], False),
        (["turnkeeper", "run", "--", "openclaw", "agent"], False),
        (["/bin/sh", "-c", "openclaw gateway run"], False),
        (["nginx", "gateway"], False),
        (["node", "/app/dist/index.js", "serve"], False),
        ([""], False),
    ],
)
def test_a_gateway_is_told_from_a_command(arguments: list[str], *, is_gateway: bool) -> None:
    assert owner._is_gateway(arguments) is is_gateway


@pytest.mark.processes
def test_a_gateway_that_runs_here_is_visible() -> None:
    if owner.gateway_visible():
        pytest.skip("a gateway runs here already")
    with child(sys.executable, "-c", "print('go', flush=True); input()", "openclaw", "gateway") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert owner.gateway_visible()
