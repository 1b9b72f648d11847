"""Lock files in memory behave as those on disk: one contract, both kept to it."""

from pathlib import Path

import pytest

from policies.policy import LockRule, Pids
from supervisor import SessionLocked
from supervisor.clock import Clock
from supervisor.lock.session_lock import Busy, HeldLock, LockFiles, LockWait, SystemLockFiles, take
from supervisor.testing import VirtualClock, virtual_clock
from supervisor.testing.lock_files import MemoryLockFiles

BOTH = pytest.mark.parametrize("kind", [SystemLockFiles, MemoryLockFiles])


async def _take(locks: LockFiles, path: Path, clock: Clock, wait_s: float, until: float | None = None) -> HeldLock:
    waits: list[Busy] = []
    wait = LockWait(clock, until, waits.append, lambda *_: None)
    return await take(locks, path, LockRule(wait_s=wait_s), 60.0, wait)


@BOTH
def test_a_lock_that_is_held_is_not_taken(kind: type, tmp_path: Path) -> None:
    with virtual_clock() as clock:
        locks: LockFiles = kind(clock)
        lock = locks.take_now(tmp_path / "a.jsonl", 60.0)
        assert lock is not None
        assert lock.path.name == "a.jsonl.lock"
        assert locks.take_now(tmp_path / "a.jsonl", 60.0) is None
        assert lock.release() == lock.release()
        again = locks.take_now(tmp_path / "a.jsonl", 60.0)
        assert again is not None
        again.release()


@BOTH
def test_a_holder_that_lives_is_named_and_a_free_lock_is_nobodys(kind: type, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        locks: LockFiles = kind(clock)
        lock = locks.take_now(tmp_path / "a.jsonl", 60.0)
        assert lock is not None
        busy = await locks.judge(tmp_path / "a.jsonl", Pids.AUTO)
        assert busy is not None
        assert busy.alive
        lock.release()
        assert await locks.judge(tmp_path / "a.jsonl", Pids.AUTO) is None

    with virtual_clock() as clock:
        clock.run(main(clock))


@BOTH
@pytest.mark.parametrize(("wait_s", "until_s", "waited_s"), [(0.5, None, 0.5), (5.0, 0.3, 0.3), (0.0, None, 0.0)])
def test_who_waits_for_too_long_is_told_who_has_it(
    kind: type, tmp_path: Path, wait_s: float, until_s: float | None, waited_s: float
) -> None:
    async def main(clock: VirtualClock) -> float:
        locks: LockFiles = kind(clock)
        lock = locks.take_now(tmp_path / "a.jsonl", 60.0)
        assert lock is not None
        began = clock.now()
        with pytest.raises(SessionLocked):
            await _take(locks, tmp_path / "a.jsonl", clock, wait_s, None if until_s is None else began + until_s)
        lock.release()
        return clock.now() - began

    with virtual_clock() as clock:
        assert clock.run(main(clock)) == pytest.approx(waited_s, abs=0.03)


@BOTH
def test_who_waits_gets_it_when_it_is_let_go(kind: type, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        locks: LockFiles = kind(clock)
        lock = locks.take_now(tmp_path / "a.jsonl", 60.0)
        assert lock is not None
        clock.loop.call_later(0.2, lock.release)
        (await _take(locks, tmp_path / "a.jsonl", clock, 5.0)).release()

    with virtual_clock() as clock:
        clock.run(main(clock))


def test_what_a_dead_holder_left_is_reclaimed_on_proof_only() -> None:
    async def main(clock: VirtualClock) -> None:
        locks, path = MemoryLockFiles(clock), Path("a.jsonl")
        assert locks.hold(path, "pid 7")
        with pytest.raises(SessionLocked, match="pid 7"):
            await _take(locks, path, clock, 0.1)
        locks.die(path, "pid 7")
        assert locks.take_now(path, 60.0) is None
        lock = await _take(locks, path, clock, 0.0)
        assert locks.held() == {path: "this process"}
        lock.release()
        assert locks.held() == {}

    with virtual_clock() as clock:
        clock.run(main(clock))
