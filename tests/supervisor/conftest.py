"""Async tests run on a virtual loop, where an hour passes in milliseconds; those marked `processes` on a real one."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from supervisor import Supervisor
from supervisor.testing import Recorded, virtual_clock

_TOP = str(Path(__file__).parents[2])  # helpers are imported from the top of the repository: tests.supervisor.rules
if _TOP not in sys.path:
    sys.path.insert(0, _TOP)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("processes") is not None:
        return {"real": asyncio.new_event_loop}
    return {"virtual": lambda: virtual_clock().new_loop()}


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def supervisor(recorded: Recorded) -> AsyncIterator[Supervisor]:
    """A supervisor whose events are recorded. However a test ends it, nothing of its runs may be left in it."""
    async with Supervisor() as supervisor:
        supervisor.on(recorded)
        yield supervisor
        from tests.supervisor.rules import assert_at_rest

        assert_at_rest(supervisor)
