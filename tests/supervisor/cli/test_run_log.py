"""The log of `turnkeeper run`: one line an event, a failure once with all that matters, and nothing secret."""

import json
import os
import re
from typing import Any

import pytest

from tests.supervisor.cli.running import SESSION, Ended, Turnkeeper, log_of, sh

pytestmark = pytest.mark.processes

RULES = ('attempt.timeout = "300ms"', 'attempt.grace = "100ms"', 'backoff = { strategy = "constant", base = "50ms" }')
HANGS_ONCE = "[ $TURNKEEPER_ATTEMPT = 2 ] || { sleep 60 & sleep 60; }"


def hang_once(turnkeeper: Turnkeeper, *options: str) -> Ended:
    """Run a command whose first attempt times out, with a child left, and whose second succeeds; it has secrets."""
    turnkeeper.rules(*RULES)
    command = [*sh(f"echo secret-output; echo secret-error >&2; {HANGS_ONCE}"), "secret-argument"]
    return turnkeeper.run(command, "--lock", "reports.jsonl", *options, API_KEY="secret-value", given=b"secret-input")


def test_it_is_one_line_an_event_for_a_person(turnkeeper: Turnkeeper) -> None:
    ended = hang_once(turnkeeper)
    assert ended.stdout == b"secret-output\n" * 2
    log = [line for line in ended.stderr.splitlines() if line != "secret-error"]
    run_id = turnkeeper.report["run_id"]
    head = re.compile(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {re.escape(run_id)} {SESSION}: (.*)")
    said = []
    for line in log:
        match = head.fullmatch(line)
        assert match is not None, line
        said.append(re.sub(r"[\d.]+ (ms|s|min)\b", "N", match[1].replace(str(turnkeeper.folder), "~")))
    lock = "~/reports.jsonl.lock"
    assert said == [
        f"lock {lock} taken",
        "attempt 1 started, N at most",
        "attempt 1 is told to end (timeout), forced after N",
        (
            "attempt 1 failed: timeout after N: timed out after N; gone in N: task ended, SIGTERM: 3, "
            f"lock {lock} released, streams closed, 3 processes ended; next attempt in N"
        ),
        f"lock {lock} taken",
        "attempt 2 started, N at most",
        f"attempt 2 succeeded after N; gone in N: task ended, no process left, lock {lock} released, streams closed",
        "run succeeded after N, attempts: 2",
    ]
    assert "secret" not in "\n".join(log)


def test_it_is_one_json_object_an_event_on_request(turnkeeper: Turnkeeper) -> None:
    ended = hang_once(turnkeeper, "--log", "json")
    assert ended.stderr.count("secret") == ended.stderr.count("secret-error\n") == 2
    log: list[dict[str, Any]] = [json.loads(line) for line in ended.stderr.splitlines() if line != "secret-error"]
    assert [(each["event"], each["level"]) for each in log] == [
        ("lock_taken", "info"),
        ("attempt_started", "info"),
        ("attempt_stopping", "info"),
        ("attempt_ended", "warning"),
        ("lock_taken", "info"),
        ("attempt_started", "info"),
        ("attempt_ended", "info"),
        ("run_ended", "info"),
    ]
    run_id = turnkeeper.report["run_id"]
    assert {(each["run_id"], each["session"]) for each in log} == {(run_id, SESSION)}
    assert [each["at"] for each in log] == sorted(each["at"] for each in log)
    reported = turnkeeper.report["attempts"]
    del reported[0]["failure"]["output_tail"]
    assert [each["attempt"] for each in log if each["event"] == "attempt_ended"] == reported


def test_a_quiet_one_has_only_what_went_wrong(turnkeeper: Turnkeeper) -> None:
    ended = hang_once(turnkeeper, "--quiet", "--log", "json")
    [failed] = [json.loads(line) for line in ended.stderr.splitlines() if line != "secret-error"]
    assert failed["event"] == "attempt_ended"
    assert failed["attempt"]["failure"]["message"].startswith("timed out after")
    assert failed["attempt"]["released"]["processes_killed"] == 3
    assert failed["attempt"]["verdict"]["action"] == "retry"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_command_that_cannot_start_is_logged_without_its_arguments(turnkeeper: Turnkeeper, form: str) -> None:
    name = "./no\x1b[2Jsuch\ncommand"
    ended = turnkeeper.run([name, "secret-argument"], "--log", form, "--quiet", API_KEY="secret-value")
    assert ended.status == 127
    failed, over = ended.stderr.splitlines()  # whatever the command is called, it is one line an event
    assert "invalid" in failed
    assert "not_retried" in over
    assert "\x1b" not in ended.stderr
    assert "secret" not in ended.stderr


def test_variables_that_are_no_settings_are_warned_of_once(turnkeeper: Turnkeeper) -> None:
    ended = turnkeeper.run(["true"], "--quiet", "--log", "json", TURNKEEPER_PORT="tcp://10.0.0.1:443")
    [warning] = log_of(ended)
    assert (warning["level"], warning["event"]) == ("warning", "warning")
    assert "TURNKEEPER_PORT" in warning["message"]
    assert "10.0.0.1" not in warning["message"]


def test_a_reader_of_stderr_that_stalls_stalls_nothing(turnkeeper: Turnkeeper) -> None:
    turnkeeper.rules("budget.attempts = 2", 'attempt.timeout = "100ms"', 'backoff.base = "0s"')
    reading, writing = os.pipe()
    try:
        fill(writing)
        process = turnkeeper.start(["sleep", "60"], stderr=writing)
        assert turnkeeper.end(process).status == 124
    finally:
        os.close(reading)
        os.close(writing)
    assert [attempt["failure"]["kind"] for attempt in turnkeeper.report["attempts"]] == ["timeout", "timeout"]


def test_a_reader_of_stderr_that_comes_late_gets_all_of_it(turnkeeper: Turnkeeper) -> None:
    reading, writing = os.pipe()
    filled = fill(writing)
    process = turnkeeper.start(sh("echo > runs; read wait; exit 2"), "--log", "json", stdin=-1, stderr=writing)
    os.close(writing)
    turnkeeper.wait_for("runs")
    with open(reading, "rb") as log:
        assert log.read(filled) == b"x" * filled
        assert turnkeeper.end(process, b"go on\n").status == 2
        events = [json.loads(line)["event"] for line in log]
    assert events == ["attempt_started", "attempt_ended", "run_ended"]


def fill(pipe: int) -> int:
    """Write into a pipe until it takes no more; return how many bytes."""
    os.set_blocking(pipe, False)
    filled = 0
    try:
        while True:
            filled += os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(pipe, True)
    return filled


def test_a_reader_of_stderr_that_is_gone_stops_nothing(turnkeeper: Turnkeeper) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = turnkeeper.start(sh("echo out; exit 2"), stderr=writing)
    os.close(writing)
    assert turnkeeper.end(process) == (2, b"out\n", "")
    assert turnkeeper.report["status"] == "failed"
