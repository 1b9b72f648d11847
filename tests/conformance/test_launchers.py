"""What every launcher promises of its trees, whether they are processes or scripts."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from supervisor.errors import Failure
from supervisor.lock.life_file import Death, Exited
from supervisor.tree.contract import NotStarted, Tree, TreeGone, TreeUnknown
from tests.conformance.launching import (
    DIES,
    ENDS,
    FAILS,
    IGNORES,
    IS_NOT,
    LEAVES,
    STAYS,
    Bench,
    Says,
    SimulatedBench,
    SystemBench,
)


@pytest.fixture(params=[pytest.param("system", marks=pytest.mark.processes), "simulated"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench: Bench = SystemBench(tmp_path) if request.param == "system" else SimulatedBench(tmp_path)
    yield bench
    bench.clean_up()


async def parked(bench: Bench, says: Says, *, lock: bool = False) -> Tree:
    tree = await bench.park(says, lock=lock)
    assert tree is not None
    return tree


async def started(bench: Bench, says: Says, *, lock: bool = False) -> Tree:
    tree = await parked(bench, says, lock=lock)
    assert await tree.go(bench.program(says))
    await bench.under_way(says)
    return tree


async def ended(tree: Tree) -> TreeGone:
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    tree.forget()
    return gone


async def never(waited_for: Awaitable[object]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await waited_for


def test_a_parked_tree_that_is_dismissed_has_killed_nobody(bench: Bench) -> None:
    async def main() -> None:
        tree = await parked(bench, STAYS)
        await never(tree.gone())
        tree.dismiss()
        gone = await ended(tree)
        assert (gone.killed, gone.left, gone.steps) == (0, (), ())

    bench.run(main())


@pytest.mark.parametrize(
    ("says", "exited"),
    [(ENDS, Exited(0, None)), (FAILS, Exited(3, None)), (DIES, Exited(None, int(signal.SIGABRT)))],
)
def test_how_a_command_ended_is_told_and_its_tree_waits_for_the_word(bench: Bench, says: Says, exited: Exited) -> None:
    async def main() -> None:
        tree = await started(bench, says)
        assert await tree.exited() == exited
        await never(tree.gone())
        tree.stop(1.0)
        assert (await ended(tree)).killed == 0

    bench.run(main())


@pytest.mark.parametrize(
    ("says", "grace_s", "steps", "number"),
    [
        (STAYS, 30.0, ("SIGTERM: 1",), signal.SIGTERM),
        (STAYS, 0.0, ("SIGKILL: 1",), signal.SIGKILL),
        (IGNORES, 0.05, ("SIGTERM: 1", "SIGKILL: 1"), signal.SIGKILL),
    ],
)
def test_a_tree_is_asked_and_after_the_grace_killed(
    bench: Bench, says: Says, grace_s: float, steps: tuple[str, ...], number: int
) -> None:
    async def main() -> None:
        tree = await started(bench, says)
        tree.stop(grace_s)
        gone = await ended(tree)
        assert (gone.killed, gone.steps) == (1, steps)
        assert await tree.exited() == Exited(None, int(number))

    bench.run(main())


@pytest.mark.parametrize("how", [lambda tree: tree.hasten(), lambda tree: tree.stop(0.05)])
def test_a_grace_can_be_hastened_and_not_lengthened(bench: Bench, how: Callable[[Tree], None]) -> None:
    async def main() -> None:
        tree = await started(bench, IGNORES)
        tree.stop(3600.0)
        await never(tree.gone())
        how(tree)
        tree.stop(3600.0)
        await ended(tree)

    bench.run(main())


def test_what_a_command_has_started_is_stopped_with_it(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, LEAVES)
        await tree.exited()
        tree.stop(30.0)
        gone = await ended(tree)
        assert (gone.killed, gone.left) == (1, ())

    bench.run(main())


def test_what_a_command_has_started_is_left_on_word(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, LEAVES)
        await tree.exited()
        tree.leave()
        gone = await ended(tree)
        assert (gone.killed, len(gone.left), gone.steps) == (0, 1, ())

    bench.run(main())


def test_nothing_is_left_before_the_command_has_exited(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS)
        tree.leave()
        await never(tree.gone())
        tree.stop(0.0)
        assert (await ended(tree)).left == ()

    bench.run(main())


def test_a_command_that_cannot_be_started_says_so_and_its_tree_is_over(bench: Bench) -> None:
    async def main() -> None:
        tree = await parked(bench, IS_NOT)
        with pytest.raises(NotStarted) as raised:
            await tree.go(bench.program(IS_NOT))
        assert raised.value.exit_code == 127
        assert await tree.exited() == Exited(None, None)
        assert (await ended(tree)).killed == 0

    bench.run(main())


def test_a_lock_lives_exactly_as_long_as_its_tree(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, ENDS, lock=True)
        assert tree.lock_path is not None
        assert tree.lock_path.name == "reports.jsonl.lock"
        await tree.exited()
        assert bench.lock_is_held()
        assert await bench.park(ENDS, lock=True) is None
        tree.stop(0.0)
        await ended(tree)
        assert not bench.lock_is_held()
        again = await parked(bench, ENDS, lock=True)
        again.dismiss()
        await ended(again)

    bench.run(main())


def test_of_two_that_park_at_once_one_gets_the_lock(bench: Bench) -> None:
    async def main() -> None:
        both = await asyncio.gather(*(bench.park(STAYS, lock=True) for _ in range(2)))
        [tree] = [tree for tree in both if tree is not None]
        assert bench.life_files() == 1
        tree.dismiss()
        await ended(tree)

    bench.run(main())


@pytest.mark.parametrize("rounds", range(3))
def test_a_parking_that_is_cancelled_leaves_nothing(bench: Bench, rounds: int) -> None:
    async def main() -> None:
        parking = asyncio.ensure_future(bench.park(STAYS, lock=True))
        for _ in range(rounds):
            await asyncio.sleep(0)
        parking.cancel()
        await asyncio.wait([parking])
        if not parking.cancelled() and (tree := parking.result()) is not None:
            tree.dismiss()
            await ended(tree)
        assert not bench.lock_is_held()

    bench.run(main())


def test_a_life_file_says_whether_a_tree_lives_and_goes_when_it_is_forgotten(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, FAILS)
        assert bench.launcher.tree_gone(tree.recorded) == (Death.ALIVE, Exited(None, None))
        await tree.exited()
        tree.stop(0.0)
        await tree.gone()
        assert bench.launcher.tree_gone(tree.recorded) == (Death.GONE, Exited(3, None))
        tree.forget()
        assert bench.launcher.tree_gone(tree.recorded) == (Death.UNKNOWN, Exited(None, None))
        assert bench.life_files() == 0

    bench.run(main())


def test_a_tree_that_is_forgotten_too_early_loses_its_life_file_in_time(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS)
        tree.forget()
        assert bench.launcher.tree_gone(tree.recorded) == (Death.ALIVE, Exited(None, None))
        tree.stop(0.0)
        await tree.gone()
        assert bench.life_files() == 0

    bench.run(main())


def test_a_tree_that_is_abandoned_is_stopped_without_grace_and_leaves_no_life_file(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS)
        tree.abandon()
        gone = await tree.gone()
        assert isinstance(gone, TreeGone)
        assert gone.steps == ("SIGKILL: 1",)
        assert bench.life_files() == 0

    bench.run(main())


def test_a_tree_that_is_abandoned_while_it_is_stopped_is_still_seen_to_end(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, IGNORES)
        tree.stop(3600.0)
        await never(tree.gone())
        tree.abandon()
        gone = await tree.gone()
        assert isinstance(gone, TreeGone)
        assert gone.steps == ("SIGTERM: 1", "SIGKILL: 1")
        assert bench.life_files() == 0

    bench.run(main())


def test_a_recorded_tree_is_stopped_by_who_has_not_started_it(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS)
        assert bench.launcher.stop_tree(tree.recorded)
        assert (await ended(tree)).killed == 1
        assert not bench.launcher.stop_tree(tree.recorded)
        waiting = await parked(bench, STAYS)
        assert bench.launcher.stop_tree(waiting.recorded)
        with pytest.raises(NotStarted):
            await waiting.go(bench.program(STAYS))
        assert (await ended(waiting)).killed == 0

    bench.run(main())


def test_a_killed_warden_leaves_what_nobody_can_tell(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS, lock=True)
        bench.kill_warden(tree)
        assert isinstance(await tree.gone(), TreeUnknown)
        with pytest.raises(Failure, match="was killed"):
            await tree.exited()
        tree.forget()
        assert bench.launcher.tree_gone(tree.recorded) == (Death.UNKNOWN, Exited(None, None))
        assert not bench.launcher.stop_tree(tree.recorded)
        assert bench.life_files() == 1
        assert bench.lock_is_held()

    bench.run(main())


def test_a_warden_that_is_killed_while_it_is_parked_leaves_nothing(bench: Bench) -> None:
    async def main() -> None:
        tree = await parked(bench, STAYS, lock=True)
        bench.kill_warden(tree)
        assert isinstance(await tree.gone(), TreeGone)
        assert not bench.lock_is_held()
        with pytest.raises(NotStarted):
            await tree.go(bench.program(STAYS))
        tree.forget()
        assert bench.life_files() == 0

    bench.run(main())


def test_words_after_the_end_change_nothing(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, ENDS)
        tree.stop(1.0)
        gone = await ended(tree)
        tree.stop(1.0)
        tree.hasten()
        tree.leave()
        tree.forget()
        tree.abandon()
        assert await tree.gone() == gone

    bench.run(main())


def test_a_wait_that_is_cancelled_is_waited_again(bench: Bench) -> None:
    async def main() -> None:
        tree = await started(bench, STAYS)
        await never(tree.exited())
        await never(tree.gone())
        tree.stop(30.0)
        assert await tree.exited() == Exited(None, int(signal.SIGTERM))
        await ended(tree)

    bench.run(main())
