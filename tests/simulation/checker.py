"""The checkers: each knows some of what must always hold, and reads facts alone."""

from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.trees import SimulatedLauncher
from tests.simulation.check_bodies import Bodies
from tests.simulation.check_breaker import Breakers
from tests.simulation.check_line import Lines
from tests.simulation.check_reports import Reports
from tests.simulation.check_tokens import TokenBuckets
from tests.simulation.check_trees import Trees
from tests.simulation.facts import Facts
from tests.simulation.scenario import Scenario


def checkers(facts: Facts, scenario: Scenario, locks: MemoryLockFiles, launcher: SimulatedLauncher) -> list[object]:
    """Return them in the order in which they are told."""
    breakers = Breakers(facts)
    return [
        Bodies(facts, scenario),
        breakers,
        TokenBuckets(facts, scenario),
        Lines(facts, breakers),
        Reports(facts),
        Trees(facts, locks, launcher),
    ]
