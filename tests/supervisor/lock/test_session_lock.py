"""Taking the session's lock: at once, or in a bounded wait; what holds it is judged by proof only."""

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Kind
from policies.policy import LockRule, Pids
from supervisor.clock import Clock, SystemClock, clock_of
from supervisor.errors import Failure, SessionLocked
from supervisor.lock import session_lock
from supervisor.lock.contents import MOST_BYTES
from supervisor.lock.session_lock import Busy, HeldLock, LockWait, SystemLockFiles
from supervisor.owner import this_process
from tests.supervisor.lock.lock_files import ANOTHER_BOOT, NEVER_STARTED, flocked, lock_of, write_foreign, write_ours


class Take:
    """One call of `take`, and what it told meanwhile."""

    def __init__(self, locks: SystemLockFiles, transcript: Path, clock: Clock | None = None) -> None:
        self.locks, self.transcript = locks, transcript
        self.clock = clock
        self.waited_for: list[Busy] = []
        self.reclaimed: list[tuple[Path, str]] = []

    async def __call__(self, wait_s: float = 10.0, until: float | None = None, pids: Pids = Pids.AUTO) -> HeldLock:
        clock = self.clock or clock_of(asyncio.get_running_loop())
        wait = LockWait(clock, until, self.waited_for.append, lambda *told: self.reclaimed.append(told))
        return await session_lock.take(
            self.locks, self.transcript, LockRule(wait_s=wait_s, pids=pids), max_hold_s=60, wait=wait
        )


@pytest.fixture
def take(locks: SystemLockFiles, transcript: Path) -> Take:
    return Take(locks, transcript)


# Taking it


def test_a_free_lock_is_taken_and_a_taken_one_is_not(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 60)
    assert held is not None
    assert locks.take_now(transcript, 60) is None
    held.release()
    again = locks.take_now(transcript, 60)
    assert again is not None
    again.release()


def test_max_hold_is_written_in_milliseconds(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 1.5)
    assert held is not None
    assert json.loads(held.path.read_bytes())["maxHoldMs"] == 1500
    held.release()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing/a.jsonl", "folder does not exist"),
        ("file/a.jsonl", "Not a directory"),
        ("loop/a.jsonl", "symbolic links"),
        ("n" * 255, "too long"),
    ],
)
def test_a_folder_that_cannot_hold_a_lock_is_invalid(
    locks: SystemLockFiles, tmp_path: Path, path: str, says: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Failure, match=says) as caught:
        locks.take_now(tmp_path / path, 60)
    assert caught.value.kind is Kind.INVALID
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_no_descriptor_left_is_an_error_that_may_pass_not_the_callers_mistake(
    locks: SystemLockFiles, transcript: Path
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(transcript.parent, os.O_RDONLY)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))  # enough for the folder, not for the file
        with pytest.raises(Failure, match="Too many open files") as caught:
            locks.take_now(transcript, 60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.kind is Kind.ERROR
    assert os.listdir(transcript.parent) == []


# Judging a holder


async def test_where_there_is_no_file_it_is_free(locks: SystemLockFiles, transcript: Path) -> None:
    assert await locks.judge(transcript, Pids.AUTO) is None


async def test_a_lock_of_this_process_is_held_and_says_so(locks: SystemLockFiles, transcript: Path) -> None:
    held = locks.take_now(transcript, 60)
    assert held is not None
    busy = await locks.judge(transcript, Pids.AUTO)
    assert busy is not None
    assert (busy.path, busy.pid, busy.alive) == (held.path, os.getpid(), True)
    assert "(this one)" in busy.holder
    held.release()


async def test_a_process_that_let_go_of_its_flock_is_dead(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_ours(transcript, pid=os.getpid())  # a pid says nothing: this one lives
    assert await locks.judge(transcript, Pids.UNKNOWN) is None
    assert not lock.exists()


async def test_a_flock_says_alive_whatever_the_file_says(locks: SystemLockFiles, transcript: Path) -> None:
    every: list[dict[str, Any]] = [{}, {"bootId": ANOTHER_BOOT}, {"host": "elsewhere"}, {"owner": "warden"}]
    for changes in every:
        lock = write_ours(transcript, **changes)
        with flocked(lock):
            busy = await locks.judge(transcript, Pids.OURS)
        assert busy is not None
        assert busy.alive is True
        assert lock.exists()


async def test_another_boot_of_this_host_is_dead_whoever_held_it(locks: SystemLockFiles, transcript: Path) -> None:
    for owner in ("process", "warden"):
        write_ours(transcript, bootId=ANOTHER_BOOT, owner=owner)
        found = await locks.look(transcript, Pids.AUTO)
        assert not isinstance(found, Busy)
        assert "booted since" in found.proof


async def test_another_machine_is_respected_and_named(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_ours(transcript, bootId=ANOTHER_BOOT, host="elsewhere")
    busy = await locks.judge(transcript, Pids.OURS)
    assert busy is not None
    assert busy.alive is None
    assert "elsewhere" in busy.holder
    assert f"rm {lock}" in busy.advice
    assert lock.exists()


async def test_a_container_of_this_machine_has_another_name_and_the_same_kernel(
    locks: SystemLockFiles, transcript: Path
) -> None:
    lock = write_ours(transcript, host="container")
    assert await locks.judge(transcript, Pids.AUTO) is None
    assert not lock.exists()


async def test_where_no_boot_can_be_told_from_another_a_free_flock_still_says_dead(
    locks: SystemLockFiles, transcript: Path
) -> None:
    write_ours(transcript, bootId="")
    found = await locks.look(transcript, Pids.AUTO)
    assert not isinstance(found, Busy)
    assert "flock" in found.proof


async def test_a_killed_warden_is_unknown_and_its_lock_says_what_to_do(
    locks: SystemLockFiles, transcript: Path
) -> None:
    for changes in ({}, {"gone": None}, {"bootId": ""}):
        lock = write_ours(transcript, owner="warden", **changes)
        busy = await locks.judge(transcript, Pids.OURS)
        assert busy is not None
        assert busy.alive is None
        assert "killed" in busy.holder
        assert "may still run" in busy.advice
        assert f"rm {lock}" in busy.advice
        assert lock.exists()


async def test_a_warden_that_wrote_gone_is_dead(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_ours(transcript, owner="warden", gone={"status": 0})
    assert await locks.judge(transcript, Pids.AUTO) is None
    assert not lock.exists()


async def test_a_living_foreign_holder_is_respected(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_foreign(transcript, os.getpid(), this_process().starttime)
    busy = await locks.judge(transcript, Pids.OURS)
    assert busy is not None
    assert (busy.pid, busy.alive) == (os.getpid(), True)
    assert busy.held_for_s is not None
    assert busy.held_for_s > 1000  # far beyond its maxHoldMs of 1: no age takes a lock away
    assert lock.exists()


async def test_a_recycled_pid_is_not_the_foreign_holder(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_foreign(transcript, os.getpid(), NEVER_STARTED)
    found = await locks.look(transcript, Pids.OURS)
    assert not isinstance(found, Busy)
    assert str(NEVER_STARTED) in found.proof
    assert not lock.exists()


async def test_a_foreign_pid_that_may_be_recycled_is_respected(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_foreign(transcript, os.getpid(), None)
    busy = await locks.judge(transcript, Pids.OURS)
    assert busy is not None
    assert busy.alive is None
    assert lock.exists()


async def test_where_pids_are_unknown_no_foreign_holder_is_judged(locks: SystemLockFiles, transcript: Path) -> None:
    lock = write_foreign(transcript, os.getpid(), NEVER_STARTED)
    busy = await locks.judge(transcript, Pids.UNKNOWN)
    assert busy is not None
    assert busy.alive is None
    assert lock.exists()


@pytest.mark.parametrize("content", [b"", b'{\n  "pid": 57', b"hello", b"[]", b"{}", b'{"pid": 7, "turnkeeper": 0}'])
async def test_a_file_that_names_nobody_is_respected_however_old_it_is(
    locks: SystemLockFiles, transcript: Path, content: bytes
) -> None:
    lock = lock_of(transcript)
    lock.write_bytes(content)
    os.utime(lock, (1_000_000_000, 1_000_000_000))
    busy = await locks.judge(transcript, Pids.OURS)
    assert busy is not None
    assert (busy.pid, busy.alive) == (None, None)
    assert f"rm {lock}" in busy.advice
    assert lock.read_bytes() == content


async def test_of_a_file_of_1_gb_no_more_than_a_lock_is_read(
    locks: SystemLockFiles, transcript: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(transcript)
    with lock.open("wb") as file:
        file.truncate(2**30)
    before = _bytes_read()
    busy = await locks.judge(transcript, Pids.AUTO)
    assert busy is not None
    assert busy.alive is None
    assert "larger than 64 KiB" in busy.holder
    assert _bytes_read() - before < 2 * MOST_BYTES
    assert lock.stat().st_size == 2**30


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
async def test_what_is_no_plain_file_is_invalid_to_judge_and_to_take(take: Take, transcript: Path, make: Any) -> None:
    make(lock_of(transcript))
    for refused in (take.locks.judge(transcript, Pids.OURS), take()):
        with pytest.raises(Failure) as caught:
            await refused
        assert caught.value.kind is Kind.INVALID
    assert os.listdir(transcript.parent) == [lock_of(transcript).name]


# Waiting for it


async def test_a_free_lock_is_taken_without_waiting(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    before = clock.now()
    held = await take()
    assert (clock.now(), take.waited_for, take.reclaimed) == (before, [], [])
    held.release()


@pytest.mark.parametrize("wait_s", [0.0, 10.0])
async def test_a_dead_holders_lock_is_taken_at_the_first_try(take: Take, wait_s: float) -> None:
    clock = clock_of(asyncio.get_running_loop())
    before = clock.now()
    lock = write_ours(take.transcript)
    held = await take(wait_s)
    assert (clock.now(), take.waited_for) == (before, [])
    [(path, proof)] = take.reclaimed
    assert path == lock
    assert proof == "Turnkeeper's process 7: the kernel let go of its flock"
    held.release()


async def test_a_live_holder_is_waited_for_and_told_once(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    start = clock.now()
    asyncio.get_running_loop().call_later(3.0, first.release)
    second = await take()
    assert 3.0 <= clock.now() - start <= 3.05 + 1e-6
    assert [busy.alive for busy in take.waited_for] == [True]
    second.release()


async def test_in_the_first_second_a_release_is_seen_within_5_ms(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    start = clock.now()
    asyncio.get_running_loop().call_later(0.0202, first.release)
    second = await take()
    assert 0.0202 <= clock.now() - start <= 0.0252 + 1e-6
    second.release()


async def test_a_holder_that_dies_during_the_wait_is_seen_in_a_quarter_of_a_second(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    lock = write_ours(take.transcript)
    file = lock.open()
    fcntl.flock(file, fcntl.LOCK_EX)
    start = clock.now()
    asyncio.get_running_loop().call_later(3.0, file.close)
    held = await take()
    assert 3.0 <= clock.now() - start <= 3.3
    assert len(take.reclaimed) == 1
    held.release()


async def test_a_wait_ends_with_an_error_that_names_path_holder_since_when_and_alive(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    start = clock.now()
    with pytest.raises(SessionLocked) as caught:
        await take(10.0)
    assert clock.now() - start == pytest.approx(10.0)
    error = caught.value
    assert (error.lock_path, error.holder_pid, error.holder_alive) == (first.path, os.getpid(), True)
    assert str(error).startswith(
        f"{first.path} is held by Turnkeeper's process {os.getpid()} (this one) for 0 s, alive; "
    )
    first.release()


async def test_a_wait_ends_at_until_when_that_is_earlier(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    start = clock.now()
    with pytest.raises(SessionLocked):
        await take(10.0, until=start + 2.5)
    assert clock.now() - start == pytest.approx(2.5)
    with pytest.raises(SessionLocked):
        await take(10.0, until=start)
    assert clock.now() - start == pytest.approx(2.5)
    first.release()


async def test_a_wait_of_zero_judges_once_and_does_not_sleep(take: Take) -> None:
    clock = clock_of(asyncio.get_running_loop())
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    start = clock.now()
    with pytest.raises(SessionLocked):
        await take(0.0)
    assert clock.now() == start
    first.release()


async def test_a_wait_counts_only_time_in_which_it_was_seen_held(take: Take) -> None:
    """Held for 4 s, free for an instant in which another takes it, held for 4 s more: a wait of 6 s ends after 6."""
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    lock = write_ours(take.transcript, owner="warden")
    start = clock.now()
    loop.call_later(4.0, lambda: write_foreign(take.transcript, os.getpid(), this_process().starttime))
    with pytest.raises(SessionLocked) as caught:
        await take(6.0, pids=Pids.OURS)
    assert clock.now() - start == pytest.approx(6.0)
    assert [busy.alive for busy in take.waited_for] == [None, True]  # each holder is told
    assert caught.value.holder_alive is True  # and the last one is named
    assert lock.exists()


async def test_an_empty_file_is_waited_for_and_judged_once_it_is_written(take: Take) -> None:
    lock = lock_of(take.transcript)
    lock.touch()
    loop = asyncio.get_running_loop()
    start = loop.time()
    loop.call_later(0.003, lambda: write_foreign(take.transcript, os.getpid(), NEVER_STARTED))
    held = await take(pids=Pids.OURS)
    assert loop.time() - start <= 0.005 + 1e-6
    assert [busy.pid for busy in take.waited_for] == [None]
    assert len(take.reclaimed) == 1
    held.release()


async def test_two_tasks_of_a_process_never_hold_it_at_once(locks: SystemLockFiles, transcript: Path) -> None:
    clock = clock_of(asyncio.get_running_loop())
    inside: list[int] = []

    async def turn(number: int) -> None:
        for _ in range(5):
            held = await Take(locks, transcript)(1000.0)
            inside.append(number)
            assert inside == [number]
            await clock.sleep(0.03)
            inside.remove(number)
            held.release()
            await clock.sleep(0.01)

    await asyncio.gather(*(turn(number) for number in range(4)))


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.0149, 0.25, 0.2501, 1.3])
async def test_a_wait_that_is_cancelled_leaves_nothing(take: Take, after_s: float) -> None:
    first = take.locks.take_now(take.transcript, 60)
    assert first is not None
    task = asyncio.ensure_future(take())
    await clock_of(asyncio.get_running_loop()).sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert first.release().endswith("released")
    assert os.listdir(take.transcript.parent) == []


def test_on_a_real_loop_a_dead_holders_lock_is_reclaimed_too(locks: SystemLockFiles, transcript: Path) -> None:
    async def once() -> str:
        write_foreign(transcript, os.getpid(), NEVER_STARTED)
        take = Take(locks, transcript, SystemClock())
        (await take(0.0, pids=Pids.OURS)).release()
        return take.reclaimed[0][1]

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert f"no process {os.getpid()} that started at {NEVER_STARTED}" in runner.run(once())
