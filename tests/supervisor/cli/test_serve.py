"""`turnkeeper serve` from its start to its end: jobs run, signals drain it, and nothing is left."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from supervisor.proc import stat_of
from tests.supervisor.cli.serving import Serve, job
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]

SLEEPS = "echo > {0}.runs; sleep {1}; echo over > {0}.over"
NEVER_ENDS = "trap '' TERM; echo > stubborn.runs; while :; do sleep 60; done"


def drain(length: str) -> str:
    return f'[serve]\ndrain = "{length}"\n[policies.default]\nattempt.grace = "200ms"\ngate.overlap = "skip"\n'


def test_each_tick_is_run_once_and_is_in_the_ledger(serve: Serve) -> None:
    serve.settings(job("a"), job("b", every="2s"))
    process = serve.start()
    serve.until_ran("a", 3)
    serve.until_ran("b", 1)
    assert serve.end(process) == 0
    for name in ("a", "b"):
        ids = [run for [run] in serve.rows(f"SELECT run_id FROM ticks WHERE job = '{name}' AND outcome = 'started'")]
        assert serve.ran(name) == sorted(set(ids))
    moments = [tick for tick, _ in serve.ticks("a")]
    assert moments == [moments[0] + number for number in range(len(moments))]
    serve.assert_nothing_is_lost()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_finished_and_nothing_new_starts(serve: Serve, number: int) -> None:
    serve.settings(job("long", SLEEPS.format("long", 2)), job("a"))
    process = serve.start()
    until((serve.folder / "long.runs").exists, "it runs")
    serve.until_ran("a")
    process.send_signal(number)
    serve.until_said("told to end")
    before = serve.ran("a")
    assert process.wait(20) == 0
    assert (serve.folder / "long.over").read_text() == "over\n"
    assert len(serve.ran("a")) <= len(before) + 1  # one that had begun
    assert serve.rows("SELECT DISTINCT status FROM runs WHERE session = 'job:long'") == [("succeeded",)]
    serve.assert_nothing_is_lost()


def test_what_is_not_over_in_time_is_stopped_and_proved(serve: Serve) -> None:
    serve.settings(job("stubborn", NEVER_ENDS), before=drain("500ms"))
    process = serve.start()
    until((serve.folder / "stubborn.runs").exists, "it runs")
    assert serve.end(process) == 0
    assert "1 run is not over: stopped now" in serve.log()
    stopped, *others = serve.rows("SELECT status, reason FROM runs ORDER BY seq")
    assert stopped == ("cancelled", "closed")
    assert set(others) <= {("refused", "overlap")}, "ticks that came while it ran, on a busy machine"
    assert serve.turnkeeper.processes() == []
    serve.assert_nothing_is_lost()


@pytest.mark.parametrize("length", ["10m", "0s"])
def test_a_second_signal_waits_for_nothing(serve: Serve, length: str) -> None:
    settings = drain(length).replace("200ms", "14s")
    serve.settings(job("stubborn", NEVER_ENDS), before=settings)
    process = serve.start()
    until((serve.folder / "stubborn.runs").exists, "it runs")
    process.send_signal(signal.SIGTERM)
    serve.until_said("told to end")
    assert ("under way, for 10 min at most; once more stops " in serve.log()) == (length == "10m")
    assert process.poll() is None
    began = time.monotonic()
    assert serve.end(process) == 0
    assert time.monotonic() - began < 14.0, "its grace was waited for"
    assert serve.turnkeeper.processes() == []
    serve.assert_nothing_is_lost()


def test_a_run_that_waits_for_a_retry_which_is_not_due_in_time_ends_at_once(serve: Serve) -> None:
    before = drain("3s") + 'backoff = { strategy = "constant", base = "2m" }\n'
    serve.settings(job("fails", "exit 1"), before=before)
    process = serve.start()
    serve.until_said("next attempt in 2 min")
    assert serve.end(process) == 0
    assert "not over" not in serve.log()
    serve.assert_nothing_is_lost()


def test_a_run_in_line_leaves_its_tick_to_the_next_one(serve: Serve) -> None:
    limits = "[limits]\nrunning = 1\n" + drain("1s")
    holds, waits = (
        job("holds", "echo >> holds; sleep 60"),
        job("waits", None, 'catch_up = "all"', 'gate.overlap = "queue"'),
    )
    serve.settings(holds, before=limits)
    process = serve.start()
    serve.until_ran("holds")
    serve.settings(holds, waits, before=limits)
    until(lambda: serve.rows("SELECT 1 FROM runs WHERE session = 'job:waits'"), "it is in line")
    assert serve.end(process) == 0
    assert serve.ran("waits") == []
    [(run_id, outcome)] = serve.rows("SELECT run_id, outcome FROM ticks WHERE job = 'waits' ORDER BY tick_wall LIMIT 1")
    assert outcome is None
    serve.settings(waits)
    process = serve.start()
    until(lambda: run_id in serve.ran("waits"), "it is taken over")
    assert serve.end(process) == 0
    assert serve.ran("waits").count(run_id) == 1
    serve.assert_nothing_is_lost()


def test_a_drain_at_the_moment_of_a_tick_uses_up_none_whose_work_never_ran(serve: Serve) -> None:
    jobs = 12
    serve.settings(*(job(f"job{number}", 'echo "$TURNKEEPER_RUN_ID" >> ran') for number in range(jobs)))
    for number in range(5):
        process = serve.start()
        time.sleep(1.04 + 0.03 * number - time.time() % 1.0)  # some of a second's have just begun
        assert serve.end(process) == 0
    started = {run_id for [run_id] in serve.rows("SELECT run_id FROM ticks WHERE outcome = 'started'")}
    assert started - set(serve.ran("ran")) == set()
    assert len(serve.ran("ran")) == len(started)


def test_the_log_names_a_job_and_its_session_in_text_and_json(serve: Serve) -> None:
    serve.settings(job("a", "exit 3", 'session = "agent:main:reports"'))
    process = serve.start()
    serve.until_said("agent:main:reports (job a): attempt 1 failed")
    serve.end(process)
    serve.log_file.unlink()
    process = serve.start("--log", "json")
    serve.until_said("attempt_ended")
    serve.end(process)
    lines = [json.loads(line) for line in serve.log().splitlines()]
    assert {line["session"] for line in lines if line["event"].startswith("attempt")} == {"agent:main:reports"}
    assert {line["job"] for line in lines if line["event"] in ("attempt_started", "run_ended")} == {"a"}
    assert all(line["run_id"].startswith("tick-") for line in lines if line["event"].startswith("attempt"))
    notes = [line for line in lines if line["event"] == "note"]
    assert {line["level"] for line in notes} == {"info"}
    assert notes[0]["message"].startswith(f"serving 1 job of {serve.settings_file}, state {serve.state}, pid ")


def test_quiet_says_only_what_went_wrong(serve: Serve) -> None:
    serve.settings(job("a"), job("b", "exit 3"))
    process = serve.start("--quiet", is_ready=False)
    serve.until_ran("a", 2)
    serve.until_said("job:b")
    assert serve.end(process) == 0
    assert "job:a" not in serve.log()
    assert "serving" not in serve.log()
    assert "told to end" not in serve.log()


def test_a_job_starts_in_its_folder_and_its_lock_is_there(serve: Serve) -> None:
    """Whichever folder it is started from: a relative path is from that of the settings file."""
    elsewhere, work = serve.folder / "elsewhere", serve.folder / "work"
    elsewhere.mkdir()
    work.mkdir()
    own = 'cwd = "work"\nlock = "reports.jsonl"'
    serve.settings(job("a", "pwd >> a; ls >> files", own), job("b", "pwd >> b; ls .. >> files", 'lock = "b.jsonl"'))
    process = serve.start("--settings", "../settings.toml", through=f'cd {elsewhere} && exec "$@"')
    until(lambda: (work / "files").exists() and (elsewhere / "files").exists(), "both have run")
    assert serve.end(process) == 0
    assert set((work / "a").read_text().split()) == {str(work)}
    assert "reports.jsonl.lock" in (work / "files").read_text()
    assert set((elsewhere / "b").read_text().split()) == {str(elsewhere)}
    assert "b.jsonl.lock" in (elsewhere / "files").read_text()


def test_a_job_has_its_own_variables_beside_ours(serve: Serve) -> None:
    serve.settings(job("a", 'echo "$OURS $OWN" >> a', 'env = { OWN = "its own" }'))
    process = serve.start(OURS="ours")
    serve.until_ran("a")
    assert serve.end(process) == 0
    assert serve.ran("a")[0] == "ours its own"


def test_kill_9_and_a_restart_lose_no_tick_and_double_none(serve: Serve) -> None:
    serve.settings(job("a"), job("long", SLEEPS.format("long", 30)), before=drain("100ms"))
    process = serve.start()
    serve.until_ran("a", 2)
    until((serve.folder / "long.runs").exists, "it runs")
    process.kill()
    process.wait()
    process = serve.start()
    serve.until_ran("a", 5)
    until(lambda: serve.rows("SELECT 1 FROM attempts WHERE kind = 'lost'"), "the lost one is found")
    serve.end(process)
    ids = serve.ran("a")
    assert len(ids) == len(set(ids))
    moments = [tick for tick, _ in serve.ticks("a")]
    assert moments == [moments[0] + number for number in range(len(moments))]
    lost = serve.rows(
        "SELECT runs.session, count(*) FROM attempts JOIN runs ON run = runs.seq WHERE kind = 'lost' GROUP BY 1"
    )
    assert [(session, number) for session, number in lost if session == "job:long"] == [("job:long", 1)]
    serve.sweep()


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_ticks_that_were_missed_are_caught_up_as_the_job_says(serve: Serve, catch_up: str) -> None:
    """A tick that is found within a minute is on time, whatever `catch_up` says: only the ones before it are missed."""
    serve.settings(job("a", None, f'catch_up = "{catch_up}"', 'gate.overlap = "queue"'))
    process = serve.start()
    serve.until_ran("a", 1)
    process.kill()
    process.wait()
    seen = len(serve.ticks("a"))
    time.sleep(3.5)
    process = serve.start()
    serve.until_ran("a", 6 if catch_up == "all" else 3)
    assert serve.end(process) == 0
    outcomes = [outcome for _, outcome in serve.ticks("a")]
    moments = [tick for tick, _ in serve.ticks("a")]
    assert moments == [moments[0] + number for number in range(len(moments))]
    missed = outcomes[seen : seen + 2]
    serve.sweep()
    assert missed == (["started"] * 2 if catch_up == "all" else ["expired"] * 2)
    assert len(serve.ran("a")) == len(set(serve.ran("a")))


def test_one_that_stood_still_for_longer_than_a_tick_goes_on(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a", 1)
    process.send_signal(signal.SIGSTOP)
    before = len(serve.ran("a"))
    time.sleep(3.2)
    process.send_signal(signal.SIGCONT)
    serve.until_ran("a", before + 3)
    assert serve.end(process) == 0
    moments = [tick for tick, _ in serve.ticks("a")]
    assert moments == [moments[0] + number for number in range(len(moments))]
    assert "expired" in {outcome for _, outcome in serve.ticks("a")}
    serve.assert_nothing_is_lost()


def test_two_with_other_jobs_on_one_state_do_not_end_each_others(serve: Serve) -> None:
    serve.settings(job("a"))
    (serve.folder / "other.toml").write_text(job("b"))
    first = serve.start()
    serve.until_ran("a")
    second = serve.start("--settings", "other.toml")
    serve.until_ran("b")
    ran = len(serve.ran("a"))
    serve.until_ran("a", ran + 2)
    ran = len(serve.ran("b"))
    serve.until_ran("b", ran + 2)
    assert [serve.end(first), serve.end(second)] == [0, 0]


def test_as_process_1_without_an_init_it_leaves_no_zombies_and_drains(serve: Serve) -> None:
    """As in a container: what a job leaves behind is handed to process 1."""
    through = 'exec unshare --pid --fork --mount-proc sh -c \'exec "$@"\' sh "$@"'
    if os.geteuid() or subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], check=False).returncode:
        pytest.skip("needs a pid namespace of its own")
    leaves = "(setsid sleep 0.1 &); (setsid sleep 0.2 &); echo >> leaves"
    serve.settings(job("leaves", leaves, "attempt.leave_children = true"), job("a"))
    outer = serve.start(through=through)
    [init] = map(int, Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split())
    serve.until_ran("leaves", 3)
    until(lambda: zombies(init), "some are there")
    seen = zombies(init)
    until(lambda: not seen & zombies(init), "they are waited for")
    os.kill(init, signal.SIGTERM)
    assert outer.wait(20) == 0
    assert serve.rows("SELECT DISTINCT status FROM runs WHERE number > 0") == [("succeeded",)]
    serve.assert_nothing_is_lost()


def zombies(parent: int) -> set[int]:
    found = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return {pid for pid in found if (stat := stat_of(pid)) is not None and stat.is_dead}


def test_without_jobs_it_waits_for_some(serve: Serve) -> None:
    serve.settings()
    process = serve.start()
    assert "serving 0 jobs" in serve.log()
    serve.until_said(f"there are no jobs in {serve.settings_file}")
    serve.settings(job("a"))
    serve.until_ran("a")
    assert serve.end(process) == 0


def test_a_state_that_nobody_else_sees_is_refused(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start("--state", "memory", is_ready=False)
    assert process.wait(20) == 64
    assert "such a state is seen by no other process" in serve.log()


def test_jobs_that_nobody_serves_are_told_of_until_somebody_does(serve: Serve) -> None:
    def why_not_healthy() -> str:
        ended = serve.turnkeeper.run_as_it_is("status", "--healthy")
        assert ended.status == bool(ended.stdout)
        return ended.stdout.decode()

    serve.settings(job("a", every="1h"), job("b", every="1h"))
    nobody = "no `turnkeeper serve` on this state runs any of the 2 jobs of settings.toml\n"
    assert why_not_healthy() == nobody
    assert serve.turnkeeper.run_as_it_is("jobs").stderr == f"turnkeeper: {nobody}"
    process = serve.start()
    assert why_not_healthy() == ""
    assert [row["served"] for row in json.loads(serve.turnkeeper.run_as_it_is("jobs", "--json").stdout)] == [True] * 2
    serve.end(process, signal.SIGKILL)
    assert why_not_healthy() == nobody
    assert serve.end(serve.start()) == 0  # and forgets the one that was killed
