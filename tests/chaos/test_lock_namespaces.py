"""The session lock across containers: other pid, mount and time namespaces of the same machine."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Pids
from supervisor.clock import SystemClock
from supervisor.lock.session_lock import SystemLockFiles
from supervisor.owner import gateway_visible
from tests.chaos.namespaces import CONTAINER, Enter, entering, kill_inside, line, needs_initial_namespace

pytestmark = [pytest.mark.processes, pytest.mark.once]

CHILD = Path(__file__).with_name("lock_child.py")


@pytest.fixture
def enter() -> Iterator[Enter]:
    with entering(CHILD) as enter:
        yield enter


def judge(transcript: Path, pids: Pids = Pids.AUTO) -> Any:
    return asyncio.run(SystemLockFiles(SystemClock()).judge(transcript, pids))


def test_a_holder_in_another_pid_namespace_is_seen_as_held_until_it_is_killed(enter: Enter, tmp_path: Path) -> None:
    holder = enter(CONTAINER, "hold", tmp_path / "a.jsonl")
    assert line(holder)["pid"] == 1
    busy = judge(tmp_path / "a.jsonl", Pids.UNKNOWN)
    assert (busy.pid, busy.alive) == (1, True)
    kill_inside(holder)
    assert judge(tmp_path / "a.jsonl", Pids.UNKNOWN) is None


def test_from_a_container_a_lock_of_the_host_is_seen_as_held_and_reclaimed(enter: Enter, tmp_path: Path) -> None:
    held = SystemLockFiles(SystemClock()).take_now(tmp_path / "a.jsonl", 60)
    assert held is not None
    said = line(enter(CONTAINER, "judge", tmp_path / "a.jsonl", "auto"))
    assert said["auto"]["alive"] is True
    held._let_go("killed")
    assert line(enter(CONTAINER, "judge", tmp_path / "a.jsonl", "unknown"))["unknown"] is None


def test_a_foreign_holder_in_a_container_is_seen_from_the_host(enter: Enter, tmp_path: Path) -> None:
    """Its pid there is 1; the host's pid 1 is another process, with another start: no proof of anything."""
    needs_initial_namespace()
    holder = enter(CONTAINER, "hold_foreign", tmp_path / "a.jsonl")
    assert line(holder)["pid"] == 1
    for pids in (Pids.AUTO, Pids.OURS):
        busy = judge(tmp_path / "a.jsonl", pids)
        assert (busy.pid, busy.alive) == (1, True)
    kill_inside(holder)
    assert judge(tmp_path / "a.jsonl") is None


def test_within_a_container_a_foreign_pid_is_judged_only_where_it_is_said_to_be_ours(
    enter: Enter, tmp_path: Path
) -> None:
    lock = tmp_path / "a.jsonl.lock"
    lock.write_text('{"pid": 4000000, "starttime": 5}')
    said = line(enter(CONTAINER, "judge", tmp_path / "a.jsonl", "auto", "unknown", "ours"))
    assert (said["initial"], said["gateway"]) == (False, False)
    assert said["auto"]["alive"] is None
    assert 'lock.pids = "ours"' in said["auto"]["advice"]
    assert said["unknown"]["alive"] is None
    assert said["ours"] is None


def test_a_gateway_seen_in_our_container_says_that_the_pids_are_ours(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").write_text('{"pid": 4000000, "starttime": 5}')
    with_gateway = 'sh -c "sleep 20; :" openclaw gateway & until grep -qz gateway /proc/$!/cmdline; do :; done; "$@"'
    said = line(enter(CONTAINER, "judge", tmp_path / "a.jsonl", "auto", shell=with_gateway))
    assert said["gateway"] is True
    assert said["auto"] is None


def test_a_gateway_in_a_container_below_does_not_say_that_the_pids_are_ours(enter: Enter) -> None:
    if gateway_visible():
        pytest.skip("a gateway runs in our own pid namespace")
    container = enter(CONTAINER, shell="""sh -c 'echo "{}"; sleep 20; :' openclaw gateway""")
    assert line(container) == {}
    assert not gateway_visible()


def test_with_the_parents_proc_in_a_new_pid_namespace_nobody_foreign_is_judged(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").write_text('{"pid": 4000000, "starttime": 5}')
    said = line(enter(("-p", "-f", "--kill-child"), "judge", tmp_path / "a.jsonl", "auto", "ours"))
    assert (said["auto"]["alive"], said["ours"]["alive"]) == (None, None)


def test_a_proc_that_hides_processes_is_not_taken_for_the_whole_machine(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").write_text('{"pid": 1, "starttime": 5}')
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount /proc with hidepid")
    hiding = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    said = line(enter(("-m",), "judge", tmp_path / "a.jsonl", "auto", shell=hiding))
    assert said["initial"] is False
    assert said["auto"]["alive"] is None


def test_whom_hidepid_hides_from_us_is_not_dead(enter: Enter) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount /proc with hidepid")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        Path(folder, "a.jsonl.lock").write_text('{"pid": 1, "starttime": 5}')
        hiding = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        said = line(enter(("-m",), "judge_as_nobody", Path(folder, "a.jsonl"), "ours", shell=hiding))
    assert said["busy"]["alive"] is None


def test_a_foreign_holder_in_another_time_namespace_cannot_be_judged_and_is_respected(
    enter: Enter, tmp_path: Path
) -> None:
    """What it writes as its own start time is not what we see."""
    shifted = ("-T", "--boottime", "100000", "-f", "--kill-child")
    holder = enter(shifted, "hold_foreign", tmp_path / "a.jsonl")
    line(holder)
    busy = judge(tmp_path / "a.jsonl", Pids.OURS)
    assert busy is not None
    assert busy.alive is None


def test_from_another_time_namespace_no_foreign_holder_is_judged(enter: Enter, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.lock").write_text('{"pid": 4000000, "starttime": 5}')
    shifted = ("-T", "--boottime", "100000", "-f", "--kill-child")
    said = line(enter(shifted, "judge", tmp_path / "a.jsonl", "auto", "ours"))
    assert (said["auto"]["alive"], said["ours"]["alive"]) == (None, None)


def test_on_a_full_file_system_nothing_half_written_is_left(enter: Enter, tmp_path: Path) -> None:
    full = f'mount -t tmpfs -o size=8k none "{tmp_path}" && head -c 8k /dev/zero >"{tmp_path}/fill"; exec "$@"'
    said = line(enter(("-m",), "take_small", tmp_path / "a.jsonl", "any", shell=full))
    assert (said["kind"], said["left"]) == ("error", ["fill"])
    assert "No space left" in said["message"]


def test_on_a_read_only_file_system_a_lock_is_invalid(enter: Enter, tmp_path: Path) -> None:
    read_only = f'mount -t tmpfs -o ro none "{tmp_path}"; exec "$@"'
    said = line(enter(("-m",), "take_small", tmp_path / "a.jsonl", "any", shell=read_only))
    assert (said["kind"], said["left"]) == ("invalid", [])
    assert "Read-only file system" in said["message"]
