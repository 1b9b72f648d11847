"""Real cgroups of version 2 for tests, where this machine lets us make some."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from supervisor import cgroup
from tests.supervisor.tree.trees import until


class NewCgroup:
    """A directory of its own, with the words before a command that start it in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.enter = ("sh", "-c", f'echo $$ >"{folder}/cgroup.procs" && exec "$@"', "sh")

    def kill_all(self) -> None:
        if not (self.folder / "cgroup.kill").exists():
            pytest.skip("this kernel has no cgroup.kill")
        (self.folder / "cgroup.kill").write_text("1")

    def is_removed(self) -> bool:
        """Remove it, as a manager of units does: the kernel refuses while a process is in it."""
        with suppress(OSError):
            self.folder.rmdir()
        return not self.folder.exists()


@contextmanager
def new_cgroup() -> Iterator[NewCgroup]:
    mine = cgroup.cgroup_of("self")
    mounts = [Path(point) for point, root, _ in cgroup._mounts() if root == "/" and os.access(point, os.W_OK)]
    if mine is None or not mounts:
        pytest.skip("no cgroup of version 2 to be seen and written")
    try:
        made = NewCgroup(Path(tempfile.mkdtemp(prefix="turnkeeper-test-", dir=mounts[0])))
    except OSError as error:
        pytest.skip(f"may not make a cgroup: {error.strerror}")
    try:
        yield made
    finally:
        until(made.is_removed, "who was in the cgroup has left it")
