"""The checkers find each planted bug that only several processes can show."""

import gc
import logging
from collections.abc import Iterator

import pytest

from tests.simulation.many.generate import generate_many
from tests.simulation.many.planted import PLANTED_MANY
from tests.simulation.many.simulate import simulate_many

SEEDS = 3000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Planted bugs leave tasks with exceptions behind."""
    log = logging.getLogger("asyncio")
    before, log.level = log.level, logging.CRITICAL
    yield
    gc.collect()
    log.level = before


@pytest.mark.simulation
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PLANTED_MANY)
def test_a_planted_bug_of_several_processes_is_found(name: str) -> None:
    plant = PLANTED_MANY[name]()
    assert any(simulate_many(generate_many(seed), plant).violations for seed in range(SEEDS)), f"not found: {name}"
