"""The async tests of this folder run on a virtual loop: a wait of an hour takes milliseconds."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from supervisor.clock import SystemClock
from supervisor.lock.session_lock import SystemLockFiles
from supervisor.testing import virtual_clock


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": lambda: virtual_clock().new_loop()}


@pytest.fixture
def locks() -> SystemLockFiles:
    return SystemLockFiles(SystemClock())


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    return tmp_path / "reports.jsonl"


@pytest.fixture(autouse=True)
def _no_descriptor_is_left_open() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    left = [_target(name) for name in set(os.listdir("/proc/self/fd")) - before]
    assert not [target for target in left if target.startswith("/") and not target.startswith(("/dev/", "/proc/"))]


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return ""
