"""Work that reaches beyond this process, and is asked whether it has ended there."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from policies.failure import Kind
from supervisor import Alive, Attempt, Gone, Status, Stopped, Supervisor, Unknown, Work
from supervisor.testing import ScriptedWork, fails, never_awaits, succeeds
from tests.supervisor.rules import now, rules


class Remote:
    """A turn at a gateway: each question whether it has stopped is answered by the next of the answers."""

    def __init__(self, step: Any, *answers: Callable[[], Any]) -> None:
        self.work = ScriptedWork(step)
        self.answers = answers
        self.asked: list[float] = []

    async def start(self, attempt: Attempt) -> Any:
        return await self.work(attempt)

    async def confirm_stopped(self, attempt: Attempt) -> Any:
        self.asked.append(now())
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]()
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer


def stopped() -> Stopped:
    return Stopped("the gateway says that the turn is over")


def alive() -> Alive:
    return Alive("turn 7 at the gateway")


async def hanging() -> Stopped:
    await asyncio.sleep(10_000.0)
    return Stopped()


def raising() -> Stopped:
    raise ConnectionError("gateway gone")


def cancelled() -> Stopped:
    raise asyncio.CancelledError


def strange() -> str:
    return "yes"


async def test_work_that_confirms_its_end_is_gone_after_success_and_failure(supervisor: Supervisor) -> None:
    remote = Remote(succeeds("answer"), stopped)
    assert isinstance(remote, Work)
    report = await supervisor.run("a", remote, policy=rules())
    assert report.value == "answer"
    assert report.attempts[0].released == Gone(("task ended", "the gateway says that the turn is over"))
    failing = Remote(fails("overloaded"), stopped)
    failed = await supervisor.run_report("a", failing, policy=rules(attempts=2))
    assert (failed.status, len(failing.asked)) == (Status.FAILED, 2)


async def test_a_plain_stopped_is_told_in_words(supervisor: Supervisor) -> None:
    report = await supervisor.run("a", Remote(succeeds(), Stopped), policy=rules())
    assert report.attempts[0].released.steps == ("task ended", "the work confirmed that it has stopped")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (alive, "turn 7 at the gateway"),
        (hanging, "did not say in time"),
        (raising, "could not say whether it has stopped: ConnectionError: gateway gone"),
        (cancelled, "could not say whether it has stopped"),
        (strange, "answered str, not Stopped or Alive"),
    ],
)
async def test_any_other_answer_is_no_proof(supervisor: Supervisor, answer: Callable[[], Any], says: str) -> None:
    remote = Remote(succeeds("answer"), answer, stopped)
    began = now()
    report = await supervisor.run_report("a", remote, policy=rules(grace_s=2.0))
    assert now() - began <= 2.0
    assert (report.status, report.reason) == (Status.QUARANTINED, "unconfirmed")
    [attempt] = report.attempts
    assert isinstance(attempt.released, Unknown)
    assert says in attempt.released.alive[0]
    assert attempt.failure is not None
    assert attempt.failure.kind is Kind.UNCONFIRMED
    refused = await supervisor.run_report("a", ScriptedWork(never_awaits()), policy=rules())
    assert (refused.status, refused.reason) == (Status.REFUSED, "quarantined")
    await asyncio.sleep(20.0)
    assert (await supervisor.run("a", ScriptedWork(never_awaits(1)), policy=rules())).value == 1


class Broken:
    """Its question is a plain function, and raises before there is anything to await."""

    async def start(self, attempt: Attempt) -> str:
        return "answer"

    def confirm_stopped(self, attempt: Attempt) -> Any:
        raise RuntimeError("cannot even be asked")


class Plain(Broken):
    def confirm_stopped(self, attempt: Attempt) -> Any:
        return Stopped()


@pytest.mark.parametrize(("work", "says"), [(Broken(), "cannot even be asked"), (Plain(), "could not say")])
async def test_a_question_that_cannot_be_awaited_is_no_proof(supervisor: Supervisor, work: Any, says: str) -> None:
    report = await supervisor.run_report("a", work, policy=rules())
    assert report.status is Status.QUARANTINED
    assert says in str(report.attempts[0].released)
    await supervisor.reset("a")
    assert (await supervisor.run("a", ScriptedWork(never_awaits(1)), policy=rules())).value == 1


async def test_work_without_the_question_is_a_mistake_that_is_told_at_once(supervisor: Supervisor) -> None:
    class Half:
        async def start(self, attempt: Attempt) -> None: ...

    for wrong in (Half(), object(), None, "text"):
        with pytest.raises(TypeError, match=type(wrong).__name__):
            await supervisor.run("a", wrong, policy=rules())  # type: ignore[arg-type]


async def test_work_whose_start_fails_at_once_is_asked_all_the_same(supervisor: Supervisor) -> None:
    class Refusing(Remote):
        def start(self, attempt: Attempt) -> Any:
            raise ConnectionRefusedError("no gateway")

    remote = Refusing(succeeds(), stopped)
    report = await supervisor.run_report("a", remote, policy=rules(attempts=1))
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.NETWORK
    assert len(remote.asked) == 1
