"""Life files across containers: who lives is seen from anywhere, and who is dead where a container starts again."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.lock.contents import warden_payload
from supervisor.lock.life_file import Death, LifeFile, RecordedOwner, owner_death, read_life
from tests.chaos.cgroups import new_cgroup
from tests.chaos.namespaces import CONTAINER, ROOT, Enter, entering, kill_inside, line, needs_initial_namespace

pytestmark = [pytest.mark.processes, pytest.mark.once]

CHILD = ROOT / "tests" / "supervisor" / "lock" / "life_child.py"


@pytest.fixture
def enter() -> Iterator[Enter]:
    with entering(CHILD) as enter:
        yield enter


def pass_a_tick(since: float) -> None:
    """Wait until a process that starts is seen to have started later: /proc rounds to a hundredth of a second."""
    while time.clock_gettime(time.CLOCK_BOOTTIME) < since + 0.03:
        time.sleep(0.01)


def killed_warden(enter: Enter, life: Path, shell: str = 'exec "$@"') -> float:
    """Leave the life file of a killed warden from a container that ended; return when it was last known to live."""
    container = enter(CONTAINER, "leave_as_killed_warden", life, shell=shell)
    at: float = line(container)["at"]
    container.wait(10)
    pass_a_tick(at)
    return at


def told(enter: Enter, life: Path, renewed_at: float, *more: str, shell: str = 'exec "$@"') -> dict[str, Any]:
    """Judge it in a container that starts now."""
    return line(enter((*CONTAINER, *more), "tell", life, renewed_at, shell=shell))


def test_an_owner_in_a_container_is_seen_to_live_from_outside_until_it_is_killed(enter: Enter, tmp_path: Path) -> None:
    owner = enter(CONTAINER, "live", tmp_path / "life")
    said = line(owner)
    assert said["pid"] == 1
    recorded = RecordedOwner("o", tmp_path / "life", said["at"])
    assert owner_death(recorded) is Death.ALIVE
    kill_inside(owner)
    assert owner_death(recorded) is Death.GONE


def test_an_owner_of_the_host_is_seen_to_live_from_a_container(enter: Enter, tmp_path: Path) -> None:
    mine = LifeFile.make(tmp_path, "life", 0.0)
    assert told(enter, mine.path, 0.0)["known"] == "ALIVE"
    mine._held._let_go("killed")
    assert told(enter, mine.path, 0.0)["known"] == "GONE"


def test_a_container_that_lives_beside_ours_under_the_same_name_is_not_dead(enter: Enter, tmp_path: Path) -> None:
    sidecar = enter(CONTAINER, "live", tmp_path / "life")
    pass_a_tick(line(sidecar)["at"])
    assert told(enter, tmp_path / "life", 0.0)["known"] == "ALIVE"


def test_a_container_that_starts_again_proves_dead_whom_it_had_before(enter: Enter, tmp_path: Path) -> None:
    renewed_at = killed_warden(enter, tmp_path / "life")
    said = told(enter, tmp_path / "life", renewed_at)
    assert (said["known"], said["tree"], said["without"]) == ("GONE", "GONE", "UNKNOWN")
    assert said["init_start"] / os.sysconf("SC_CLK_TCK") > renewed_at


def test_a_warden_killed_in_a_container_beside_ours_that_went_on_is_unknown(enter: Enter, tmp_path: Path) -> None:
    killed_warden(enter, tmp_path / "life")
    an_hour_from_now = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600.0
    assert told(enter, tmp_path / "life", an_hour_from_now)["known"] == "UNKNOWN"


def test_the_host_does_not_take_itself_for_a_container_that_started_again(enter: Enter, tmp_path: Path) -> None:
    renewed_at = killed_warden(enter, tmp_path / "life")
    assert read_life(tmp_path / "life", renewed_at)[0] is Death.UNKNOWN


def test_a_container_is_no_later_life_of_the_host(enter: Enter, tmp_path: Path) -> None:
    needs_initial_namespace()
    content, _ = warden_payload(7, 8, created_unix=0.0, max_hold_s=0.0, nonce="life", room_bytes=64)
    (tmp_path / "life").write_bytes(content)
    assert told(enter, tmp_path / "life", 0.0)["known"] == "UNKNOWN"


def test_a_container_of_another_name_proves_nothing(enter: Enter, tmp_path: Path) -> None:
    renewed_at = killed_warden(enter, tmp_path / "life")
    renamed = 'echo another >/proc/sys/kernel/hostname && exec "$@"'
    assert told(enter, tmp_path / "life", renewed_at, "-u", shell=renamed)["known"] == "UNKNOWN"


def test_in_a_time_namespace_a_later_start_proves_nothing(enter: Enter, tmp_path: Path) -> None:
    renewed_at = killed_warden(enter, tmp_path / "life")
    assert told(enter, tmp_path / "life", renewed_at, "-T", "--boottime", "100000")["known"] == "UNKNOWN"


def test_a_sandbox_within_the_container_of_an_owner_is_not_its_next_life(enter: Enter, tmp_path: Path) -> None:
    """It has pids of its own, and started later; but its cgroup is that of the owner, whose tree may live."""
    with new_cgroup() as made, new_cgroup() as another:
        renewed_at = killed_warden(enter, tmp_path / "life", in_cgroup(made.folder))
        assert told(enter, tmp_path / "life", renewed_at, shell=in_cgroup(made.folder))["known"] == "UNKNOWN"
        assert told(enter, tmp_path / "life", renewed_at, shell=in_cgroup(another.folder))["known"] == "GONE"


def in_cgroup(folder: Path) -> str:
    return f'echo $$ >"{folder}/cgroup.procs" && exec "$@"'
