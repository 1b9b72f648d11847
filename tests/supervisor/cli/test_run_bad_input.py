"""What `turnkeeper run` makes of arguments, streams and disks that are not as they should be."""

import os
import pty
import subprocess
import sys
import time

import pytest

from tests.supervisor.cli.running import LONGEST_S, Turnkeeper, on_full_disk, sh
from tests.supervisor.tree.trees import until

pytestmark = pytest.mark.processes

GIGABYTE = 1 << 30


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ("k" * 100_000, "1 to 512 characters, got 100000"),
        ("k" * 513, "1 to 512 characters, got 513"),
        ("", "1 to 512 characters, got 0"),
        ("two\nlines", "no control characters, got '\\n'"),
        ("\x1b[2J", "no control characters, got '\\x1b'"),
        ("\udcff", "no control characters, got '\\udcff'"),
    ],
    ids=["100 kB", "one too long", "empty", "a newline", "a terminal's command", "no text"],
)
def test_a_bad_session_key_ends_with_64(turnkeeper: Turnkeeper, session: str, says: str) -> None:
    ended = turnkeeper.run(["touch", "started"], session=session)
    assert (ended.status, ended.stdout) == (64, b"")
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    assert len(ended.stderr) < 1000
    assert not (turnkeeper.folder / "started").exists()


@pytest.mark.parametrize("session", ["../../etc/passwd", ".", "-", "a b", "ключ", "k" * 512])
def test_a_session_key_is_never_used_as_a_path(turnkeeper: Turnkeeper, session: str) -> None:
    before = sorted(os.listdir(turnkeeper.folder))
    ended = turnkeeper.run(sh('printf %s "$TURNKEEPER_SESSION"'), session=session)
    assert (ended.status, ended.stdout.decode()) == (0, session)
    assert sorted(os.listdir(turnkeeper.folder)) == sorted([*before, "report.json", "state"])


def test_arguments_of_200_kb_arrive_whole(turnkeeper: Turnkeeper) -> None:
    arguments = [f"{number:0100d}" for number in range(2000)]
    ended = turnkeeper.run([*sh('for each; do echo "$each"; done'), "sh", *arguments], "--quiet")
    assert (ended.status, ended.stdout.decode().split(), ended.stderr) == (0, arguments, "")


def test_arguments_that_are_no_text_arrive_as_they_are(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["printf", "%s", b"\xff\x80 \xf0"])
    assert (ended.status, ended.stdout) == (0, b"\xff\x80 \xf0")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_descriptors_stay_so_for_nobody(turnkeeper: Turnkeeper, closed: str) -> None:
    talk = "echo out && sleep 0.1 && echo out && echo err >&2 && sleep 0.1 && echo err >&2 || exit 9"
    look = "readlink /proc/self/fd/0 > stdin; ls /proc/self/fd > descriptors"
    ended = turnkeeper.run(sh(f"{talk}; {look}"), "--quiet", through=f'exec "$@" {closed}')
    assert ended.status == 0
    assert (ended.stdout, ended.stderr) == (
        b"" if "1>" in closed else b"out\nout\n",
        "" if "2>" in closed else "err\nerr\n",
    )
    assert (turnkeeper.folder / "stdin").read_text() == "/dev/null\n"
    assert (turnkeeper.folder / "descriptors").read_text().split() == [
        "0",
        "1",
        "2",
        "3",
    ]  # 3: the folder that it reads


def test_a_terminal_is_passed_on(turnkeeper: Turnkeeper) -> None:
    ours, theirs = pty.openpty()
    try:
        process = turnkeeper.start(
            sh('test -t 0 && read line && echo "got $line" > got'), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.write(ours, b"this\n")
        assert turnkeeper.end(process).status == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert (turnkeeper.folder / "got").read_text() == "got this\n"


def test_a_pipe_of_1_gb_is_read_to_its_end_in_little_memory(turnkeeper: Turnkeeper) -> None:
    code = (
        "import resource, subprocess, sys; ended = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(ended.returncode)"
    )
    argv = [sys.executable, "-c", code, *turnkeeper.argv(["wc", "-c"], "--quiet")]
    source = subprocess.Popen(["head", "-c", str(GIGABYTE), "/dev/zero"], stdout=subprocess.PIPE)
    ended = subprocess.run(
        argv,
        cwd=turnkeeper.folder,
        env=turnkeeper.env,
        stdin=source.stdout,
        capture_output=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert source.stdout is not None
    source.stdout.close()
    assert source.wait() == 0
    assert (ended.returncode, int(ended.stdout)) == (0, GIGABYTE)
    assert int(ended.stderr) < 100 * 1024


def test_a_pipe_that_nobody_reads_is_no_hindrance(turnkeeper: Turnkeeper) -> None:
    process = turnkeeper.start(["true"], stdin=subprocess.PIPE)
    process.wait(LONGEST_S)  # its stdin stays open, and empty
    assert turnkeeper.end(process).status == 0


@pytest.mark.parametrize(("script", "status"), [("yes", 141), ("trap '' PIPE; echo out || exit 3", 3)])
def test_the_command_sees_a_pipe_closed_that_our_own_reader_has_closed(
    turnkeeper: Turnkeeper, script: str, status: int
) -> None:
    turnkeeper.rules("budget.attempts = 1")
    reading, writing = os.pipe()
    os.close(reading)
    process = turnkeeper.start(sh(script), stdout=writing)
    os.close(writing)
    assert turnkeeper.end(process).status == status
    assert turnkeeper.report["status"] == "failed"


def test_a_command_whose_reader_has_gone_away_is_not_asked_for_again(turnkeeper: Turnkeeper) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = turnkeeper.start(["yes"], stdout=writing)
    os.close(writing)
    assert turnkeeper.end(process).status == 141
    [attempt] = turnkeeper.report["attempts"]
    assert attempt["failure"]["message"] == "yes died by SIGPIPE: whoever read its output has gone away"
    assert attempt["verdict"]["reason"] == "not_retried"


def test_a_success_whose_output_is_lost_on_a_full_disk_is_none(turnkeeper: Turnkeeper) -> None:
    with open("/dev/full", "wb") as full:
        process = turnkeeper.start(sh("echo out; exit 0"), stdout=full.fileno())
    assert turnkeeper.end(process).status == 1
    [attempt] = turnkeeper.report["attempts"]
    assert attempt["failure"]["message"] == (
        "sh exited with status 0, but its output is lost: stdout cannot be written: No space left on device"
    )
    assert attempt["verdict"]["reason"] == "not_retried"


def test_a_full_disk_under_the_lock_is_71_and_starts_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 1")
    ended = turnkeeper.run(
        ["touch", "started"], "--lock", "full/reports.jsonl", through=on_full_disk(turnkeeper.folder)
    )
    assert (ended.status, ended.stdout) == (71, b"full/report.json\nold\n")
    assert "No space left on device" in turnkeeper.report["attempts"][0]["failure"]["message"]
    assert not (turnkeeper.folder / "started").exists()


def test_a_full_disk_under_the_life_files_is_71_and_starts_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 1")
    through = on_full_disk(turnkeeper.folder)
    full = str(turnkeeper.folder / "full")
    ended = turnkeeper.run(["touch", "started"], "--state", "memory", through=through, XDG_STATE_HOME=full)
    assert (ended.status, ended.stdout) == (71, b"full/report.json\nold\n")
    assert "No space left on device" in turnkeeper.report["attempts"][0]["failure"]["message"]
    assert not (turnkeeper.folder / "started").exists()


@pytest.mark.parametrize("lock", ["missing/reports.jsonl", "plain/reports.jsonl"])
def test_a_lock_that_cannot_be_had_there_is_71_and_starts_nothing(turnkeeper: Turnkeeper, lock: str) -> None:
    (turnkeeper.folder / "plain").touch()
    assert turnkeeper.run(["touch", "started"], "--lock", lock).status == 71
    [attempt] = turnkeeper.report["attempts"]
    assert attempt["failure"]["kind"] == "invalid"
    assert not (turnkeeper.folder / "started").exists()


def test_a_lock_without_a_path_is_bad_usage(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["touch", "started"], "--lock", "")
    assert ended.status == 64
    assert "--lock needs the path" in ended.stderr
    assert not (turnkeeper.folder / "started").exists()


def test_a_reader_that_is_slower_than_the_timeout_loses_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('attempt.timeout = "500ms"')
    process = turnkeeper.start(["head", "-c", "200000", "/dev/zero"])
    time.sleep(1.5)
    ended = turnkeeper.end(process)
    assert (ended.status, len(ended.stdout)) == (0, 200_000)


def test_what_nobody_takes_before_the_deadline_is_said_to_be_lost(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules('attempt.timeout = "500ms"', 'budget.deadline = "1500ms"')
    process = turnkeeper.start(["head", "-c", "200000", "/dev/zero"])
    assert process.wait(LONGEST_S) == 1
    turnkeeper.end(process)
    assert "its output is lost: nobody has taken it" in turnkeeper.report["attempts"][0]["failure"]["message"]


def test_nothing_is_lost_either_of_a_command_that_leaves_a_daemon(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("attempt.leave_children = true")
    process = turnkeeper.start(sh("sleep 3 & head -c 200000 /dev/zero"))
    time.sleep(0.7)
    ended = turnkeeper.end(process)
    assert (ended.status, len(ended.stdout)) == (0, 200_000)
    until(lambda: not turnkeeper.processes(), "what was left ends")


@pytest.mark.parametrize("limit", [8, 12, 16, 24])
def test_too_few_descriptors_are_71_and_it_is_said_how_many_there_may_be(turnkeeper: Turnkeeper, limit: int) -> None:
    turnkeeper.rules("budget.attempts = 1")
    ended = turnkeeper.run(
        ["true"], "--lock", "reports.jsonl", "--state", "memory", through=f'ulimit -n {limit}; exec "$@"'
    )
    assert ended.status == 71
    assert "Traceback" not in ended.stderr
    words = f"Too many open files: this process may have {limit} at once; raise that limit (ulimit -n)"
    assert words in ended.stderr
    if limit == 24:  # with fewer, not even every part of Turnkeeper may have been loaded
        assert words in turnkeeper.report["attempts"][0]["failure"]["message"]


def test_a_few_dozen_descriptors_are_enough(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["echo", "hi"], "--lock", "reports.jsonl", through='ulimit -n 40; exec "$@"')
    assert (ended.status, ended.stdout) == (0, b"hi\n")
