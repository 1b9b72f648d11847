import asyncio
import json
from dataclasses import dataclass, field

import pytest

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.testing import ScriptedWork, fails, hangs, heartbeats, never_awaits, raises, succeeds, virtual_clock
from supervisor.testing.launcher import Ending


@dataclass
class Attempt:
    number: int = 1
    session: str = "agent:main:reports"
    run_id: str = "run-1"
    beats: list[float] = field(default_factory=list)

    def heartbeat(self) -> None:
        self.beats.append(asyncio.get_running_loop().time())


def test_each_attempt_takes_the_next_step_and_the_last_one_repeats() -> None:
    async def main() -> list[str]:
        answers = []
        for number in range(1, 5):
            try:
                answers.append(await work(Attempt(number)))
            except Failure as error:
                answers.append(error.kind.value)
        return answers

    work = ScriptedWork(fails("timeout", after=300.0), fails(Kind.OVERLOADED), succeeds("done", after=2.0))
    with virtual_clock(start=0.0) as clock:
        assert clock.run(main()) == ["timeout", "overloaded", "done", "done"]
        assert clock.now() == 304.0


def test_it_keeps_what_each_attempt_did() -> None:
    async def main() -> None:
        with pytest.raises(Failure):
            await work(Attempt(1, "a", "run-1"))
        await work(Attempt(2, "a", "run-1"))

    work = ScriptedWork(fails("network", after=3.0), succeeds(after=1.0))
    virtual_clock(start=10.0).run(main())
    first, second = work.attempts
    assert (first.number, first.session, first.run_id, first.started_at, first.ended_at) == (1, "a", "run-1", 10, 13)
    assert (first.ended, first.error, first.step) == ("raised", "Failure: scripted: network", work.steps[0])
    assert (second.number, second.started_at, second.ended_at, second.ended) == (2, 13.0, 14.0, Ending.RETURNED)
    assert work.of("a") == [first, second]
    assert work.of("b") == []


def test_it_knows_how_many_attempts_of_a_session_overlapped() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for session in ("a", "a", "a", "b"):
                group.create_task(work(Attempt(session=session)))
            await asyncio.sleep(1)
            assert (work.alive("a"), work.alive("b"), work.alive("c")) == (3, 1, 0)
        await work(Attempt(session="b"))

    work = ScriptedWork(succeeds(after=2.0))
    virtual_clock().run(main())
    assert (work.overlap("a"), work.overlap("b"), work.overlap("c")) == (3, 1, 0)
    assert (work.alive("a"), work.alive("b")) == (0, 0)


def test_a_failure_may_say_when_to_come_back() -> None:
    async def main() -> None:
        with pytest.raises(Failure) as caught:
            await work(Attempt())
        assert caught.value.retry_after == 30.0
        with pytest.raises(ConnectionError) as other:
            await work(Attempt())
        assert getattr(other.value, "retry_after", None) == 7.0

    work = ScriptedWork(fails("rate_limited", retry_after=30.0), fails(ConnectionError("reset"), retry_after=7.0))
    virtual_clock().run(main())


def test_an_exception_is_made_anew_for_each_attempt() -> None:
    async def main() -> list[BaseException]:
        caught: list[BaseException] = []
        for _ in range(2):
            try:
                await work(Attempt())
            except OSError as error:
                caught.append(error)
        return caught

    work = ScriptedWork(fails(OSError(5, "Input/output error")))
    first, second = virtual_clock().run(main())
    assert first is not second
    assert first.args == second.args == (5, "Input/output error")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(2), GeneratorExit, asyncio.CancelledError])
def test_it_raises_what_is_no_exception(error: BaseException | type[BaseException]) -> None:
    async def main() -> None:
        await work(Attempt())

    work = ScriptedWork(raises(error, after=1.0))
    with pytest.raises(error if isinstance(error, type) else type(error)):
        virtual_clock().run(main())
    assert work.attempts[0].ended_at is not None


def test_work_that_hangs_ends_when_it_is_cancelled() -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work(Attempt())

    work = ScriptedWork(hangs())
    with pytest.raises(TimeoutError):
        virtual_clock(start=0.0).run(main())
    (fact,) = work.attempts
    assert (fact.ended, fact.ended_at, fact.cancelled_at) == (Ending.CANCELLED, 60.0, [60.0])


def test_work_that_ignores_cancellation_lives_on() -> None:
    async def main() -> None:
        task = asyncio.create_task(work(Attempt()))
        for _ in range(3):
            await asyncio.sleep(2)
            task.cancel()
        await asyncio.sleep(0)
        assert work.alive("agent:main:reports") == 1
        assert await task is None

    work = ScriptedWork(hangs(ignoring_cancellation_for=5.0))
    clock = virtual_clock(start=0.0)
    clock.run(main())
    (fact,) = work.attempts
    assert (fact.ended, fact.ended_at, fact.cancelled_at) == (Ending.OUTLIVED, 7.0, [2.0, 4.0, 6.0])


def test_work_that_never_awaits_is_done_in_one_step() -> None:
    attempt = ScriptedWork(never_awaits("at once"))

    async def main() -> None:
        driven = attempt(Attempt())
        with pytest.raises(StopIteration, match="at once"):
            driven.send(None)

    virtual_clock().run(main())


def test_work_that_succeeds_at_once_suspends_once() -> None:
    work = ScriptedWork(succeeds("later"))

    async def main() -> None:
        driven = work(Attempt())
        driven.send(None)
        with pytest.raises(StopIteration, match="later"):
            driven.send(None)

    virtual_clock().run(main())


def test_work_shows_life_and_then_goes_on() -> None:
    async def main() -> None:
        assert await work(attempt) == "done"
        async with asyncio.timeout(10):
            await work(attempt)

    attempt = Attempt()
    work = ScriptedWork(heartbeats(2.0, 3, then=succeeds("done")), heartbeats(1.0, 2, then=hangs()))
    with pytest.raises(TimeoutError):
        virtual_clock(start=0.0).run(main())
    assert attempt.beats == [2.0, 4.0, 6.0, 7.0, 8.0]
    assert [fact.heartbeats for fact in work.attempts] == [3, 2]
    assert work.attempts[1].ended_at == 16.0


def test_an_attempt_that_nobody_drives_to_its_end_is_closed() -> None:
    async def main() -> None:
        driven = work(Attempt())
        driven.send(None)
        driven.close()

    work = ScriptedWork(succeeds(after=5.0))
    virtual_clock().run(main())
    assert work.attempts[0].ended is Ending.CLOSED


def test_a_script_is_kept_as_json() -> None:
    work = ScriptedWork(
        succeeds({"a": [1, None]}, after=1.5),
        never_awaits("x"),
        fails("rate_limited", after=2.0, retry_after=30.0),
        fails(ConnectionResetError(104, "reset by peer")),
        raises(KeyboardInterrupt, after=0.5),
        hangs(ignoring_cancellation_for=3.0),
        heartbeats(1.0, 4, then=heartbeats(2.0, 1, then=fails(UnicodeError("bad")))),
    )
    assert ScriptedWork.from_json(json.loads(json.dumps(work.as_json()))).steps == work.steps


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="one step or more"):
        ScriptedWork()
