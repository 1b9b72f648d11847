"""Simulated trees: what is theirs alone. What they share with real ones is in tests/conformance/test_launchers.py."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from policies.budget import Budget
from policies.failure import Kind
from policies.policy import AttemptLimits, Policy
from supervisor import Outcome, Supervisor
from supervisor.errors import Failure
from supervisor.testing import (
    Happening,
    MemoryLockFiles,
    SimulatedCommand,
    SimulatedLauncher,
    TreeScript,
    VirtualClock,
    virtual_clock,
)
from supervisor.testing.simulated_tree import SimulatedTree
from supervisor.testing.streams import SimulatedStreams
from supervisor.tree.contract import LockWanted, Program, Streams, TreeGone, TreeUnknown
from supervisor.work.streams import CommandStreams

PROGRAM = Program(["simulated"], {})


def streams_of(script: TreeScript) -> SimulatedStreams:
    return SimulatedStreams(script, lambda: None)


async def parked(script: TreeScript) -> SimulatedTree:
    tree = await SimulatedLauncher().park(streams_of(script).descriptors())
    assert tree is not None
    return tree


def moments(tree: SimulatedTree) -> dict[Happening, float]:
    """Return when what happened, from its warden's start."""
    return {what: round(at - tree.at[Happening.SPAWNED], 6) for what, at in tree.at.items()}


async def test_each_length_of_a_script_is_the_time_that_it_takes() -> None:
    tree = await parked(
        TreeScript(parks_in_s=1.0, starts_in_s=2.0, runs_s=4.0, daemons=1, daemons_ignore_sigterm_s=8.0, ends_in_s=16.0)
    )
    await tree.go(PROGRAM)
    await tree.exited()
    tree.stop(60.0)
    assert isinstance(await tree.gone(), TreeGone)
    assert moments(tree) == {
        Happening.SPAWNED: 0.0,
        Happening.PARKED: 1.0,
        Happening.WENT: 1.0,
        Happening.STARTED: 3.0,
        Happening.EXITED: 7.0,
        Happening.TOLD: 7.0,
        Happening.GONE: 31.0,
    }


async def test_a_daemon_may_end_by_itself() -> None:
    tree = await parked(TreeScript(daemons=2, daemons_run_s=3.0))
    await tree.go(PROGRAM)
    await tree.exited()
    assert tree.processes == 2
    await asyncio.sleep(3.0)
    assert tree.processes == 0
    tree.stop(1.0)
    assert await tree.gone() == TreeGone(0, (), (), 0.0)


async def test_a_stop_that_comes_while_the_command_is_started_stops_it_then() -> None:
    tree = await parked(TreeScript(starts_in_s=1.0, runs_s=None))
    going = asyncio.create_task(tree.go(PROGRAM))
    await asyncio.sleep(0.5)
    tree.stop(0.0)
    assert await going
    assert (await tree.gone(), moments(tree)[Happening.GONE]) == (TreeGone(1, (), ("SIGKILL: 1",), 0.5), 1.0)


@pytest.mark.parametrize(
    ("what", "is_known"),
    [
        (Happening.SPAWNED, True),
        (Happening.PARKED, True),
        (Happening.WENT, False),
        (Happening.STARTED, False),
        (Happening.EXITED, False),
        (Happening.TOLD, False),
    ],
)
async def test_a_warden_dies_when_it_is_to_and_before_its_tree_goes_that_leaves_nothing(
    what: Happening, *, is_known: bool
) -> None:
    script = TreeScript(parks_in_s=5.0, starts_in_s=5.0, runs_s=5.0, ends_in_s=5.0, warden_dies=(what, 2.0))
    launcher = SimulatedLauncher()
    streams = streams_of(script)
    if what is Happening.SPAWNED:
        with pytest.raises(Failure, match="ended at once"):
            await launcher.park(streams.descriptors())
    else:
        tree = await launcher.park(streams.descriptors())
        assert tree is not None
        if what is not Happening.PARKED:
            going = asyncio.create_task(tree.go(PROGRAM))
            await asyncio.sleep(11.0)
            tree.stop(30.0)
            await asyncio.wait([going])
        await tree.gone()
    [tree] = launcher.trees
    assert isinstance(tree.outcome, TreeGone if is_known else TreeUnknown)
    ended = Happening.GONE if is_known else Happening.UNKNOWN
    assert tree.at[ended] == tree.at[what] + 2.0
    assert bool(launcher.life_files()) is (what is not Happening.SPAWNED)


async def test_a_machine_that_refuses_a_warden_starts_none() -> None:
    launcher = SimulatedLauncher()
    with pytest.raises(Failure, match="no processes") as raised:
        await launcher.park(streams_of(TreeScript(cannot_park="no processes are left")).descriptors())
    assert (raised.value.kind, launcher.trees) == (Kind.ERROR, [])


async def test_a_lock_that_somebody_takes_while_the_warden_starts_is_busy() -> None:
    locks = MemoryLockFiles(virtual_clock())
    launcher = SimulatedLauncher(locks)
    wanted = LockWanted(Path("a.jsonl"), 1.0)
    parking = asyncio.create_task(launcher.park(streams_of(TreeScript(parks_in_s=1.0)).descriptors(), wanted))
    await asyncio.sleep(0.5)
    assert locks.hold(Path("a.jsonl"), "somebody")
    assert await parking is None
    [tree] = launcher.trees
    assert (type(tree.outcome), launcher.life_files()) == (TreeGone, [])
    assert locks.held() == {Path("a.jsonl"): "somebody"}


async def test_where_a_tree_is_to_hold_a_lock_the_launcher_needs_the_lock_files() -> None:
    with pytest.raises(ValueError, match=r"needs the supervisor's MemoryLockFiles"):
        await SimulatedLauncher().park(Streams(0, 1, 2), LockWanted(Path("a.jsonl"), 1.0))


async def test_a_parked_warden_that_hangs_is_killed_a_second_after_it_was_not_wanted_any_more() -> None:
    launcher = SimulatedLauncher()
    parking = asyncio.create_task(launcher.park(streams_of(TreeScript(parks_in_s=1e9, ends_in_s=1e9)).descriptors()))
    await asyncio.sleep(0.5)
    parking.cancel()
    await asyncio.wait([parking])
    assert moments(launcher.trees[0])[Happening.GONE] == 1.5


async def test_streams_are_drained_once_nobody_has_them_open() -> None:
    streams = streams_of(TreeScript(output="done", daemons=1, daemons_run_s=2.0))
    tree = await SimulatedLauncher().park(streams.descriptors())
    assert tree is not None
    await tree.go(PROGRAM)
    await tree.exited()
    assert (streams.tail(), streams.drained.done()) == (b"done", False)
    await asyncio.sleep(2.0)
    assert streams.drained.done()
    stalled = streams_of(TreeScript(output="done", reader_stalls=True))
    tree = await SimulatedLauncher().park(stalled.descriptors())
    assert tree is not None
    await tree.go(PROGRAM)
    await tree.exited()
    assert not stalled.drained.done()
    stalled.close()
    assert stalled.drained.done()


async def test_nothing_but_the_supervisor_keeps_what_a_command_wrote() -> None:
    heard: list[int] = []
    streams = SimulatedStreams(TreeScript(runs_s=None, says_every_s=1.0), lambda: heard.append(1))
    launcher = SimulatedLauncher()
    tree = await launcher.park(streams.descriptors())
    assert tree is not None
    await tree.go(PROGRAM)
    await asyncio.sleep(2.5)
    del streams
    await asyncio.sleep(2.0)
    assert len(heard) == 2


def test_streams_have_all_that_a_commands_own_have() -> None:
    theirs = {name for name in dir(CommandStreams) if not name.startswith("_")}
    assert theirs <= set(dir(SimulatedStreams))


async def test_each_thing_is_told_as_it_happens() -> None:
    told: list[Happening] = []
    launcher = SimulatedLauncher(tell=lambda _, what: told.append(what))
    tree = await launcher.park(streams_of(TreeScript()).descriptors())
    assert tree is not None
    tree.dismiss()
    await tree.gone()
    tree.forget()
    assert told == [
        Happening.SPAWNED,
        Happening.PARKED,
        Happening.TOLD,
        Happening.GONE,
        Happening.FORGOTTEN,
    ]


def test_a_script_survives_its_json() -> None:
    script = TreeScript(runs_s=None, warden_dies=(Happening.WENT, 0.5))
    shape = json.loads(json.dumps(asdict(script)))
    assert TreeScript(**{**shape, "warden_dies": tuple(shape["warden_dies"])}) == script


def test_a_users_test_runs_a_command_for_hours_in_no_time() -> None:
    async def main(clock: VirtualClock) -> None:
        locks = MemoryLockFiles(clock)
        launcher = SimulatedLauncher(locks)
        hourly = Policy("hourly", AttemptLimits(timeout_s=3600.0, grace_s=5.0), Budget(deadline_s=36_000.0))
        hangs, works = TreeScript(runs_s=None, ignores_sigterm_s=None), TreeScript(runs_s=60.0, output="42")
        async with Supervisor(launcher=launcher, locks=locks) as supervisor:
            report = await supervisor.run("agent:main:reports", SimulatedCommand(hangs, works), policy=hourly)
        assert [attempt.outcome for attempt in report.attempts] == [Outcome.FAILED, Outcome.SUCCEEDED]
        assert report.value.stdout == b"42"
        assert clock.now() > 4000.0

    with virtual_clock() as clock:
        clock.run(main(clock))


def test_a_command_needs_a_script() -> None:
    with pytest.raises(ValueError, match="one script or more"):
        SimulatedCommand()
