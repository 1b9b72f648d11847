"""What a failing scenario prints: its seed, the smallest scenario that fails alike, and how that one ended."""

from tests.simulation.scenario import Scenario, as_json
from tests.simulation.shrink import shrink
from tests.simulation.simulate import HEALTHY, Outcome, Plant, simulate

LAST_LINES = 40


def simulate_any(scenario: Scenario, plant: Plant = HEALTHY, *, eager: bool = False) -> Outcome:
    """Run a scenario of one process, or of several: only these have a lease."""
    if not scenario.lease_s:
        return simulate(scenario, plant, eager=eager)
    from tests.simulation.many.simulate import simulate_many

    return simulate_many(scenario, plant)


def rule_of(outcome: Outcome) -> str:
    """Return the rule that was broken first; empty where none was."""
    return outcome.violations[0].partition(":")[0] if outcome.violations else ""


def smallest(scenario: Scenario, plant: Plant = HEALTHY, *, eager: bool = False, tries: int = 1500) -> Scenario:
    """Return a small scenario that breaks the same rule first."""
    rule = rule_of(simulate_any(scenario, plant, eager=eager))
    return shrink(scenario, lambda smaller: rule_of(simulate_any(smaller, plant, eager=eager)) == rule, tries)


def explain(scenario: Scenario, plant: Plant = HEALTHY, *, eager: bool = False) -> str:
    """Return what to print of a scenario that fails."""
    small = smallest(scenario, plant, eager=eager)
    outcome = simulate_any(small, plant, eager=eager)
    first = next((place for place, line in enumerate(outcome.log) if " VIOLATION " in line), len(outcome.log))
    log = [line for line in outcome.log[: first + 1] if " committed " not in line][-LAST_LINES:]
    return "\n".join((f"seed {scenario.seed} fails: {outcome.violations[0]}", as_json(small), *log))
