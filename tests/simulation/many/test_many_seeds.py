"""Seeds of several processes that must find nothing, on real SQL; and each scenario of them that ever failed."""

import gc
from pathlib import Path

import pytest

from tests.simulation.explain import explain
from tests.simulation.many.generate import generate_many
from tests.simulation.many.simulate import simulate_many
from tests.simulation.scenario import from_json
from tests.simulation.seeds import failing

SEEDS = 500
CHUNK = 50
CASES = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.simulation
@pytest.mark.filterwarnings("ignore")  # what a scenario leaves to be collected is the work's, not the engine's
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_of_several_processes_breaks_a_rule(first: int) -> None:
    found = failing(range(first, first + CHUNK), many=True)
    gc.collect()
    assert not found, f"seeds {found} fail\n{explain(generate_many(found[0]))}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_a_case_of_several_processes_that_failed_does_not_fail_again(case: Path) -> None:
    scenario = from_json(case.read_text())
    assert not simulate_many(scenario).violations, explain(scenario)
