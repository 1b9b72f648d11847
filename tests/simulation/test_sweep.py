"""One cancellation at every place: of each caller, as it is woken for the nth time, and around it."""

import dataclasses

import pytest

from supervisor.testing.cancelling import WOKEN
from supervisor.testing.faults import CancelPlace
from tests.simulation.explain import explain
from tests.simulation.generate import generate
from tests.simulation.scenario import Scenario
from tests.simulation.simulate import simulate

STORIES = (*range(6), 28, 38)  # the last two are of commands
MOST_PLACES = 12
MOST_CALLERS = 5


def _quiet_story(seed: int) -> Scenario:
    """A scenario whose only fault will be the one that is swept through it."""
    kept = [fault for fault in generate(seed).faults if not isinstance(fault, CancelPlace)]
    return dataclasses.replace(generate(seed), faults=tuple(kept))


@pytest.mark.simulation
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", STORIES)
def test_a_caller_may_be_cancelled_anywhere(seed: int) -> None:
    story = _quiet_story(seed)
    for caller in range(min(len(story.jobs), MOST_CALLERS)):
        for nth in range(1, MOST_PLACES + 1):
            for rounds in (WOKEN, 0, 1):
                cancelled = dataclasses.replace(story, faults=(*story.faults, CancelPlace(str(caller), nth, rounds)))
                if simulate(cancelled).violations:
                    pytest.fail(explain(cancelled))
