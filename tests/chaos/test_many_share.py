"""What is one for all processes: breaker, buckets, slots of the host, a parent's budget."""

import os
import signal
import sys

import pytest

from tests.chaos.many import Many
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120)]

AT_ONCE = 'backoff = { strategy = "constant", base = "0s" }'
ONE_ATTEMPT = "budget.attempts = 1"


def nested(*options: str, script: str = "exit 1", session: str = "inner") -> str:
    """Return a line of shell that is a `turnkeeper run` of its own."""
    start = [sys.executable, "-m", "supervisor.cli.main", "run", "--quiet", "--session", session, *options]
    return " ".join([*start, "--", "sh", "-c", f"'{script}'"])


def test_a_breaker_that_one_process_opened_refuses_the_next(many: Many) -> None:
    many.turnkeeper.rules(ONE_ATTEMPT, "breaker.failures = 2")
    for name in ("one", "two"):
        assert many.end(many.start(name, "exit 3")).status == 3
    assert many.end(many.start("three", "true")).status == 75
    assert many.ended("three") == ("refused", "breaker_open")


def test_half_open_lets_one_trial_through_among_all_processes(many: Many) -> None:
    many.turnkeeper.rules(ONE_ATTEMPT, "gate.permits = 8", "breaker.failures = 1", 'breaker.cooldown = "50ms"')
    assert many.end(many.start("fails", "exit 3")).status == 3
    statuses = many.run_at_once(8, many.bodies.command(3, "exit 3"))
    assert sorted(statuses) == [3] + [75] * 7
    assert len(many.bodies.started()) == 1


def test_a_session_has_one_bucket_for_all_processes(many: Many) -> None:
    many.turnkeeper.rules("budget = { attempts = 3, session = { capacity = 2, refill = 0.0, deposit = 0.0 } }", AT_ONCE)
    assert many.end(many.start("spends", "exit 1")).status == 1
    assert many.end(many.start("has_none", "exit 1")).status == 1
    assert [len(many.report(name)["attempts"]) for name in ("spends", "has_none")] == [3, 1]
    assert many.ended("has_none") == ("failed", "session_budget")


def test_the_host_has_one_bucket_for_all_processes(many: Many) -> None:
    host = "[limits]\nretries = { capacity = 2, refill = 0.0, deposit = 0.0 }"
    many.turnkeeper.rules("budget.attempts = 3", AT_ONCE, failures=host)
    assert many.end(many.start("spends", "exit 1", session="one")).status == 1
    assert many.end(many.start("has_none", "exit 1", session="another")).status == 1
    assert [len(many.report(name)["attempts"]) for name in ("spends", "has_none")] == [3, 1]
    assert many.ended("has_none") == ("failed", "host_budget")


def test_eight_processes_share_the_slots_of_the_host(many: Many) -> None:
    many.turnkeeper.rules(failures="[limits]\nrunning = 2")
    assert many.run_at_once(8, many.bodies.command(0.2), session="{}") == [0] * 8
    assert len(many.bodies.started()) == 8
    assert many.bodies.most_at_once() == 2
    assert many.rows("SELECT count(*) FROM host_places") == [(0,)]


def test_a_first_attempt_of_one_process_goes_before_a_retry_of_another(many: Many) -> None:
    many.turnkeeper.rules(AT_ONCE, failures="[limits]\nrunning = 1")
    ends = "while [ ! -e go ]; do sleep 0.02; done; [ $TURNKEEPER_ATTEMPT = 2 ]"
    retried = many.start_body("retried", 0, ends, session="retried")
    many.until_started(1)
    holds = many.start_body("holds", 60, session="holds")
    until(lambda: many.rows("SELECT 1 FROM host_places"), "it waits for the slot")
    (many.folder / "go").touch()
    many.until_started(2)
    until(lambda: many.rows("SELECT 1 FROM host_places WHERE rank = 2"), "the retry waits for the slot")
    first = many.start_body("first", 0.3, session="first")
    until(lambda: many.rows("SELECT 1 FROM host_places WHERE rank = 1"), "so does the first attempt")
    holds.send_signal(signal.SIGTERM)
    assert [many.end(run).status for run in (holds, first, retried)] == [143, 0, 0]
    in_order = [many.report(name)["run_id"] for name in ("retried", "holds", "first", "retried")]
    assert many.bodies.started() == in_order


def test_the_slot_of_a_killed_process_comes_back(many: Many) -> None:
    many.turnkeeper.rules(failures="[limits]\nrunning = 1")
    holds = many.start_body("holds", 60, session="holds")
    many.until_started(1)
    waits = many.start_body("waits", 0, session="waits")
    until(lambda: many.rows("SELECT 1 FROM host_places"), "it waits for the slot")
    os.kill(holds.pid, signal.SIGKILL)
    holds.wait()
    assert many.end(waits).status == 0
    many.remove_half_written()
    assert many.bodies.started()[-1] == many.report("waits")["run_id"]


def test_a_nested_run_takes_its_retries_from_its_parents_row(many: Many) -> None:
    many.turnkeeper.rules("budget.attempts = 3", AT_ONCE)
    inner = nested("--report", "inner$TURNKEEPER_ATTEMPT.json")
    assert many.end(many.start("outer", inner)).status == 1
    assert len(many.report("inner1")["attempts"]) == 3
    assert many.report("inner1")["reason"] == "attempts"
    assert [len(many.report("outer")["attempts"]), many.ended("outer")[1]] == [1, "attempts"]
    assert many.rows("SELECT count(*) FROM attempts") == [(4,)]


def test_a_nested_run_with_a_state_of_its_own_has_one_attempt(many: Many) -> None:
    many.turnkeeper.rules("budget.attempts = 2", AT_ONCE)
    inner = nested("--report", "inner$TURNKEEPER_ATTEMPT.json", "--state", "other.db")
    assert many.end(many.start("outer", inner)).status == 1
    assert [len(many.report(name)["attempts"]) for name in ("inner1", "inner2", "outer")] == [1, 1, 2]
    assert many.report("inner1")["reason"] == "parent_budget"


def test_a_nested_run_uses_the_slot_of_its_ancestor(many: Many) -> None:
    many.turnkeeper.rules(ONE_ATTEMPT, failures="[limits]\nrunning = 1")
    assert many.end(many.start("outer", nested(script="exit 0"))).status == 0
    assert many.rows("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'") == [(2,)]
    assert many.rows("SELECT sum(slot) FROM runs") == [(0,)]


def test_a_nested_run_on_its_ancestors_session_is_refused(many: Many) -> None:
    many.turnkeeper.rules(ONE_ATTEMPT)
    inner = nested("--report", "inner.json", session="agent:main:reports")
    assert many.end(many.start("outer", inner)).status == 75
    assert many.ended("inner") == ("refused", "ancestor")
