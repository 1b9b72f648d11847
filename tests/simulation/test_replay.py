"""A seed is one history, on every Python and with every hash seed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.generate import generate
from tests.simulation.scenario import as_json, from_json
from tests.simulation.simulate import simulate

TOP = Path(__file__).parents[2]
# A change of the engine may change them: `python tests/simulation/seeds.py SEED ...` prints each.
DIGESTS = {
    4: "ed08262fb8c90946",
    17: "09e32c2443e75a92",
    28: "00f43f29b9edd07b",
    38: "8ad8904ba9c968d6",
    96: "128937be38f156f3",
    1831: "e30d5089d236d5aa",
    2718: "f361f679696059d7",
}
SCENARIOS = "66fea89efeb43a9c"


@pytest.mark.parametrize("seed", sorted(DIGESTS))
def test_a_seed_is_the_same_history_on_every_python(seed: int) -> None:
    outcome = simulate(generate(seed))
    assert outcome.digest == DIGESTS[seed], "\n".join(outcome.log)


def test_a_seed_makes_the_same_scenario_on_every_python() -> None:
    made = "\n".join(as_json(generate(seed)) for seed in range(100))
    assert hashlib.sha256(made.encode()).hexdigest()[:16] == SCENARIOS


def test_a_scenario_survives_its_json() -> None:
    for seed in range(100):
        scenario = generate(seed)
        assert from_json(as_json(scenario)) == scenario


@pytest.mark.processes
@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_is_the_same_history_with_every_hash_seed(hash_seed: str) -> None:
    seeds = sorted(DIGESTS)
    command = [sys.executable, "tests/simulation/seeds.py", *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=60, check=False)
    digests = [line.removeprefix("digest ") for line in told.stdout.splitlines() if line.startswith("digest ")]
    assert digests == [DIGESTS[seed] for seed in seeds], told.stderr[-2000:]
