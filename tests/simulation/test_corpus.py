"""Each scenario that ever failed, made small."""

import sys
from pathlib import Path

import pytest

from tests.simulation.explain import explain
from tests.simulation.scenario import from_json
from tests.simulation.simulate import simulate

CASES = sorted((Path(__file__).parent / "corpus").glob("*.json"))
STARTS = [False, True] if sys.version_info >= (3, 12) else [False]


@pytest.mark.parametrize("eager", STARTS, ids=["eager" if eager else "plain" for eager in STARTS])
@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_a_case_that_failed_does_not_fail_again(case: Path, *, eager: bool) -> None:
    scenario = from_json(case.read_text())
    outcome = simulate(scenario, eager=eager)
    assert not outcome.violations, explain(scenario, eager=eager)
