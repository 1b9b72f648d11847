"""Settings that change while `turnkeeper serve` runs: right ones are soon in force, wrong ones change nothing."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.supervisor.cli.serving import QUICK, Serve, job
from tests.supervisor.tree.trees import until

pytestmark = [pytest.mark.processes, pytest.mark.once]

STAY = "the settings stay as they were"


@pytest.mark.parametrize("how", ["changed", "SIGHUP"])
def test_a_new_job_runs_and_one_that_is_gone_does_not(serve: Serve, how: str) -> None:
    serve.settings(job("old"), job("both"))
    process = serve.start()
    serve.until_ran("old")
    serve.settings(job("new"), job("both"))
    if how == "SIGHUP":
        process.send_signal(signal.SIGHUP)
    began = time.monotonic()
    serve.until_said("reloaded: 2 jobs")
    took_s = time.monotonic() - began
    old = len(serve.ran("old"))
    serve.until_ran("new", 2)
    assert serve.end(process) == 0
    assert len(serve.ran("old")) <= old + 1  # one that had begun
    moments = [tick for tick, _ in serve.ticks("both")]
    assert moments == [moments[0] + number for number in range(len(moments))]
    assert took_s < 5.0, "which is promised"


def test_sighup_reads_a_file_that_looks_unchanged(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    process.send_signal(signal.SIGHUP)
    serve.until_said("reloaded: 1 job")
    serve.until_ran("a")
    assert serve.end(process) == 0


def test_a_changed_limit_and_policy_and_drain_are_in_force(serve: Serve) -> None:
    holds = [job(name, f"echo >> {name}; sleep 60", 'gate.overlap = "skip"') for name in ("a", "b")]
    serve.settings(*holds, before=QUICK + "[limits]\nrunning = 1\n[serve]\ndrain = '5m'\n")
    process = serve.start()
    until(lambda: serve.ran("a") or serve.ran("b"), "one runs")
    time.sleep(1.5)
    assert len(serve.ran("a") + serve.ran("b")) == 1
    serve.settings(*holds, before=QUICK + "[limits]\nrunning = 2\n[serve]\ndrain = '0s'\n")
    until(lambda: serve.ran("a") and serve.ran("b"), "both run")
    assert serve.end(process) == 0
    serve.assert_nothing_is_lost()


def test_an_alert_that_is_new_is_told_and_one_that_changed_is_told_so(serve: Serve) -> None:
    fails = job("fails", "exit 1", "budget.attempts = 1")

    def alert(name: str) -> str:
        return f'[[alerts]]\non = ["give_up"]\ncommand = ["sh", "-c", "cat >> {name}"]\n'

    serve.settings(job("a"))
    process = serve.start()
    serve.settings(alert("first"), job("other", "exit 1", "budget.attempts = 1"))
    until(lambda: serve.ran("first"), "it is told by the first")
    serve.settings(alert("second"), fails)
    until(lambda: serve.ran("second"), "it is told by the second")
    assert serve.end(process) == 0
    assert json.loads(serve.ran("second")[0])["session"] == "job:fails"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("[[jobs]\n", "line "),
        ('[[jobs]]\nname = "a"\n', "jobs"),
        (job("a").replace('every = "1s"', 'cron = "* * 30 2 *"'), "cron"),
        (job("a") + job("a"), "a name of its own"),
        ('[policies.default]\nattempt.timout = "1s"\n', "timout"),
    ],
)
def test_a_wrong_file_is_told_once_and_the_old_settings_stay(serve: Serve, wrong: str, says: str) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    serve.settings(wrong, before="")
    serve.until_said(STAY)
    before = len(serve.ran("a"))
    serve.until_ran("a", before + 2)
    [told] = [line for line in serve.log().splitlines() if STAY in line]
    assert says in told
    serve.settings(job("b"))
    serve.until_ran("b")
    assert serve.end(process) == 0


def test_a_file_that_is_half_written_for_a_while_is_not_read_before_it_rests(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    whole = QUICK + job("b") + job("c")
    with serve.settings_file.open("w") as file:
        for start in range(0, len(whole), 40):  # each half of it is wrong, or has other jobs
            file.write(whole[start : start + 40])
            file.flush()
            time.sleep(0.3)
    serve.until_ran("b")
    serve.until_ran("c")
    assert serve.end(process) == 0
    assert STAY not in serve.log()
    assert serve.log().count("reloaded") == 1


def test_a_file_that_rests_half_written_changes_nothing_until_it_is_whole(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    whole = QUICK + job("b")
    with serve.settings_file.open("w") as file:
        file.write(whole[:-10])
        file.flush()
        serve.until_said(STAY)
        before = len(serve.ran("a"))
        serve.until_ran("a", before + 1)
        file.write(whole[-10:])
    serve.until_ran("b")
    assert serve.end(process) == 0


def test_a_file_that_is_gone_ends_no_job_not_even_by_sighup(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.until_ran("a")
    serve.settings_file.rename(serve.folder / "away")
    process.send_signal(signal.SIGHUP)
    serve.until_said(STAY)
    before = len(serve.ran("a"))
    serve.until_ran("a", before + 2)
    (serve.folder / "away").rename(serve.settings_file)
    assert serve.end(process) == 0
    assert "there is no such file" in serve.log()


def test_a_file_behind_a_link_that_is_changed_is_read(serve: Serve) -> None:
    """As a mounted ConfigMap changes: the file's name stays, the link beside it leads elsewhere."""
    for name, text in (("one", job("a")), ("two", job("b"))):
        (serve.folder / name).mkdir()
        (serve.folder / name / "settings.toml").write_text(QUICK + text)
    (serve.folder / "data").symlink_to("one")
    serve.settings_file.symlink_to("data/settings.toml")
    process = serve.start()
    serve.until_ran("a")
    (serve.folder / "data.new").symlink_to("two")
    (serve.folder / "data.new").rename(serve.folder / "data")
    serve.until_ran("b")
    assert serve.end(process) == 0


def test_one_that_removes_a_policy_in_use_is_taken_when_they_are_over(serve: Serve) -> None:
    nightly = '[policies.nightly]\nextends = "default"\n'
    long = job("long", "echo >> long; sleep 5", 'policy = "nightly"', every="15s")
    serve.settings(nightly, long, job("a"))
    process = serve.start()
    serve.until_ran("long")
    serve.settings(job("b"))
    serve.until_said("policies.nightly is gone, and runs are under it")
    assert serve.ran("b") == []
    serve.until_ran("b")
    assert serve.rows("SELECT state FROM runs WHERE session = 'job:long'") == [("ended",)]
    assert serve.end(process) == 0
    assert serve.log().count("policies.nightly is gone") == 1


@pytest.mark.parametrize("content", ["", QUICK])
def test_a_file_without_jobs_is_a_slip_unless_sighup_says_otherwise(serve: Serve, content: str) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.settings(before=content)
    serve.until_said("has no jobs; SIGHUP takes it all the same")
    before = len(serve.ran("a"))
    serve.until_ran("a", before + 2)
    process.send_signal(signal.SIGHUP)
    serve.until_said("reloaded: 0 jobs (1 gone: a)")
    assert serve.end(process) == 0
    assert serve.log().count(STAY) == 1


def test_a_file_that_comes_later_is_taken_at_sighup_and_watched_from_then_on(serve: Serve) -> None:
    process = serve.start()
    assert "no settings file is found" in serve.log()
    serve.settings(job("a"))
    process.send_signal(signal.SIGHUP)
    serve.until_said("reloaded: 1 job (1 new: a)")
    serve.settings(job("b"))
    serve.until_said("reloaded: 1 job (1 new: b; 1 gone: a)")
    assert serve.end(process) == 0


def test_a_changed_state_is_told_and_waits_for_a_restart(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    serve.settings('[state]\nurl = "sqlite:///tmp/never.db"\n', job("b"))
    serve.until_said("[state] has changed: that is in force after a restart")
    serve.until_ran("b")
    assert serve.end(process) == 0
    assert not Path("/tmp/never.db").exists()


def test_a_job_that_is_renamed_while_it_runs_goes_on_and_the_new_one_begins_anew(serve: Serve) -> None:
    serve.settings(job("before", "echo start >> before; sleep 3; echo end >> before"))
    process = serve.start()
    serve.until_ran("before", 1)
    serve.settings(job("after"))
    serve.until_ran("after", 2)
    serve.until_ran("before", 2)
    assert serve.end(process) == 0
    assert serve.ran("before") == ["start", "end"]
    assert serve.rows("SELECT status FROM runs WHERE session = 'job:before' AND status <> 'refused'") == [
        ("succeeded",)
    ]
    first = serve.rows("SELECT known_wall FROM jobs WHERE name = 'after'")[0][0]
    assert all(tick >= first - 1.0 for tick, _ in serve.ticks("after")), "a new job has missed nothing"
    assert None not in {outcome for _, outcome in serve.ticks("before")}


def test_a_folder_that_is_gone_does_not_end_the_reloading(serve: Serve) -> None:
    """The folder that it was started in was removed by a deployment; its settings are elsewhere."""
    gone = serve.folder / "gone"
    gone.mkdir()
    writes = f"echo >> {serve.folder}/{{}}"
    serve.settings(job("a", writes.format("a"), f'cwd = "{serve.folder}"', 'lock = "a.jsonl"'))
    process = serve.start("--settings", str(serve.settings_file), through=f'cd {gone} && exec "$@"')
    serve.until_ran("a")
    shutil.rmtree(gone)
    serve.settings(job("b", writes.format("b"), f'cwd = "{serve.folder}"', 'lock = "b.jsonl"'))
    serve.until_ran("b")
    assert serve.end(process) == 0
    assert "Traceback" not in serve.log()


def test_many_signals_and_changes_at_once_are_taken_one_after_the_other(serve: Serve) -> None:
    serve.settings(job("a"))
    process = serve.start()
    for number in range(30):
        serve.settings(job("a"), job(f"b{number % 3}"))
        os.kill(process.pid, signal.SIGHUP)
        time.sleep(0.05)
    serve.until_said("reloaded: 2 jobs")
    serve.until_ran("b2", 2)
    assert serve.end(process) == 0
    moments = [tick for tick, _ in serve.ticks("a")]
    assert moments == [moments[0] + number for number in range(len(moments))]
