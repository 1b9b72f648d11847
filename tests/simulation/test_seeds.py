"""Seeds that must find nothing, outside coverage; a failure prints the seed, the smallest scenario, its last events."""

import gc

import pytest

from tests.simulation.explain import explain
from tests.simulation.generate import generate
from tests.simulation.seeds import failing

SEEDS = 1500
CHUNK = 250


@pytest.mark.simulation
@pytest.mark.filterwarnings("ignore")  # what a scenario leaves to be collected is the work's, not the engine's
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_rule(first: int) -> None:
    found = failing(range(first, first + CHUNK))
    gc.collect()
    assert not found, f"seeds {found} fail\n{explain(generate(found[0]))}"
