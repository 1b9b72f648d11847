"""A store whose answers are late."""

import pytest

from supervisor import Attempt, Supervisor
from supervisor.store.memory import MemoryStore
from supervisor.testing import virtual_clock
from supervisor.testing.faults import Slowness
from supervisor.testing.slow_store import SlowStore


async def _ten_runs(slowness: Slowness) -> float:
    async def work(_: Attempt) -> str:
        return "done"

    async with Supervisor(store=SlowStore(MemoryStore(), slowness, seed=3)) as supervisor:
        clock = supervisor._effects.clock if supervisor._effects else None
        assert clock is not None
        began = clock.now()
        for number in range(10):
            report = await supervisor.run(f"s{number}", work)
            assert report.value == "done"
        return clock.now() - began


@pytest.mark.parametrize(
    ("slowness", "takes_time"),
    [(Slowness(), False), (Slowness(1.0, rounds=3), False), (Slowness(1.0, rounds=0, seconds=0.1), True)],
)
def test_runs_go_through_it_and_it_takes_the_time_that_was_asked_for(slowness: Slowness, *, takes_time: bool) -> None:
    with virtual_clock() as clock:
        assert (clock.run(_ten_runs(slowness)) > 0.0) is takes_time


def test_the_same_seed_is_slow_in_the_same_places() -> None:
    times = set()
    for _ in range(2):
        with virtual_clock() as clock:
            times.add(clock.run(_ten_runs(Slowness(0.5, seconds=0.1))))
    assert len(times) == 1
