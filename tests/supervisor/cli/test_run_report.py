"""`--report`: one JSON object, of a shape that others may rely on, in a file that is there whole or not at all."""

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli.report_file import ReportFile
from supervisor.report import RunReport, Status
from tests.supervisor.cli.running import SESSION, Turnkeeper, on_full_disk, sh
from tests.supervisor.tree.trees import until

pytestmark = pytest.mark.processes

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_THREE_ENDS = """
case $TURNKEEPER_ATTEMPT in
    1) echo out; echo err >&2; sleep 60 & exit 3;;
    2) kill -9 $$;;
    3) echo fine;;
esac
"""


def moment(text: str) -> datetime:
    assert _MOMENT.fullmatch(text)
    return datetime.fromisoformat(text)


def test_it_has_each_field_of_each_attempt(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('backoff = { strategy = "constant", base = "50ms" }')
    turnkeeper.run(sh(_THREE_ENDS), "--lock", "reports.jsonl")
    report = turnkeeper.report
    attempts = report.pop("attempts")
    assert list(report) == [
        "run_id", "session", "policy", "policy_hash", "status", "reason", "started_at", "ended_at", "duration_s",
    ]  # fmt: skip
    assert report["run_id"].startswith("run-")
    assert re.fullmatch("[0-9a-f]{12}", report["policy_hash"])
    assert (report["session"], report["policy"]) == (SESSION, "default")
    assert (report["status"], report["reason"]) == ("succeeded", None)
    length = moment(report["ended_at"]) - moment(report["started_at"])
    assert length.total_seconds() == pytest.approx(report["duration_s"], abs=0.002)
    assert 0.1 < sum(attempt["duration_s"] for attempt in attempts) + 0.1 <= report["duration_s"]
    starts = [moment(attempt.pop("started_at")) for attempt in attempts]
    assert [moment(report["started_at"]), *starts, moment(report["ended_at"])] == sorted(
        [moment(report["started_at"]), *starts, moment(report["ended_at"])]
    )
    for attempt in attempts:
        assert 0 < attempt.pop("duration_s") < report["duration_s"]
        assert 0 <= attempt["released"].pop("seconds") < report["duration_s"]
    lock = f"lock {turnkeeper.folder}/reports.jsonl.lock released"
    assert attempts == [
        {
            "number": 1,
            "outcome": "failed",
            "failure": failure("error", "sh exited with status 3", exit_code=3, output_tail="out\nerr\n"),
            "released": gone("task ended", f"SIGTERM: 1, {lock}", "streams closed", killed=1),
            "verdict": {"action": "retry", "delay_s": 0.05, "reason": None},
        },
        {
            "number": 2,
            "outcome": "failed",
            "failure": failure("crash", "sh died by SIGKILL", signal=9),
            "released": gone("task ended", f"no process left, {lock}", "streams closed"),
            "verdict": {"action": "retry", "delay_s": 0.05, "reason": None},
        },
        {
            "number": 3,
            "outcome": "succeeded",
            "failure": None,
            "released": gone("task ended", f"no process left, {lock}", "streams closed"),
            "verdict": {"action": "finish", "delay_s": None, "reason": None},
        },
    ]


def failure(kind: str, message: str, **known: Any) -> dict[str, Any]:
    unknown = {"exit_code": None, "signal": None, "retry_after_s": None, "output_tail": ""}
    return {"kind": kind, "message": message, **unknown, **known}


def gone(*steps: str, killed: int = 0) -> dict[str, Any]:
    return {"receipt": "gone", "processes_killed": killed, "lock_reclaimed": False, "steps": list(steps)}


def test_the_tail_is_the_last_4_kib_of_both_streams_whatever_bytes_they_are(turnkeeper: Turnkeeper) -> None:
    command = sh(r"head -c 100000 /dev/zero | tr '\0' a; printf 'b\377\033\0' >&2; printf c; exit 2")
    ended = turnkeeper.run(command, "--quiet", "--log", "json", through='exec "$@" 2>&1')
    assert ended.stdout.startswith(b"a" * 100_000 + b"b\xff\x1b\0c")
    assert turnkeeper.report["attempts"][0]["failure"]["output_tail"] == "a" * 4091 + "b\ufffd\x1b\0c"
    assert turnkeeper.report_file.read_bytes().isascii()


def test_it_replaces_an_older_one_only_once_it_is_whole(turnkeeper: Turnkeeper) -> None:
    turnkeeper.report_file.write_text('"the old one"')
    process = turnkeeper.start(sh("echo > runs; read wait"), stdin=-1)
    turnkeeper.wait_for("runs")
    assert turnkeeper.report_file.read_text() == '"the old one"'
    assert turnkeeper.end(process, b"go on\n").status == 0
    assert turnkeeper.report["status"] == "succeeded"


def test_a_symbolic_link_stays_and_the_file_that_it_names_is_written(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "reports").mkdir()
    turnkeeper.report_file.symlink_to("reports/today.json")
    assert turnkeeper.run(["true"]).status == 0
    assert turnkeeper.report_file.is_symlink()
    assert (turnkeeper.folder / "reports" / "today.json").is_file()
    assert turnkeeper.report["status"] == "succeeded"


def test_a_run_that_is_killed_leaves_nothing_beside_its_report(turnkeeper: Turnkeeper) -> None:
    try:
        os.close(os.open(turnkeeper.folder, os.O_WRONLY | os.O_TMPFILE))
    except OSError:
        pytest.skip("this file system has no files without a name")
    turnkeeper.report_file.write_text('"the old one"')
    process = turnkeeper.start(sh("echo > runs; sleep 60"))
    turnkeeper.wait_for("runs")
    process.kill()
    turnkeeper.end(process)
    until(lambda: not turnkeeper.processes(), "its tree is gone")
    assert sorted(os.listdir(turnkeeper.folder)) == ["report.json", "runs", "state"]
    assert turnkeeper.report_file.read_text() == '"the old one"'
    turnkeeper.run_as_it_is("stop", SESSION)  # takes what it had


@pytest.mark.parametrize("older", ["", "an older one"])
def test_where_no_file_can_be_without_a_name_it_has_a_passing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: str
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # to write to a folder is refused, as where there is none
    path = tmp_path / "report.json"
    if older:
        path.write_text(older)
    with ReportFile(str(path)) as to:
        assert any(name.startswith(".turnkeeper-report.") for name in os.listdir(tmp_path))
        assert (
            asyncio.run(to.write(RunReport("run-1", "a", "default", "0f", Status.CANCELLED, None, 0.0, 1.0, ()))) == ""
        )
    assert os.listdir(tmp_path) == ["report.json"]
    assert json.loads(path.read_text())["run_id"] == "run-1"


def test_what_a_killed_run_has_left_is_in_nobodys_way(turnkeeper: Turnkeeper) -> None:
    # In a container the next one often has the same pid.
    through = 'for left in .report.json.$$ .turnkeeper-report.$$; do echo left > $left; done; exec "$@"'
    assert turnkeeper.run(["true"], through=through).status == 0
    assert turnkeeper.report["status"] == "succeeded"
    for left in turnkeeper.folder.glob(".*"):
        left.unlink()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/report.json", "No such file or directory"),
        ("plain/report.json", "Not a directory"),
        (".", "it is a folder"),
        ("r" * 256, "File name too long"),
        ("", "No such file or directory"),
    ],
)
def test_a_place_where_none_can_be_written_ends_with_73_and_starts_nothing(
    turnkeeper: Turnkeeper, path: str, why: str
) -> None:
    (turnkeeper.folder / "plain").touch()
    ended = turnkeeper.run(["touch", "started"], "--report", path)
    assert (ended.status, ended.stdout) == (73, b"")
    assert ended.stderr == f"turnkeeper: the report {path} cannot be written: {why}; nothing was started\n"
    assert not (turnkeeper.folder / "started").exists()


def test_a_working_folder_that_is_gone_ends_with_73(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["true"], through='mkdir gone && cd gone && rmdir ../gone && exec "$@"')
    assert ended.status == 73
    assert "the report report.json cannot be written: No such file or directory" in ended.stderr


def test_a_folder_that_may_not_be_written_ends_with_73(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "read-only").mkdir(mode=0o555)
    through = 'exec "$@"'
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, to take from root the right to write where nobody may")
        through = 'exec setpriv --bounding-set -dac_override "$@"'
    ended = turnkeeper.run(["touch", "started"], "--report", "read-only/report.json", through=through)
    assert ended.status == 73
    assert "Permission denied" in ended.stderr
    assert not (turnkeeper.folder / "started").exists()


@pytest.mark.parametrize(("command", "status"), [(["true"], 74), (sh("exit 2"), 2)])
def test_a_report_that_a_device_does_not_take_is_told_and_hides_no_failure(
    turnkeeper: Turnkeeper, command: list[str], status: int
) -> None:
    ended = turnkeeper.run(command, "--report", "/dev/full")
    assert ended.status == status
    assert ended.stderr.splitlines()[-1] == (
        "turnkeeper: the report /dev/full could not be written: No space left on device"
    )
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_descriptor_or_a_fifo_gets_it(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["echo", "out"], "--report", "/dev/stdout")
    first, rest = ended.stdout.split(b"\n", 1)
    assert first == b"out"
    assert json.loads(rest)["status"] == "succeeded"
    fifo = turnkeeper.folder / "fifo"
    os.mkfifo(fifo)
    process = turnkeeper.start(["true"], "--report", "fifo")
    assert json.loads(fifo.read_text())["status"] == "succeeded"
    assert turnkeeper.end(process).status == 0
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_full_disk_leaves_the_older_report_and_no_half_of_a_new_one(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["true"], "--report", "full/report.json", through=on_full_disk(turnkeeper.folder))
    assert ended.status == 74
    assert ended.stdout == b"full/report.json\nold\n"
    assert "the report full/report.json could not be written: No space left on device" in ended.stderr


def test_a_descriptor_of_ours_is_written_to_and_its_file_is_not_replaced(turnkeeper: Turnkeeper) -> None:
    log = turnkeeper.folder / "log"
    log.write_text("old\n")
    with log.open("ab") as given:
        process = turnkeeper.start(sh("echo said >&2"), "--report", "/dev/stderr", stderr=given.fileno())
        assert turnkeeper.end(process).status == 0
    text = log.read_text()
    assert text.startswith("old\n")
    assert "said\n" in text
    assert json.loads(text[text.index("\n{") :])["status"] == "succeeded"


def test_a_fifo_that_nobody_reads_is_said_and_not_waited_for(turnkeeper: Turnkeeper) -> None:
    os.mkfifo(turnkeeper.folder / "fifo")
    ended = turnkeeper.run(["true"], "--report", "fifo")
    assert ended.status == 74
    assert "the report fifo could not be written" in ended.stderr


def test_a_report_that_is_there_keeps_its_mode(turnkeeper: Turnkeeper) -> None:
    old = turnkeeper.folder / "report.json"
    old.touch()
    old.chmod(0o640)
    assert turnkeeper.run(["true"]).status == 0
    assert turnkeeper.report["status"] == "succeeded"
    assert old.stat().st_mode & 0o777 == 0o640


def test_a_report_on_a_mount_of_its_own_is_written_into_it(turnkeeper: Turnkeeper) -> None:
    (turnkeeper.folder / "elsewhere").write_text("old")
    (turnkeeper.folder / "report.json").touch()
    mount = "mount --bind elsewhere report.json"
    if subprocess.run(["unshare", "-m", "-r", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace may be made here")
    ended = turnkeeper.run(["true"], through=f'exec unshare -m -r sh -c \'{mount} && exec "$@"\' sh "$@"')
    assert ended.status == 0
    assert json.loads((turnkeeper.folder / "elsewhere").read_bytes())["status"] == "succeeded"
