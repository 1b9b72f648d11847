"""Many `turnkeeper run` of one session at once, each a process: one gate for all of them."""

import os
import signal

import pytest

from tests.chaos.many import Many
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120)]


@pytest.mark.parametrize("permits", [1, 3])
def test_sixteen_runs_never_overlap_beyond_the_permits_and_go_in_the_order_they_came(many: Many, permits: int) -> None:
    many.turnkeeper.rules(f"gate.permits = {permits}")
    assert many.run_at_once(16, many.bodies.command(0.1 if permits == 1 else 0.5)) == [0] * 16
    assert many.bodies.most_at_once() == permits
    arrived = [run_id for (run_id,) in many.rows("SELECT id FROM runs ORDER BY seq")]
    started = many.bodies.started_after()
    assert sorted(started) == sorted(arrived)
    # Of those who have a permit at the same time, the last may start first; but the one that came as the tenth starts
    # no sooner than all but `permits - 1` of the nine before it are over.
    assert all(started[run_id] >= place - (permits - 1) for place, run_id in enumerate(arrived))


def test_a_line_is_as_long_as_the_gate_says_for_all_processes(many: Many) -> None:
    many.turnkeeper.rules("gate.queue = 1")
    holds = many.start_body("holds", 60)
    many.until_started(1)
    waits = many.start_body("waits", 0)
    many.until_in_line(1)
    assert many.end(many.start_body("refused", 0)).status == 75
    assert many.ended("refused") == ("refused", "queue_full")
    holds.send_signal(signal.SIGTERM)
    assert (many.end(holds).status, many.end(waits).status) == (143, 0)


def test_a_wait_is_as_long_as_the_gate_says(many: Many) -> None:
    many.turnkeeper.rules('gate.wait = "200ms"')
    holds = many.start_body("holds", 60)
    many.until_started(1)
    assert many.end(many.start_body("refused", 0)).status == 75
    assert many.ended("refused") == ("refused", "wait_over")
    holds.send_signal(signal.SIGTERM)
    many.end(holds)
    assert len(many.bodies.started()) == 1


def test_skip_sees_a_run_of_another_process(many: Many) -> None:
    many.turnkeeper.rules('gate.overlap = "skip"')
    holds = many.start_body("holds", 60)
    many.until_started(1)
    assert many.end(many.start_body("refused", 0)).status == 75
    assert many.ended("refused") == ("refused", "overlap")
    holds.send_signal(signal.SIGTERM)
    many.end(holds)


def test_coalesce_keeps_the_newest_of_all_processes(many: Many) -> None:
    many.turnkeeper.rules('gate.overlap = "coalesce"')
    holds = many.start_body("holds", 60)
    many.until_started(1)
    older = many.start_body("older", 0)
    many.until_in_line(1)
    newer = many.start_body("newer", 0)
    assert many.end(older).status == 75
    assert many.ended("older") == ("refused", "overlap")
    holds.send_signal(signal.SIGTERM)
    many.end(holds)
    assert many.end(newer).status == 0
    assert len(many.bodies.started()) == 2


def test_replace_ends_every_older_run_of_other_processes_and_then_starts(many: Many) -> None:
    many.turnkeeper.rules('gate.overlap = "replace"', 'backoff = { strategy = "constant", base = "60s" }')
    older = [many.start_body("attempt", 60)]
    many.until_started(1)
    newest = many.start_body("newest", 0)
    assert many.end(newest).status == 0
    assert [many.end(run).status for run in older] == [143]
    assert many.ended("attempt") == ("cancelled", "replaced")
    assert many.bodies.most_at_once() == 2  # the killed one could not say that it ended
    [killed, next_one] = many.rows("SELECT began_at, began_at + duration_s, outcome FROM attempts ORDER BY fence")
    assert killed[1] <= next_one[0]
    assert killed[2] == "cancelled"


def test_replace_ends_a_backoff_and_a_wait_of_other_processes(many: Many) -> None:
    many.turnkeeper.rules('backoff = { strategy = "constant", base = "60s" }')
    in_backoff = many.start("backoff", "exit 1")
    until(lambda: many.rows("SELECT 1 FROM runs WHERE state = 'backoff'"), "it failed")
    holds = many.start_body("holds", 60)
    many.until_started(1)
    waits = many.start_body("waits", 0)
    many.until_in_line(1)
    many.turnkeeper.rules('gate.overlap = "replace"')
    assert many.end(many.start("newest", "true")).status == 0
    assert [many.end(run).status for run in (in_backoff, holds, waits)] == [143] * 3
    assert {many.ended(name) for name in ("backoff", "holds", "waits")} == {("cancelled", "replaced")}


def test_replace_ends_work_of_another_process_itself(many: Many) -> None:
    many.turnkeeper.rules('gate.overlap = "replace"')
    host = many.start_host(60, pause_s=0.3)
    many.until_started(1)
    assert many.end(many.start_body("newest", 0)).status == 0
    assert many.end(host).stdout == b"cancelled replaced 1\n"
    assert many.bodies.most_at_once() == 1
    assert [line.what for line in many.bodies.lines()] == ["start", "end", "start", "end"]


def test_one_that_was_killed_in_line_or_in_its_attempt_stops_nobody(many: Many) -> None:
    holds = many.start_body("holds", 60)
    many.until_started(1)
    waits = many.start_body("waits", 0)
    many.until_in_line(1)
    last = many.start_body("last", 0)
    many.until_in_line(2)
    for killed in (waits, holds):
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    many.remove_half_written()
    assert many.end(last).status == 0
    assert len(many.bodies.started()) == 2
    assert many.rows("SELECT count(*) FROM attempts WHERE kind = 'lost'") == [(1,)]
    assert many.rows("SELECT count(*) FROM places") == [(0,)]
