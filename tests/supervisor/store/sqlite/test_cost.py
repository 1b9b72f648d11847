"""What an attempt costs the database, in steps of its machine: no history makes it dearer."""

from policies.policy import Policy
from supervisor import Attempt, Supervisor
from supervisor.testing import SharedFile
from tests.supervisor.rules import rules
from tests.supervisor.store.sqlite.opened import supervised


async def nothing(_: Attempt) -> None: ...


async def steps_of_a_run(file: SharedFile, supervisor: Supervisor, policy: Policy) -> int:
    """Count the steps of SQLite's machine that one run takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    file.connection.set_progress_handler(count, 1)
    await supervisor.run("often", nothing, policy=policy)
    file.connection.set_progress_handler(None, 0)
    return steps


async def test_a_run_costs_no_more_after_many_others_of_its_session() -> None:
    file, policy = SharedFile(), rules()
    async with supervised(file) as supervisor:
        await supervisor.run("often", nothing, policy=policy)
        before = await steps_of_a_run(file, supervisor, policy)
        for _ in range(150):
            await supervisor.run("often", nothing, policy=policy)
        assert await steps_of_a_run(file, supervisor, policy) < before + 50
