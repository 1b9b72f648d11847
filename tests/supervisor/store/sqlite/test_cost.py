"""What an attempt, and a look at all, cost the database in steps of its machine: no history makes them dearer."""

from collections.abc import Iterator
from contextlib import contextmanager

from policies.policy import Policy
from supervisor import Attempt, Supervisor
from supervisor.testing import SharedFile
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import overview_of, supervised


async def nothing(_: Attempt) -> None: ...


@contextmanager
def counted(file: SharedFile) -> Iterator[list[None]]:
    """Give what grows by one with each step of SQLite's machine."""
    steps: list[None] = []
    file.connection.set_progress_handler(lambda: steps.append(None), 1)
    yield steps
    file.connection.set_progress_handler(None, 0)


async def steps_of_a_run(file: SharedFile, supervisor: Supervisor, policy: Policy) -> int:
    with counted(file) as steps:
        await supervisor.run("often", nothing, policy=policy)
    return len(steps)


def steps_of_a_look(file: SharedFile) -> int:
    with counted(file) as steps:
        assert not overview_of(file, 0.0, 0.0).sessions
    return len(steps)


async def test_a_run_costs_no_more_after_many_others_of_its_session() -> None:
    file, policy = SharedFile(), rules()
    async with supervised(file) as supervisor:
        await supervisor.run("often", nothing, policy=policy)
        before = await steps_of_a_run(file, supervisor, policy)
        for _ in range(150):
            await supervisor.run("often", nothing, policy=policy)
        assert await steps_of_a_run(file, supervisor, policy) < before + 50


async def test_to_look_at_all_costs_no_more_after_many_runs_that_are_over() -> None:
    file, policy = SharedFile(), rules()
    async with supervised(file) as supervisor:
        await supervisor.run("often", nothing, policy=policy)
        before = steps_of_a_look(file)
        for number in range(150):
            await supervisor.run(f"session {number}", nothing, policy=policy)
        assert steps_of_a_look(file) < before + 50
