"""One blow at every place: each transaction of each process, before its commit and after it, and each suspension."""

import dataclasses

import pytest

from supervisor.testing.cancelling import WOKEN
from supervisor.testing.faults import Blow, FreezePlace, KillPlace, ProcessFault, Strike
from tests.simulation.explain import explain
from tests.simulation.many.generate import LEASE_S, generate_many
from tests.simulation.many.simulate import simulate_many
from tests.simulation.scenario import Scenario

STORIES = (16, 23)  # the second is of commands
TRANSACTIONS = (
    *("arrive", "arrive_and_begin", "take_turn", "leave", "leave_begun", "begin"),
    *("record_attempt", "end_run", "end_lost", "end_between", "lift"),
)
FROZEN_S = LEASE_S + 0.3
MOST_PLACES = 6
MOST_CALLERS = 3


def _quiet_story(seed: int) -> Scenario:
    """A scenario whose only fault will be the one that is swept through it."""
    return dataclasses.replace(generate_many(seed), faults=())


def _strikes(story: Scenario) -> list[ProcessFault]:
    return [
        Strike(process, name, nth, blow, committed, FROZEN_S if blow is Blow.FROZEN else 0.0)
        for process in sorted({job.process for job in story.jobs})
        for name in TRANSACTIONS
        for nth in (1, 2)
        for blow in Blow
        for committed in (False, True)
    ]


def _places(story: Scenario) -> list[ProcessFault]:
    places = [
        (str(caller), nth, rounds)
        for caller in range(min(len(story.jobs), MOST_CALLERS))
        for nth in range(1, MOST_PLACES + 1)
        for rounds in (WOKEN, 0)
    ]
    return [*(KillPlace(*place) for place in places), *(FreezePlace(*place, FROZEN_S) for place in places)]


@pytest.mark.simulation
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", STORIES)
def test_a_process_may_be_struck_anywhere(seed: int) -> None:
    story = _quiet_story(seed)
    for fault in (*_strikes(story), *_places(story)):
        struck = dataclasses.replace(story, faults=(fault,))
        if simulate_many(struck).violations:
            pytest.fail(explain(struck))
