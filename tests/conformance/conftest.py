"""The async tests of this folder run on a virtual loop."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from supervisor.testing import virtual_clock

_TOP = str(Path(__file__).parents[2])  # helpers are imported from the top of the repository
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": lambda: virtual_clock().new_loop()}
