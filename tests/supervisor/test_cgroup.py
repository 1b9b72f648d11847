"""Cgroups: which one a process is in, and when its directory is a proof."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor import cgroup
from supervisor.cgroup import Cgroup, cgroup_of, is_gone
from tests.chaos.cgroups import NewCgroup, new_cgroup

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made() -> Iterator[NewCgroup]:
    with new_cgroup() as made:
        yield made


def in_cgroup(made: NewCgroup) -> Cgroup:
    """Return what is known of a new cgroup from the outside, by a process in it that ends then."""
    process = subprocess.Popen([*made.enter, "sh", "-c", "echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    found = cgroup_of(process.pid)
    process.communicate()
    assert found is not None
    return found


def judged_under(words: tuple[str, ...], shell: str, recorded: Cgroup) -> str:
    """Judge a cgroup in namespaces of their own."""
    unshare = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), *words]
    tried = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if not tried or tried.returncode != 0:
        pytest.skip(f"may not make namespaces: {' '.join(unshare)}")
    code = f"from supervisor.cgroup import *; print(is_gone({recorded!r}))"
    command = [*unshare, "sh", "-c", f'{shell} exec "$@"', "sh", sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.mark.processes
def test_a_process_is_in_the_cgroup_that_it_was_put_into(made: NewCgroup) -> None:
    found = in_cgroup(made)
    assert found.path.rpartition("/")[2] == made.folder.name
    assert found.inode == made.folder.stat().st_ino
    assert not found.is_root


@pytest.mark.processes
def test_a_cgroup_is_gone_when_its_directory_is(made: NewCgroup) -> None:
    found = in_cgroup(made)
    assert not is_gone(found)
    assert made.is_removed()
    assert is_gone(found)


@pytest.mark.processes
def test_another_cgroup_of_the_same_name_is_another_one(made: NewCgroup) -> None:
    found = in_cgroup(made)
    made.folder.rmdir()
    made.folder.mkdir()
    assert is_gone(found)


def test_a_missing_path_proves_nothing_in_another_cgroup_namespace() -> None:
    mine = cgroup_of("self")
    if mine is None:
        pytest.skip("no cgroup of version 2")
    assert is_gone(replace(mine, path="/turnkeeper-never-was"))
    assert not is_gone(replace(mine, path="/turnkeeper-never-was", namespace=mine.namespace + 1))


@pytest.mark.processes
def test_from_a_cgroup_namespace_of_its_own_nobody_outside_is_judged(made: NewCgroup) -> None:
    found = in_cgroup(made)
    assert made.is_removed()
    assert judged_under(("-m",), "", found) == "True"
    assert judged_under(("-C",), "", found) == "False"


@pytest.mark.processes
def test_where_the_cgroups_are_hidden_nothing_is_proved(made: NewCgroup) -> None:
    found = in_cgroup(made)
    hidden = f'mount -t tmpfs none "{made.folder.parent}" || exit 1;'
    assert judged_under(("-m",), hidden, found) == "False"
    assert made.is_removed()
    assert judged_under(("-m",), hidden, found) == "False"


@pytest.mark.processes
def test_a_mount_that_shows_only_a_part_is_looked_at_for_that_part_only(made: NewCgroup) -> None:
    inner = NewCgroup(made.folder / "inner")
    inner.folder.mkdir()
    within = in_cgroup(inner)
    point = made.folder.parent
    part = f'mount --bind "{made.folder}" /mnt && umount "{point}" || exit 1;'
    try:
        assert judged_under(("-m",), part, within) == "False"
        assert inner.is_removed()
        assert judged_under(("-m",), part, within) == "True"
        assert judged_under(("-m",), part, replace(within, path="/turnkeeper-never-was")) == "False"
    finally:
        with suppress(OSError):
            inner.folder.rmdir()


def test_of_a_process_that_is_not_there_nothing_is_known() -> None:
    assert cgroup_of(2**22) is None


def test_the_names_of_mounts_are_read_with_their_escapes() -> None:
    assert cgroup._unescaped(r"/sys/fs/a\040b\134c") == "/sys/fs/a b\\c"
