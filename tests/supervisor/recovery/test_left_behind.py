"""A quarantined session is watched, and freed when what it names was seen to end."""

import asyncio

import pytest

from supervisor import Alive, Attempt, RunRefused, Status, Stopped, Supervisor
from supervisor.events import QuarantineLifted, SessionQuarantined
from supervisor.recovery.left_behind import FIRST_ASK_S, LAST_ASK_S
from supervisor.testing import Recorded, ScriptedWork, hangs, never_awaits, succeeds
from tests.supervisor.rules import now, rules


class Gateway:
    """Says that a turn lives until a moment; `hangs` and `breaks`: the numbers of questions it does not answer."""

    def __init__(self, lives_s: float, hangs: tuple[int, ...] = (), breaks: tuple[int, ...] = ()) -> None:
        self.until = now() + lives_s
        self.hangs, self.breaks = hangs, breaks
        self.asked: list[float] = []

    async def start(self, attempt: Attempt) -> str:
        return "answer"

    async def confirm_stopped(self, attempt: Attempt) -> Stopped | Alive:
        self.asked.append(now())
        if len(self.asked) in self.hangs:
            await asyncio.get_running_loop().create_future()
        if len(self.asked) in self.breaks:
            raise ConnectionError("gateway gone")
        return Alive("turn 7") if now() < self.until else Stopped()


async def is_free(supervisor: Supervisor) -> bool:
    return (await supervisor.run_report("a", ScriptedWork(never_awaits()), policy=rules())).status is Status.SUCCEEDED


async def test_work_is_asked_again_at_growing_distances_until_it_has_stopped(supervisor: Supervisor) -> None:
    gateway = Gateway(lives_s=2000.0)
    await supervisor.run_report("a", gateway, policy=rules())
    await asyncio.sleep(3000.0)
    asked = [second - first for first, second in zip(gateway.asked, gateway.asked[1:], strict=False)]
    assert asked[:3] == [FIRST_ASK_S, 2 * FIRST_ASK_S, 4 * FIRST_ASK_S]
    assert max(asked) == LAST_ASK_S
    assert gateway.asked[-1] >= gateway.until
    assert await is_free(supervisor)
    asked_by_then = len(gateway.asked)
    await asyncio.sleep(3000.0)
    assert len(gateway.asked) == asked_by_then


@pytest.mark.parametrize("silence", ["hangs", "breaks"])
async def test_a_question_without_an_answer_is_asked_again(supervisor: Supervisor, silence: str) -> None:
    """Silence at recovery proves nothing, and must not end the asking."""
    gateway = Gateway(0.0, hangs=(1, 2, 3)) if silence == "hangs" else Gateway(0.0, breaks=(1, 2, 3))
    await supervisor.run_report("a", gateway, policy=rules())
    await asyncio.sleep(3000.0)
    assert len(gateway.asked) == 4
    assert await is_free(supervisor)


async def test_a_quarantine_names_what_may_live_and_lifts_when_the_last_of_it_has_ended(
    supervisor: Supervisor, recorded: Recorded
) -> None:
    policy = rules(permits=2, attempts=1, timeout_s=1.0, grace_s=1.0)
    works = [ScriptedWork(hangs(ignoring_cancellation_for=seconds)) for seconds in (20.0, 40.0)]
    reports = await asyncio.gather(*(supervisor.run_report("a", work, policy=policy) for work in works))
    assert [report.status for report in reports] == [Status.QUARANTINED] * 2
    with pytest.raises(RunRefused) as caught:
        await supervisor.run("a", ScriptedWork(succeeds()), policy=rules())
    for report in reports:
        assert report.run_id in caught.value.report.detail
    await asyncio.sleep(25.0)
    assert not await is_free(supervisor)
    await asyncio.sleep(20.0)
    assert await is_free(supervisor)
    await asyncio.sleep(0)
    assert [len(recorded.of(kind)) for kind in (SessionQuarantined, QuarantineLifted)] == [2, 2]


async def test_an_operators_reset_frees_a_quarantined_session(supervisor: Supervisor) -> None:
    await supervisor.run_report("a", Gateway(lives_s=1e9), policy=rules())
    assert not await is_free(supervisor)
    await supervisor.reset("a")
    assert await is_free(supervisor)


async def test_other_sessions_go_on_while_one_is_quarantined(supervisor: Supervisor) -> None:
    await supervisor.run_report("b", Gateway(lives_s=1e9), policy=rules())
    assert await is_free(supervisor)


async def test_what_is_not_seen_to_end_is_logged_when_the_supervisor_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Supervisor() as supervisor:
        report = await supervisor.run_report("a", Gateway(lives_s=1e9), policy=rules())
    assert f"session 'a', run {report.run_id} stays quarantined" in caplog.text
