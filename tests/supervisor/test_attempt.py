"""What the work sees of its attempt."""

import asyncio
from pathlib import Path

import pytest

from policies.failure import Kind
from policies.policy import LockRule
from supervisor import Attempt, Failure, SessionLocked, Status, Supervisor, current_attempt
from supervisor.clock import clock_of
from supervisor.events import LockReclaimed, LockTaken, LockWaiting
from supervisor.lock.session_lock import LockWait, SystemLockFiles
from supervisor.testing import Recorded, ScriptedWork, hangs, never_awaits
from supervisor.testing.lock_files import MemoryLockFiles
from tests.supervisor.rules import failures_counted, now, rules, tokens_spent


async def test_it_says_who_it_is(supervisor: Supervisor) -> None:
    async def work(attempt: Attempt) -> tuple[str, str, str]:
        assert repr(attempt) == f"<Attempt 1 of run {attempt.run_id}, session 'a'>"
        return attempt.session, attempt.run_id, attempt.idempotency_key

    report = await supervisor.run("a", work, policy=rules())
    assert report.value == ("a", report.run_id, f"{report.run_id}-1")


async def test_what_remains_is_the_shorter_of_timeout_and_deadline(supervisor: Supervisor) -> None:
    seen: list[tuple[float | None, float | None]] = []

    async def work(attempt: Attempt) -> None:
        before = attempt.remaining()
        await asyncio.sleep(2.0)
        seen.append((before, attempt.remaining()))

    for timeout_s, deadline_s in ((10.0, 600.0), (10.0, 5.0), (None, 5.0), (None, None)):
        await supervisor.run("a", work, policy=rules(timeout_s=timeout_s, deadline_s=deadline_s))
    assert seen == [(10.0, 8.0), (5.0, 3.0), (5.0, 3.0), (None, None)]


async def test_nothing_remains_after_the_end_and_never_less(supervisor: Supervisor) -> None:
    kept: list[Attempt] = []

    async def work(attempt: Attempt) -> None:
        kept.append(attempt)

    await supervisor.run("a", work, policy=rules())
    await asyncio.sleep(100.0)
    assert kept[0].remaining() == 0.0


async def test_an_attempt_that_is_over_is_nobodys_current_one(supervisor: Supervisor) -> None:
    seen: list[Attempt | None] = []

    async def background() -> None:
        await asyncio.sleep(0.5)
        seen.append(current_attempt())
        await asyncio.sleep(5.0)
        seen.append(current_attempt())

    async def work(attempt: Attempt) -> "asyncio.Task[None]":
        task = asyncio.create_task(background())
        await asyncio.sleep(1.0)
        return task

    report = await supervisor.run("a", work, policy=rules())
    await report.value
    assert isinstance(seen[0], Attempt)
    assert seen[1] is None


async def test_a_lock_taken_twice_is_taken_once(supervisor: Supervisor, recorded: Recorded, tmp_path: Path) -> None:
    async def work(attempt: Attempt) -> None:
        await attempt.lock(tmp_path / "a.jsonl")
        await attempt.lock(str(tmp_path / "a.jsonl"))
        await attempt.lock(tmp_path / "b.jsonl")

    report = await supervisor.run("a", work, policy=rules())
    await asyncio.sleep(0)
    assert len(recorded.of(LockTaken)) == 2
    assert report.attempts[0].released.steps == (
        "task ended",
        f"lock {tmp_path}/b.jsonl.lock released",
        f"lock {tmp_path}/a.jsonl.lock released",
    )


async def test_locks_are_let_go_after_everything_else(supervisor: Supervisor, tmp_path: Path) -> None:
    """What still writes to the transcript does so under its lock."""
    held: list[bool] = []

    async def work(attempt: Attempt) -> None:
        attempt.callback(lambda: held.append((tmp_path / "a.jsonl.lock").exists()))
        await attempt.lock(tmp_path / "a.jsonl")

    await supervisor.run("a", work, policy=rules())
    assert held == [True]
    assert not (tmp_path / "a.jsonl.lock").exists()


async def test_a_lock_that_stays_busy_raises_session_locked_with_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(path, "gateway, pid 7")

    async def work(attempt: Attempt) -> None:
        began = now()
        with pytest.raises(SessionLocked) as caught:
            await attempt.lock(path)
        assert now() - began == pytest.approx(5.0)
        assert (caught.value.holder_pid, caught.value.holder_alive) == (7, True)
        assert caught.value.held_for_s == pytest.approx(5.0)
        for part in (str(path), "gateway, pid 7", "for 5 s, alive"):
            assert part in str(caught.value)

    async with Supervisor(locks=locks) as supervisor:
        await supervisor.run("a", work, policy=rules(lock_wait_s=5.0))


_OWN_TIME = [
    {"timeout_s": 3.0},
    {"timeout_s": 3.001},
    {"timeout_s": 3.0071},
    {"timeout_s": 2.9996},
    {"timeout_s": 60.0},
    {"timeout_s": None, "deadline_s": 3.0},
    {"idle_s": 3.0},
]


@pytest.mark.parametrize("own_time", _OWN_TIME, ids=str)
@pytest.mark.parametrize("real", [False, True], ids=["in memory", "on disk"])
async def test_waiting_for_a_lock_past_the_attempts_own_time_is_busy_and_not_a_timeout(
    own_time: dict[str, float | None], *, real: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    clock = clock_of(asyncio.get_running_loop())
    memory = MemoryLockFiles(clock)
    memory.hold(path, "somebody")
    held = None if not real else SystemLockFiles(clock).take_now(path, 600.0)

    async def work(attempt: Attempt) -> None:
        await attempt.lock(path)

    async with Supervisor(locks=None if real else memory) as supervisor:
        report = await supervisor.run_report("a", work, policy=rules(lock_wait_s=600.0, **own_time))  # type: ignore[arg-type]
        assert (tokens_spent(supervisor, "a"), failures_counted(supervisor, "a")) == (0.0, 0)
    assert (report.status, report.reason) == (Status.REFUSED, "busy")
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.BUSY
    waited_s = own_time.get("idle_s") or own_time.get("deadline_s") or own_time["timeout_s"]
    assert waited_s is not None
    assert f"for {waited_s:.0f} s, alive" in report.attempts[0].failure.message
    if held is not None:
        held.release()


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real path of a working directory with a folder `s`, which is also called `linked`."""
    monkeypatch.chdir(tmp_path)
    Path("s").mkdir()
    Path("linked").symlink_to("s")
    return tmp_path.resolve()


@pytest.mark.parametrize("spelling", ["s/a.jsonl", "s/../s/a.jsonl", "linked/a.jsonl"])
async def test_a_lock_is_the_same_however_its_path_is_spelled(
    supervisor: Supervisor, spelling: str, linked: Path
) -> None:
    released = ("task ended", f"lock {linked}/s/a.jsonl.lock released")

    async def twice(attempt: Attempt) -> None:
        await attempt.lock(linked / "s/a.jsonl")
        await attempt.lock(spelling)

    report = await supervisor.run("a", twice, policy=rules(lock_wait_s=1.0))
    assert report.attempts[0].released.steps == released
    report = await supervisor.run(
        "a", lambda attempt: attempt.lock(spelling), policy=rules(lock_wait_s=1.0), lock=linked / "s/a.jsonl"
    )
    assert report.attempts[0].released.steps == released


async def test_a_lock_stays_the_same_file_when_the_working_directory_changes(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    held: list[bool] = []

    async def work(attempt: Attempt) -> None:
        held.append((tmp_path / "a.jsonl.lock").exists())
        monkeypatch.chdir(tmp_path / "elsewhere")
        if attempt.number == 1:
            raise ConnectionError

    await supervisor.run("a", work, policy=rules(), lock="a.jsonl")
    assert held == [True, True]


async def test_of_two_tasks_that_wait_for_one_lock_the_second_has_it_with_the_first(tmp_path: Path) -> None:
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(tmp_path / "a.jsonl", "somebody")
    asyncio.get_running_loop().call_later(2.0, locks.free, tmp_path / "a.jsonl", "somebody")
    recorded = Recorded()

    async def late(attempt: Attempt) -> None:
        await asyncio.sleep(1.0)
        await attempt.lock(tmp_path / "a.jsonl")

    async def work(attempt: Attempt) -> None:
        began = now()
        await asyncio.gather(attempt.lock(tmp_path / "a.jsonl"), attempt.lock(tmp_path / "a.jsonl"), late(attempt))
        assert now() - began == pytest.approx(2.0, abs=0.1)

    async with Supervisor(locks=locks) as supervisor:
        supervisor.on(recorded)
        report = await supervisor.run("a", work, policy=rules())
    assert report.attempts[0].released.steps == ("task ended", f"lock {tmp_path / 'a.jsonl.lock'} released")
    assert [len(recorded.of(kind)) for kind in (LockWaiting, LockTaken)] == [1, 1]


async def test_when_the_task_that_waits_for_a_lock_is_cancelled_the_next_one_waits_on(tmp_path: Path) -> None:
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(tmp_path / "a.jsonl", "somebody")
    asyncio.get_running_loop().call_later(2.0, locks.free, tmp_path / "a.jsonl", "somebody")

    async def work(attempt: Attempt) -> None:
        first = asyncio.ensure_future(attempt.lock(tmp_path / "a.jsonl"))
        second = asyncio.ensure_future(attempt.lock(tmp_path / "a.jsonl"))
        await asyncio.sleep(1.0)
        first.cancel()
        await second
        assert tmp_path / "a.jsonl" in locks.held()

    async with Supervisor(locks=locks) as supervisor:
        await supervisor.run("a", work, policy=rules())


async def test_tasks_that_wait_for_one_lock_together_wait_no_longer_than_one(tmp_path: Path) -> None:
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(tmp_path / "a.jsonl", "somebody")

    async def work(attempt: Attempt) -> None:
        began = now()
        ends = await asyncio.gather(*(attempt.lock(tmp_path / "a.jsonl") for _ in range(4)), return_exceptions=True)
        assert [type(end) for end in ends] == [SessionLocked] * 4
        assert now() - began == pytest.approx(5.0, abs=0.2)
        assert not attempt._awaited

    async with Supervisor(locks=locks) as supervisor:
        await supervisor.run("a", work, policy=rules(lock_wait_s=5.0))


async def test_a_lock_path_that_cannot_be_is_invalid(supervisor: Supervisor, tmp_path: Path) -> None:
    for path in ("", "a\ud800", tmp_path / "a\0", tmp_path / "missing" / "a.jsonl"):
        report = await supervisor.run_report("a", lambda attempt, path=path: attempt.lock(path), policy=rules())  # type: ignore[misc]
        assert report.attempts[0].failure is not None
        assert report.attempts[0].failure.kind is Kind.INVALID


async def test_a_lock_that_nobody_could_look_at_in_time_is_busy_too(tmp_path: Path) -> None:
    class Slow(MemoryLockFiles):
        async def wait_until_free(self, path: Path, rule: LockRule, wait: LockWait) -> LockRule:
            await asyncio.sleep(100.0)
            return rule

    locks = Slow(clock_of(asyncio.get_running_loop()))
    locks.hold(tmp_path / "a.jsonl", "somebody")

    async def work(attempt: Attempt) -> None:
        await attempt.lock(tmp_path / "a.jsonl")

    async with Supervisor(locks=locks) as supervisor:
        report = await supervisor.run_report("a", work, policy=rules(timeout_s=3.0, lock_wait_s=60.0))
    assert report.reason == "busy"
    assert f"{tmp_path / 'a.jsonl.lock'} is held by somebody" in report.detail


async def test_a_lock_that_was_had_after_a_wait_leaves_a_timeout_a_timeout(tmp_path: Path) -> None:
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(tmp_path / "a.jsonl", "somebody")
    asyncio.get_running_loop().call_later(2.0, locks.free, tmp_path / "a.jsonl", "somebody")

    async def work(attempt: Attempt) -> None:
        await attempt.lock(tmp_path / "a.jsonl")
        await asyncio.sleep(100.0)

    async with Supervisor(locks=locks) as supervisor:
        report = await supervisor.run_report("a", work, policy=rules(attempts=1, timeout_s=3.0))
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.TIMEOUT


async def test_the_lock_of_a_dead_holder_is_reclaimed_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(path, "somebody")
    locks.die(path, "somebody")
    recorded = Recorded()

    async def work(attempt: Attempt) -> None:
        began = now()
        await attempt.lock(path)
        assert now() == began

    async with Supervisor(locks=locks) as supervisor:
        supervisor.on(recorded)
        await supervisor.run("a", work, policy=rules())
    assert [event.proof for event in recorded.of(LockReclaimed)] == ["its holder is dead"]


async def test_a_lock_got_too_late_is_let_go_again(tmp_path: Path) -> None:
    """Work that ignores its cancellation while it waits for a lock gets nothing to keep."""
    path = tmp_path / "a.jsonl"
    locks = MemoryLockFiles(clock_of(asyncio.get_running_loop()))
    locks.hold(path, "somebody")
    raised: list[str] = []

    async def stubborn(attempt: Attempt) -> None:
        waiting = asyncio.ensure_future(attempt.lock(path))
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue
            except RuntimeError as error:
                raised.append(str(error))

    async with Supervisor(locks=locks) as supervisor:
        policy = rules(timeout_s=None, deadline_s=None, grace_s=1.0, lock_wait_s=1000.0)
        task = asyncio.create_task(supervisor.run_report("a", stubborn, policy=policy))
        await asyncio.sleep(2.0)
        task.cancel()
        await asyncio.wait([task])
        locks.free(path, "somebody")
        await asyncio.sleep(10.0)
        assert locks.held() == {}
    assert "is over: it can take no lock" in raised[0]


async def test_a_failure_of_an_unknown_kind_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="teapot"):
        Failure("teapot", "no such kind")
    assert Failure("overloaded", "m").kind is Kind.OVERLOADED


async def test_the_default_of_a_failure_is_no_retry_after(supervisor: Supervisor) -> None:
    failure = Failure(Kind.AUTH, "bad key", retry_after=3.0)
    assert (failure.kind, failure.message, failure.retry_after, str(failure)) == (Kind.AUTH, "bad key", 3.0, "bad key")
    assert Failure(Kind.AUTH, "bad key").retry_after is None


async def test_a_heartbeat_after_the_end_harms_nobody(supervisor: Supervisor) -> None:
    kept: list[Attempt] = []

    async def work(attempt: Attempt) -> None:
        kept.append(attempt)

    await supervisor.run("a", work, policy=rules(idle_s=5.0))
    kept[0].heartbeat()
    report = await supervisor.run_report("a", ScriptedWork(hangs()), policy=rules(attempts=1, idle_s=5.0))
    assert report.duration_s == 5.0
    await supervisor.run("a", ScriptedWork(never_awaits()), policy=rules())
