"""Processes on one loop: a kill runs nothing any more, a freeze keeps what falls due, and others see neither."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

from policies.policy import Pids
from supervisor import Supervisor
from supervisor.lock.life_file import Death, Exited
from supervisor.testing import (
    Happening,
    MemoryLockFiles,
    Process,
    ScriptedWork,
    SimulatedCommand,
    SimulatedLauncher,
    TreeScript,
    World,
    hangs,
    virtual_clock,
)


def in_world(main: Callable[[World], Coroutine[Any, Any, None]], share: float = 0.0, seed: int = 0) -> None:
    with virtual_clock(seed) as clock:
        world = World(clock, share)
        world.run(main(world))


async def _ticks(world: World, seen: list[str], name: str, every_s: float = 1.0) -> None:
    try:
        while True:
            await world.clock.sleep(every_s)
            seen.append(f"{name} {world.clock.now() - 1000.0:g}")
    finally:
        seen.append(f"{name} ends")


def test_nothing_of_a_killed_process_runs_again_and_nobody_else_is_disturbed() -> None:
    seen: list[str] = []

    async def main(world: World) -> None:
        one, two = world.process("one"), world.process("two")
        one.start(_ticks(world, seen, "one"))
        other = two.start(_ticks(world, seen, "two"))
        await world.clock.sleep(1.5)
        one.kill()
        await world.clock.sleep(2.0)
        assert seen == ["one 1", "two 1", "two 2", "two 3"]
        assert not one.lives
        assert not world.holds_life(one.life)
        assert world.holds_life(two.life)
        other.cancel()
        await world.clock.sleep(1.0)
        assert seen[4:] == ["two ends"]

    in_world(main)
    assert seen[5:] == ["one ends"], "it is unwound once all is over"


def test_a_killed_process_leaves_no_task_behind_when_the_world_is_over(recwarn: pytest.WarningsRecorder) -> None:
    async def stubborn(world: World) -> None:
        for _ in range(3):
            try:
                await world.clock.sleep(100.0)
            finally:
                await world.clock.sleep(1.0)

    async def main(world: World) -> None:
        process = world.process("one")
        process.start(stubborn(world))
        await world.clock.sleep(1.0)
        process.kill()
        await world.clock.sleep(1000.0)

    in_world(main)
    assert not recwarn.list


def test_a_process_may_kill_itself_and_its_step_is_its_last() -> None:
    seen: list[str] = []

    async def work(process: Process) -> None:
        process.kill()
        seen.append("the rest of this step")
        await asyncio.sleep(0)
        seen.append("another step")

    async def main(world: World) -> None:
        process = world.process("one")
        process.start(work(process))
        await world.clock.sleep(10.0)

    in_world(main)
    assert seen == ["the rest of this step"]


def test_what_falls_due_while_a_process_is_frozen_runs_when_it_thaws_in_order() -> None:
    seen: list[str] = []

    async def main(world: World) -> None:
        process = world.process("one")
        for every_s in (2.0, 1.0, 1.5):
            process.start(_ticks(world, seen, f"each {every_s:g}", every_s))
        await world.clock.sleep(0.5)
        process.freeze(for_s=5.0)
        await world.clock.sleep(4.0)
        assert seen == []
        assert world.holds_life(process.life)
        await world.clock.sleep(1.1)
        assert seen == ["each 1 5.5", "each 1.5 5.5", "each 2 5.5"]
        process.kill()

    in_world(main)


def test_a_frozen_process_can_be_killed_and_a_dead_one_neither_frozen_nor_thawed() -> None:
    seen: list[str] = []

    async def main(world: World) -> None:
        process = world.process("one")
        process.start(_ticks(world, seen, "one"))
        await world.clock.sleep(0.5)
        process.freeze(for_s=2.0)
        process.kill()
        process.freeze(for_s=1.0)
        process.thaw()
        await world.clock.sleep(5.0)
        assert seen == []
        assert not process.lives

    in_world(main)


def test_children_callbacks_and_timers_in_contexts_of_their_own_go_with_their_process() -> None:
    seen: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2.0, seen.append, "timer")
        loop.call_later(2.0, seen.append, "timer without context", context=Context())
        children.append(loop.create_task(_later("child")))
        future = loop.create_future()
        future.add_done_callback(lambda _: seen.append("callback"))
        waiting.append(future)
        await future

    async def _later(name: str) -> None:
        await asyncio.sleep(2.0)
        seen.append(name)

    waiting: list[asyncio.Future[None]] = []
    children: list[asyncio.Task[None]] = []

    async def main(world: World) -> None:
        process = world.process("one")
        process.start(work())
        await world.clock.sleep(1.0)
        process.kill()
        waiting[0].set_result(None)
        await world.clock.sleep(5.0)
        assert seen == []

    in_world(main)


def test_a_share_of_the_turns_is_drawn_and_the_same_seed_draws_the_same() -> None:
    async def count(seen: list[str], name: str) -> None:
        for number in range(5):
            seen.append(f"{name}{number}")
            await asyncio.sleep(0)

    def history(share: float, seed: int) -> list[str]:
        seen: list[str] = []

        async def main(world: World) -> None:
            for name in "abc":
                world.process(name).start(count(seen, name))
            await world.clock.sleep(1.0)

        in_world(main, share, seed)
        return seen

    assert history(0.0, 1) == [f"{name}{number}" for number in range(5) for name in "abc"]
    assert history(0.5, 1) == history(0.5, 1) != history(0.5, 2)
    for name in "abc":
        assert [each for each in history(0.5, 1) if each[0] == name] == [f"{name}{number}" for number in range(5)]


# --- what outlives a process


def _commands(world: World, launcher: SimulatedLauncher, script: TreeScript) -> Process:
    """Make a process that runs one command."""

    async def serve() -> None:
        async with Supervisor(clock=world.clock, launcher=launcher, locks=MemoryLockFiles(world.clock)) as supervisor:
            await supervisor.run_report("s", SimulatedCommand(script))

    process = world.process("one")
    process.start(serve())
    return process


def test_the_warden_of_a_killed_process_stops_its_tree_without_grace_and_its_life_file_says_so() -> None:
    async def main(world: World) -> None:
        launcher = SimulatedLauncher(keep_life=True)
        process = _commands(world, launcher, TreeScript(runs_s=100.0, ignores_sigterm_s=None, ends_in_s=0.5))
        await world.clock.sleep(1.0)
        (tree,) = launcher.trees
        assert launcher.tree_gone(tree.recorded)[0] is Death.ALIVE
        process.kill()
        await world.clock.sleep(0.25)
        assert launcher.tree_gone(tree.recorded)[0] is Death.ALIVE
        await world.clock.sleep(0.3)
        assert launcher.tree_gone(tree.recorded) == (Death.GONE, Exited(None, 9))
        await world.clock.sleep(100.0)
        assert launcher.tree_gone(tree.recorded)[0] is Death.GONE

    in_world(main)


def test_a_tree_whose_process_is_killed_before_its_command_has_started_ends_too() -> None:
    async def main(world: World) -> None:
        launcher = SimulatedLauncher(keep_life=True)
        process = _commands(world, launcher, TreeScript(runs_s=100.0, starts_in_s=1.0))
        await world.clock.sleep(0.5)
        (tree,) = launcher.trees
        assert Happening.WENT in tree.at
        process.kill()
        await world.clock.sleep(1.0)
        assert Happening.STARTED not in tree.at
        assert launcher.tree_gone(tree.recorded) == (Death.GONE, Exited(None, None))

    in_world(main)


def test_the_tree_of_a_frozen_process_goes_on_and_is_seen_to_end_on_thaw() -> None:
    async def main(world: World) -> None:
        launcher = SimulatedLauncher(keep_life=True)
        process = _commands(world, launcher, TreeScript(runs_s=2.0))
        await world.clock.sleep(1.0)
        process.freeze(for_s=10.0)
        (tree,) = launcher.trees
        await world.clock.sleep(5.0)
        assert tree.how_it_exited() == Exited(0, None)
        assert Happening.GONE not in tree.at, "it is told to leave by nobody"
        await world.clock.sleep(5.5)
        assert Happening.GONE in tree.at

    in_world(main)


def test_a_lock_file_of_a_killed_process_is_proved_dead_and_one_of_a_frozen_process_is_held() -> None:
    path = Path("a.jsonl")

    async def main(world: World) -> None:
        locks = MemoryLockFiles(world.clock)
        process = world.process("one")
        assert process.call(locks.take_now, path, 60.0) is not None
        process.freeze()
        busy = await locks.judge(path, Pids.AUTO)
        assert busy is not None
        assert busy.alive
        assert busy.holder == "process one"
        process.kill()
        assert await locks.judge(path, Pids.AUTO) is None
        assert locks.take_now(path, 60.0) is not None

    in_world(main)


def test_a_supervisor_that_is_killed_in_the_middle_of_an_attempt_says_and_does_nothing_more() -> None:
    work, events = ScriptedWork(hangs()), list[Any]()

    async def serve(world: World) -> None:
        async with Supervisor(clock=world.clock) as supervisor:
            supervisor.on(events.append)
            with suppress(Exception):
                await supervisor.run("s", work)

    async def main(world: World) -> None:
        process = world.process("one")
        process.start(serve(world))
        await world.clock.sleep(1.0)
        process.kill()
        await world.clock.sleep(10_000.0)
        assert [type(event).__name__ for event in events] == ["AttemptStarted"]
        assert work.attempts[0].ended is None

    in_world(main)
