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
    4: "a48be18fee7a503e",
    17: "aa40c4e871e4168c",
    28: "51ca10953104300c",
    38: "127bd2a88926a4c1",
    96: "1b3e1f0bf2208b32",
    1831: "d0722af0238ab36d",
    2718: "7a55f757a3edb9d3",
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
