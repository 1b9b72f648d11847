"""What goes wrong around `turnkeeper serve`: commands, settings, its state's disk. It ends only when it is told to."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.state_files import stopped_writer
from tests.supervisor.cli.serving import QUICK, Serve, job, rss_bytes

pytestmark = [pytest.mark.processes, pytest.mark.once]

GIGABYTE = "head -c 1G /dev/zero; echo over >> loud"


def in_a_row(serve: Serve, name: str) -> bool:
    """Tell whether every tick of a job, a second apart, is in the ledger."""
    moments = [tick for tick, _ in serve.ticks(name)]
    return moments == [moments[0] + number for number in range(len(moments))]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ('["/no/such/program"]', "there is no such file"),
        ('["./not_executable"]', "Permission denied"),
        ('["no-such-program-in-the-path"]', "not found"),
        ('["."]', "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started_fails_alone(serve: Serve, command: str, says: str) -> None:
    (serve.folder / "not_executable").write_text("#!/bin/sh\n")
    serve.settings(job("a"), f'[[jobs]]\nname = "bad"\nevery = "1s"\ncommand = {command}\n')
    process = serve.start()
    serve.until_said(" job:bad: run failed")
    serve.until_ran("a", 2)
    assert serve.end(process) == 0
    [told, *_] = [line for line in serve.log().splitlines() if "job:bad: attempt 1 failed" in line]
    assert says in told
    assert {outcome for _, outcome in serve.ticks("bad")[:-1]} <= {"started"}  # the last may be left to the next one
    serve.assert_nothing_is_lost()


def test_a_folder_of_a_job_that_is_missing_fails_it_alone(serve: Serve) -> None:
    serve.settings(job("a"), job("bad", None, 'cwd = "nowhere"'))
    process = serve.start()
    serve.until_said(" job:bad: run failed")
    serve.until_ran("a", 2)
    assert serve.end(process) == 0
    serve.assert_nothing_is_lost()


def test_a_job_that_prints_a_gigabyte_takes_no_memory(serve: Serve) -> None:
    serve.settings(job("a"), job("loud", GIGABYTE))
    process = serve.start()
    serve.until_ran("a", 2)
    before = rss_bytes(process.pid)
    most = before
    while not serve.ran("loud"):
        most = max(most, rss_bytes(process.pid))
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert most - before < 24 << 20
    assert in_a_row(serve, "a")
    assert serve.state.stat().st_size < 4 << 20


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ('cron = "0 8 * * *"\ntz = "Europe/Berlim"', "did you mean Europe/Berlin?"),
        ('cron = "0 0 30 2 *"', "never"),
        ('cron = "0 25 * * *"', "hour"),
        ('every = "10ms"', "needs 1s or more"),
    ],
)
def test_a_schedule_that_cannot_be_is_told_at_the_start(serve: Serve, schedule: str, says: str) -> None:
    serve.settings(job("a").replace('every = "1s"', schedule))
    process = serve.start(is_ready=False)
    assert process.wait(20) == 78
    assert says in serve.log()
    assert not serve.state.exists()


# --- the state


def test_a_state_that_a_writer_holds_delays_ticks_and_loses_none(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    with stopped_writer(serve.state):
        serve.until_said("no tick can be started, and none is lost")
        time.sleep(1.0)
        assert process.poll() is None
    ran = len(serve.ran("a"))
    serve.until_said("the state answers again")
    serve.until_ran("a", ran + 2)
    assert serve.end(process) == 0
    assert in_a_row(serve, "a")
    assert serve.log().count("no tick can be started") == 1
    serve.assert_nothing_is_lost()


def test_a_reload_while_the_state_is_held_waits_for_it(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    with stopped_writer(serve.state):
        serve.settings(job("a"), job("b"))
        serve.until_said("the settings stay as they were until the state answers")
    serve.until_ran("b")
    assert serve.end(process) == 0
    assert serve.log().count("stay as they were") == 1
    assert in_a_row(serve, "a")


def test_sigterm_while_the_state_is_held_ends_it(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    with stopped_writer(serve.state):
        serve.until_said("no tick can be started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert "Traceback" not in serve.log()
    serve.sweep()


@pytest.mark.parametrize("length_s", [3.0, 8.0])
def test_a_state_folder_that_becomes_read_only_loses_no_tick(serve: Serve, length_s: float) -> None:
    """The folder of the life files, too: no attempt can begin that nobody could be asked about."""
    serve.settings(job("a"))
    process = serve.start(through=without_the_rights_of_root())
    serve.until_ran("a")
    folders = [serve.state.parent, serve.turnkeeper.alive.parent, serve.turnkeeper.alive]
    try:
        for folder in folders:
            folder.chmod(0o555)
        time.sleep(length_s)
        assert process.poll() is None
    finally:
        for folder in folders:
            folder.chmod(0o755)
    ran = len(serve.ran("a"))
    serve.until_ran("a", ran + 2, 40.0)
    assert serve.end(process) == 0
    assert in_a_row(serve, "a")
    assert None not in {outcome for _, outcome in serve.ticks("a")[:-1]}
    assert "Traceback" not in serve.log()
    ids = serve.ran("a")
    assert len(ids) == len(set(ids))
    serve.sweep()


def without_the_rights_of_root() -> str:
    """Return the line of shell that starts a command which the rights of files hold for."""
    if os.geteuid():
        return 'exec "$@"'
    through = "exec setpriv --bounding-set -dac_override,-dac_read_search,-fowner"
    if subprocess.run(["sh", "-c", f"{through} true"], capture_output=True, check=False).returncode:
        pytest.skip("needs setpriv, to be bound by the rights of files")
    return f'{through} "$@"'


def on_a_small_disk(serve: Serve) -> str:
    """Return the line of shell that starts it where the folder `disk` is a small file system of its own."""
    disk = serve.folder / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=3m none {disk}"
    tried = subprocess.run(shlex.split(f"unshare --mount {mount}"), capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs a small file system of its own: {tried.stderr.decode().strip()}")
    inner = f'{mount} && exec "$@"'
    return f'exec unshare --mount sh -c {shlex.quote(inner)} sh "$@"'


def test_a_disk_that_is_full_for_a_while_loses_no_tick(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start("--state", str(serve.folder / "disk" / "state.db"), through=on_a_small_disk(serve))
    serve.until_ran("a")
    filled = fill(Path(f"/proc/{process.pid}/root{serve.folder}/disk"))
    serve.until_said("full")
    time.sleep(3.0)
    assert process.poll() is None
    filled.unlink()
    ran = len(serve.ran("a"))
    serve.until_ran("a", ran + 3, 40.0)
    asked = [
        "nsenter",
        "--mount",
        "--target",
        str(process.pid),
        sys.executable,
        "-c",
        DUMP,
        f"{serve.folder}/disk/state.db",
    ]
    moments, broken, whole = json.loads(subprocess.check_output(asked))
    assert moments == [moments[0] + number for number in range(len(moments))]
    assert (broken, whole) == ([], [["ok"]])
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert len(serve.ran("a")) == len(set(serve.ran("a")))
    assert "Traceback" not in serve.log()


DUMP = """
import json, sqlite3, sys
ask = lambda question: sqlite3.connect(sys.argv[1]).execute(question).fetchall()
moments = [moment for (moment,) in ask("SELECT tick_wall FROM ticks ORDER BY 1")]
broken = ask("SELECT run FROM attempts WHERE kind = 'lost'")
print(json.dumps([moments, broken, ask("PRAGMA integrity_check")]))
"""


def fill(disk: Path) -> Path:
    filled = disk / "zeroes"
    with filled.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filled


@pytest.mark.parametrize("how", ["its file", "its folder", "another name"])
def test_a_state_that_is_deleted_in_use_is_told_and_the_jobs_go_on_in_a_new_one(serve: Serve, how: str) -> None:
    serve.settings(job("a"), job("stubborn", "trap '' TERM; sleep 600"), before=QUICK + '[serve]\ndrain = "500ms"\n')
    process = serve.start()
    serve.until_ran("a", 2)
    take_away(serve, how)
    serve.until_said("the state is gone: no new ticks; 1 run is under way")
    serve.until_said("serving 2 jobs", 2)
    ran = len(serve.ran("a"))
    serve.until_ran("a", ran + 2)
    assert serve.end(process) == 0
    assert len(serve.ran("a")) == len(set(serve.ran("a")))
    assert in_a_row(serve, "a")
    assert "Traceback" not in serve.log()
    serve.sweep()


def test_a_state_that_comes_back_at_once_is_used_on(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a", 1)
    serve.state.rename(serve.state.with_name("away"))
    time.sleep(1.2)
    serve.state.with_name("away").rename(serve.state)
    ran = len(serve.ran("a"))
    serve.until_ran("a", ran + 2)
    assert serve.end(process) == 0
    assert serve.log().count("serving 1 job") == 1
    assert in_a_row(serve, "a")


def take_away(serve: Serve, how: str) -> None:
    ways: dict[str, Callable[[], object]] = {
        "its file": serve.state.unlink,
        "its folder": lambda: subprocess.run(["rm", "-r", str(serve.state.parent)], check=True),
        "another name": lambda: serve.state.rename(serve.state.with_name("away")),
    }
    ways[how]()
