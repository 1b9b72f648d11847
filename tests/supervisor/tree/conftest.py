"""Each test ends with the proof that its trees have left no process, no descriptor, no file and no zombie."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.tree.trees import Trees, descriptors


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    left = {target for _, target in descriptors() - before}
    assert not {target for target in left if not target.startswith(("anon_inode:[event", "socket:", "/dev/", "/proc/"))}


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    trees = Trees(tmp_path)
    yield trees
    trees.assert_nothing_is_left()
