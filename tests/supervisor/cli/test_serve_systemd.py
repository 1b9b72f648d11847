"""What `turnkeeper serve` tells systemd, on a real socket: when it is ready, reloads, lives and stops."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supervisor.dispatch.systemd import Systemd, without_notify
from tests.chaos.state_files import stopped_writer
from tests.supervisor.cli.serving import Serve, job
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]


class Manager:
    """The other end of `$NOTIFY_SOCKET`."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.told: list[dict[str, str]] = []

    def hear(self) -> list[str]:
        """Take what has come; return the names of everything that was told, in that order."""
        while True:
            try:
                message = self.socket.recv(4096).decode()
            except BlockingIOError:
                return [name for each in self.told for name in each]
            self.told.append(dict(line.split("=", 1) for line in message.splitlines()))

    def until_told(self, name: str, times: int = 1) -> None:
        until(lambda: self.hear().count(name) >= times, f"{name} is told {times} times")


@contextmanager
def manager_at(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.socket.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_says_when_it_is_ready_reloads_and_stops(serve: Serve, kind: str) -> None:
    address = (
        str(serve.folder / "notify") if kind == "path" else f"@turnkeeper-test-{os.getpid()}-{time.monotonic_ns()}"
    )
    with manager_at(address) as manager:
        serve.settings(job("a"))
        process = serve.start(NOTIFY_SOCKET=address)
        manager.until_told("READY")
        before = time.monotonic()
        process.send_signal(signal.SIGHUP)
        manager.until_told("READY", 2)
        assert serve.end(process) == 0
        assert manager.hear() == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]
        # Type=notify-reload takes a RELOADING for the answer to its signal only if it is not older than that.
        assert before <= int(manager.told[1]["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()


def test_it_is_not_ready_before_it_serves_nor_where_it_cannot(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")) as manager:
        serve.settings("[[jobs]]\n")
        process = serve.start(is_ready=False, NOTIFY_SOCKET=str(serve.folder / "notify"))
        assert process.wait(20) == 78
        assert manager.hear() == []


def test_the_watchdog_hears_while_all_is_well_and_during_the_drain(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")) as manager:
        serve.settings(job("long", "echo > long; sleep 4"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="1500000")
        manager.until_told("WATCHDOG", 3)
        until((serve.folder / "long").exists, "it runs")
        process.send_signal(signal.SIGTERM)
        manager.until_told("STOPPING")
        before = manager.hear().count("WATCHDOG")
        assert process.wait(20) == 0
        assert manager.hear().count("WATCHDOG") >= before + 2


def test_the_watchdog_hears_nothing_while_the_store_does_not_answer(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")) as manager:
        serve.settings(job("a"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="2000000")
        serve.until_ran("a")
        manager.until_told("WATCHDOG")
        with stopped_writer(serve.state):
            time.sleep(3.0)
            before = manager.hear().count("WATCHDOG")
            time.sleep(4.0)
            assert manager.hear().count("WATCHDOG") == before
        ran = len(serve.ran("a"))
        manager.until_told("WATCHDOG", before + 1)
        serve.until_ran("a", ran + 2)
        assert serve.end(process) == 0
        moments = [tick for tick, _ in serve.ticks("a")]
        assert moments == [moments[0] + number for number in range(len(moments))]


def test_the_watchdog_hears_nothing_from_one_that_stands_still(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")) as manager:
        serve.settings(job("a"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="500000")
        manager.until_told("WATCHDOG", 2)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        before = manager.hear().count("WATCHDOG")
        time.sleep(1.5)
        assert manager.hear().count("WATCHDOG") == before
        process.send_signal(signal.SIGCONT)
        manager.until_told("WATCHDOG", before + 1)
        assert serve.end(process) == 0


def test_the_watchdog_of_another_process_is_not_ours(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")) as manager:
        serve.settings(job("a"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="100000", WATCHDOG_PID="1")
        serve.until_ran("a")
        assert serve.end(process) == 0
        assert "WATCHDOG" not in manager.hear()


def test_a_manager_that_takes_nothing_holds_up_nobody(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")):
        serve.settings(job("a"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="2000")
        serve.until_ran("a", 3)
        assert serve.end(process) == 0


@pytest.mark.parametrize("address", ["/no/such/socket", "relative", "", "vsock:2:1", "@" + "x" * 200])
def test_an_address_that_leads_nowhere_is_borne(serve: Serve, address: str) -> None:
    serve.settings(job("a"))
    process = serve.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
    serve.until_ran("a")
    assert serve.end(process) == 0
    assert "Traceback" not in serve.log()


def test_no_job_may_speak_for_the_service(serve: Serve) -> None:
    with manager_at(str(serve.folder / "notify")):
        serve.settings(job("a", "env > a.new && mv a.new a"))
        process = serve.start(NOTIFY_SOCKET=str(serve.folder / "notify"), WATCHDOG_USEC="1000000", OURS="1")
        serve.until_ran("a")
        assert serve.end(process) == 0
    names = {line.partition("=")[0] for line in serve.ran("a")}
    assert "OURS" in names
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


@pytest.mark.parametrize("usec", ["", "0", "-1", "x", "1.5", "²"])
def test_a_watchdog_without_a_length_asks_for_nothing(usec: str) -> None:
    assert Systemd({"NOTIFY_SOCKET": "/s", "WATCHDOG_USEC": usec}, 5).watchdog_s is None


def test_what_is_not_for_jobs_is_left_out_and_the_rest_is_kept() -> None:
    assert without_notify({"NOTIFY_SOCKET": "/s", "PATH": "/bin", "WATCHDOG_PID": "1"}) == {"PATH": "/bin"}
