"""A seed of several processes is one history, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.many.generate import generate_many
from tests.simulation.many.simulate import simulate_many
from tests.simulation.scenario import as_json, from_json

TOP = Path(__file__).parents[3]
SEEDS = (2, 16, 62, 124)


def test_a_scenario_of_several_processes_survives_its_json() -> None:
    for seed in range(100):
        scenario = generate_many(seed)
        assert from_json(as_json(scenario)) == scenario


def test_a_scenario_that_came_from_json_has_the_same_history() -> None:
    for seed in SEEDS:
        scenario = generate_many(seed)
        assert simulate_many(from_json(as_json(scenario))).log == simulate_many(scenario).log


@pytest.mark.processes
@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_of_several_processes_is_the_same_history_with_every_hash_seed(hash_seed: str) -> None:
    command = [sys.executable, "tests/simulation/seeds.py", "--many", *map(str, SEEDS)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=60, check=False)
    digests = [line.removeprefix("digest ") for line in told.stdout.splitlines() if line.startswith("digest ")]
    assert digests == [simulate_many(generate_many(seed)).digest for seed in SEEDS], told.stderr[-2000:]
