"""The async tests of this folder run on a virtual loop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from supervisor.testing import virtual_clock


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": lambda: virtual_clock().new_loop()}
