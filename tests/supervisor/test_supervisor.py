"""The supervisor's own lifetime, what it is asked for, and what it says to a caller's mistakes."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from policies.failure import Kind
from policies.policy import Policy
from supervisor import Attempt, RunFailed, RunRefused, SettingsError, Status, Supervisor, current_attempt
from supervisor.settings.values import Limits, Settings
from supervisor.store.memory import MemoryStore
from supervisor.testing import Recorded, ScriptedWork, fails, hangs, never_awaits, succeeds
from tests.supervisor.rules import assert_at_rest, now, rules


async def test_leaving_ends_runs_that_run_wait_or_back_off_as_closed() -> None:
    async with Supervisor() as supervisor:
        tasks = [
            asyncio.create_task(supervisor.run("a", ScriptedWork(hangs()), policy=rules())),
            asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds()), policy=rules())),
            asyncio.create_task(supervisor.run("b", ScriptedWork(fails("overloaded")), policy=rules(backoff_s=60.0))),
        ]
        await asyncio.sleep(1.0)
        began = now()
    assert now() == began
    assert_at_rest(supervisor)
    for task in tasks:
        with pytest.raises(RunFailed) as caught:
            await task
        assert (caught.value.report.status, caught.value.report.reason) == (Status.CANCELLED, "closed")
        assert task.cancelling() == 0
    assert [len(task.exception().report.attempts) for task in tasks] == [1, 0, 1]  # type: ignore[union-attr]


async def test_a_run_that_was_never_scheduled_is_refused_after_leaving() -> None:
    async with Supervisor() as supervisor:
        task = asyncio.create_task(supervisor.run("a", ScriptedWork(succeeds()), policy=rules()))
    with pytest.raises(RuntimeError, match="inside `async with"):
        await task


async def test_leaving_waits_for_work_that_cleans_up() -> None:
    async with Supervisor() as supervisor:
        work = ScriptedWork(hangs(ignoring_cancellation_for=3.0))
        task = asyncio.create_task(supervisor.run_report("a", work, policy=rules(grace_s=5.0)))
        await asyncio.sleep(1.0)
        began = now()
    assert (now() - began, work.alive("a")) == (3.0, 0)
    assert (await task).reason == "closed"


async def test_leaving_is_bounded_and_says_what_was_not_proved_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def stuck() -> None:
        until = now() + 60.0
        while (left := until - now()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)

    async def work(attempt: Attempt) -> None:
        attempt.callback(stuck)
        await ScriptedWork(hangs(ignoring_cancellation_for=50.0))(attempt)

    async with Supervisor() as supervisor:
        recorded = Recorded()
        supervisor.on(recorded)
        tasks = [
            asyncio.create_task(supervisor.run_report(session, work, policy=rules(grace_s=grace_s)))
            for session, grace_s in (("a", 1.0), ("b", 4.0))
        ]
        await asyncio.sleep(1.0)
        began = now()
    assert now() - began <= 2 * 4.0 + 1.0
    reports = [await task for task in tasks]
    assert [report.status for report in reports] == [Status.QUARANTINED] * 2
    for report in reports:
        assert f"session {report.session!r}, run {report.run_id} stays quarantined" in caplog.text
    await asyncio.sleep(300.0)
    assert recorded.names().count("QuarantineLifted") == 0


async def test_leaving_waits_for_no_store_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Silent(MemoryStore):
        def record(self, *args: Any) -> Any:
            return asyncio.sleep(1000.0, super().record(*args))

    async with Supervisor(store=Silent()) as supervisor:
        task = asyncio.create_task(supervisor.run_report("a", ScriptedWork(hangs()), policy=rules(grace_s=2.0)))
        await asyncio.sleep(1.0)
        began = now()
    assert now() - began == 2 * 2.0 + 1.0
    assert "of session 'a' was not over when the supervisor closed" in caplog.text
    assert (await task).reason == "closed"


async def test_leaving_by_an_exception_stops_the_runs_too() -> None:
    work = ScriptedWork(hangs())
    tasks = []

    async def body() -> None:
        async with Supervisor() as supervisor:
            tasks.append(asyncio.create_task(supervisor.run_report("a", work, policy=rules())))
            await asyncio.sleep(1.0)
            raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await body()
    assert (await tasks[0]).reason == "closed"
    assert work.alive("a") == 0


async def test_a_caller_cancelled_while_the_supervisor_is_left_gets_its_cancellation() -> None:
    work = ScriptedWork(hangs(ignoring_cancellation_for=3.0))
    async with Supervisor() as supervisor:
        task = asyncio.create_task(supervisor.run("a", work, policy=rules(grace_s=5.0)))
        await asyncio.sleep(1.0)
        asyncio.get_running_loop().call_later(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_run_starts_before_entering_or_after_leaving() -> None:
    supervisor = Supervisor()
    with pytest.raises(RuntimeError, match="inside `async with"):
        await supervisor.run("a", ScriptedWork(succeeds()))
    with pytest.raises(RuntimeError, match="inside of `async with"):
        await supervisor.reset("a")
    async with supervisor:
        pass
    with pytest.raises(RuntimeError, match="inside `async with"):
        await supervisor.run("a", ScriptedWork(succeeds()))
    with pytest.raises(RuntimeError, match="entered once"):
        async with supervisor:
            pass


@pytest.mark.parametrize("key", ["../../x", ".", "/", "a b", "agent:main:reports", "ü", "日本", "x" * 512, "a\u2028b"])
async def test_a_session_key_is_any_text_without_control_characters(supervisor: Supervisor, key: str) -> None:
    report = await supervisor.run(key, ScriptedWork(never_awaits()), policy=rules())
    assert report.session == key


@pytest.mark.parametrize(
    "key", ["", "x" * 513, "x" * 1_000_000, "a\nb", "a\0b", "a\x7fb", "a\x85b", "\t", "lone \ud800 half"]
)
async def test_a_bad_session_key_is_a_value_error_that_is_short(supervisor: Supervisor, key: str) -> None:
    for call in (supervisor.run, supervisor.run_report):
        with pytest.raises(ValueError, match="a session key") as caught:
            await call(key, ScriptedWork(never_awaits()))
        assert len(str(caught.value)) < 300


async def test_a_session_key_that_is_no_text_is_a_type_error(supervisor: Supervisor) -> None:
    for key in (None, 7, b"bytes"):
        with pytest.raises(TypeError, match="a session key is text"):
            await supervisor.run(key, ScriptedWork(never_awaits()))  # type: ignore[arg-type]


async def test_an_unknown_policy_is_a_value_error_that_knows_what_was_meant() -> None:
    async with Supervisor(policies={"subagent": rules()}) as supervisor:
        with pytest.raises(ValueError, match=r"unknown policy 'subagnet'.*subagent"):
            await supervisor.run("a", ScriptedWork(succeeds()), policy="subagnet")
        with pytest.raises(ValueError, match="unknown policy 'x'"):
            await supervisor.run("a", ScriptedWork(succeeds()), policy="x")
        assert_at_rest(supervisor)


async def test_a_run_reports_the_policy_it_was_admitted_with() -> None:
    cron = rules(name="cron")
    async with Supervisor(policies={"cron": cron}) as supervisor:
        named = await supervisor.run("a", ScriptedWork(succeeds()), policy="cron")
        given = await supervisor.run("a", ScriptedWork(succeeds()), policy=cron)
        default = await supervisor.run("a", ScriptedWork(succeeds()))
    assert (named.policy, named.policy_hash) == (given.policy, given.policy_hash) == ("cron", cron.hash)
    assert (default.policy, default.policy_hash) == ("default", Policy().hash)


async def test_settings_come_from_a_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[policies.cron]\nbudget.attempts = 2\nbackoff.base = '0s'\n", encoding="utf-8")
    async with Supervisor.from_settings(path) as supervisor:
        report = await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy="cron")
    assert (len(report.attempts), report.policy) == (2, "cron")
    path.write_text("[policies.cron]\nbudget.attempts = 160\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="32"):
        Supervisor.from_settings(path)


async def test_a_supervised_function_is_a_run_and_returns_what_it_returns(supervisor: Supervisor) -> None:
    numbers: list[int] = []

    @supervisor.supervised(session=lambda name, **_: f"session of {name}", policy=rules())
    async def answer(name: str, *, loud: bool = False) -> str:
        """Answer."""
        attempt = current_attempt()
        assert attempt is not None
        numbers.append(attempt.number)
        if attempt.number == 1:
            raise ConnectionError
        return f"{name}{'!' if loud else ''} in {attempt.session}"

    assert await answer("a", loud=True) == "a! in session of a"
    assert numbers == [1, 2]
    assert (answer.__name__, answer.__doc__) == ("answer", "Answer.")


async def test_a_supervised_function_that_fails_raises_the_runs_error(supervisor: Supervisor) -> None:
    @supervisor.supervised(session="fixed", policy=rules(attempts=1))
    async def failing() -> None:
        raise ValueError("no")

    with pytest.raises(RunFailed, match=r"session 'fixed'.*ValueError: no"):
        await failing()


async def test_reset_closes_the_breaker_and_fills_the_bucket(supervisor: Supervisor) -> None:
    policy = rules(failures=2, attempts=2, capacity=1.0, cooldown_s=600.0, backoff_s=0.0)
    await supervisor.run_report("a", ScriptedWork(fails("overloaded")), policy=policy)
    with pytest.raises(RunRefused, match="breaker_open"):
        await supervisor.run("a", ScriptedWork(succeeds()), policy=policy)
    await supervisor.reset("a")
    work = ScriptedWork(fails("overloaded"), succeeds("healed"))
    assert (await supervisor.run("a", work, policy=policy)).value == "healed"


async def test_run_ids_differ_within_and_between_supervisors() -> None:
    ids = set()
    for _ in range(2):
        async with Supervisor() as supervisor:
            for _ in range(3):
                ids.add((await supervisor.run("a", ScriptedWork(never_awaits()))).run_id)
    assert len(ids) == 6


async def test_the_embedded_default_is_what_a_supervisor_without_settings_runs_on() -> None:
    assert Settings().policies["default"] == Policy()
    async with Supervisor() as supervisor:
        report = await supervisor.run_report("a", ScriptedWork(hangs()))
    assert len(report.attempts) == Policy().budget.attempts
    assert report.attempts[0].duration_s == Policy().attempt.timeout_s


async def test_a_classification_rule_of_the_settings_decides_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[[failures]]\nmatch = { output = "(?i)no quota" }\nkind = "rate_limited"\n', encoding="utf-8")
    async with Supervisor.from_settings(path) as supervisor:
        report = await supervisor.run_report("a", ScriptedWork(fails(ValueError("No Quota left")), succeeds()))
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.RATE_LIMITED


async def test_a_lock_path_that_is_empty_is_the_callers_mistake(supervisor: Supervisor) -> None:
    with pytest.raises(ValueError, match="lock needs the path of the session's file, got an empty one"):
        await supervisor.run("a", ScriptedWork(succeeds()), policy=rules(), lock="")


async def test_a_lock_path_that_cannot_be_encoded_is_invalid(supervisor: Supervisor) -> None:
    report = await supervisor.run_report("a", ScriptedWork(succeeds()), policy=rules(), lock="a\ud800")
    assert report.attempts[0].failure is not None
    assert report.attempts[0].failure.kind is Kind.INVALID


@pytest.mark.parametrize("policy", [3, b"default", {"budget": {"attempts": 2}}])
async def test_a_policy_is_a_name_or_a_policy(supervisor: Supervisor, policy: Any) -> None:
    with pytest.raises(TypeError, match=f"policy is a name or a Policy, got {type(policy).__name__}"):
        await supervisor.run("a", ScriptedWork(succeeds()), policy=policy)


def test_policies_are_policy_objects() -> None:
    tables: Any = {"cron": {"budget": {"attempts": 2}}}
    with pytest.raises(TypeError, match=r"got dict for 'cron': tables as in settings\.toml are for"):
        Supervisor(policies=tables)
    assert Supervisor.from_settings(policies=tables)._policies["cron"].budget.attempts == 2


async def test_other_settings_are_in_force_for_the_next_run_and_keep_what_was_given_beside_them() -> None:
    async def both_take(seconds: float) -> bool:
        began = now()
        await asyncio.gather(*(supervisor.run(key, ScriptedWork(succeeds(after=10.0))) for key in ("a", "b")))
        return now() - began == pytest.approx(seconds)

    async with Supervisor(policies={"mine": Policy("mine")}) as supervisor:
        with pytest.raises(ValueError, match="unknown policy 'cron'"):
            await supervisor.run("s", ScriptedWork(succeeds()), policy="cron")
        policies = {"default": Policy(), "cron": Policy("cron")}
        supervisor.reload(Settings(policies=policies, limits=Limits(running=1)))
        for name in ("cron", "mine"):
            assert (await supervisor.run("s", ScriptedWork(succeeds()), policy=name)).policy == name
        assert await both_take(20.0)
        supervisor.reload(Settings())
        assert await both_take(10.0)
