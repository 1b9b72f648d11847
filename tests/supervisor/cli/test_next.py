"""`turnkeeper next`, as its own process where it is about the process, and for croner's answers within this one."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.cli.exit_status import ExitStatus
from supervisor.cli.main import main
from tests.supervisor.cli.running import REPOSITORY

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "croner_vectors.json").read_text())


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["next", *arguments]) == ExitStatus.OK
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["next", *arguments]) == ExitStatus.USAGE
    captured = capsys.readouterr()
    assert captured.out in {"", "[]\n"}
    return captured.err.splitlines()[0]


def test_the_next_times_are_utc_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("0 8 * * *", "--tz", "America/New_York", "--after", "2026-04-04T14:30:00Z", "--count", "2")
    assert printed(capsys, *given) == ["2026-04-05T12:00:00Z", "2026-04-06T12:00:00Z"]
    assert json.loads("".join(printed(capsys, *given, "--json"))) == ["2026-04-05T12:00:00Z", "2026-04-06T12:00:00Z"]


def test_left_out_are_now_utc_and_five(capsys: pytest.CaptureFixture[str]) -> None:
    before = datetime.now(UTC).isoformat()
    times = printed(capsys, "30 7 * * *")
    assert len(times) == 5
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT07:30:00Z", time) for time in times)
    assert before < times[0]


def test_a_moment_without_a_zone_is_utc(capsys: pytest.CaptureFixture[str]) -> None:
    for after in ("2026-03-29T00:59:59", "2026-03-29T02:59:59+02:00"):
        times = printed(capsys, "0 * * * *", "--tz", "Europe/Berlin", "--after", after, "--count", "1")
        assert times == ["2026-03-29T01:00:00Z"]


def test_every_answer_is_croners(capsys: pytest.CaptureFixture[str]) -> None:
    for vector in VECTORS:
        status = main(["next", vector["expr"], "--tz", vector["tz"], "--after", vector["after"], "--json"])
        out = capsys.readouterr().out
        if vector.get("next"):
            assert [f"{text[:-1]}.000Z" for text in json.loads(out)] == vector["next"], vector
        else:
            assert status == ExitStatus.USAGE
            assert out == ("" if vector.get("error") else "[]\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["70 * * * *"], "turnkeeper: minute needs values from 0 to 59"),
        (["* * * * fun"], "turnkeeper: day of week needs"),
        (["0 0 30 2 *"], "never due"),
        (["0 0 30 2 *", "--json"], "never due"),
        (["* * * * *", "--tz", "Europe/Berln"], "there is no time zone 'Europe/Berln'; did you mean Europe/Berlin?"),
        (["* * * * *", "--tz", "europe/berlin"], "did you mean Europe/Berlin?"),
        (["* * * * *", "--tz", "America"], "there is no time zone 'America'"),
        (["* * * * *", "--tz", "../../etc/passwd"], "there is no time zone"),
        (["* * * * *", "--tz", "a\0b"], "there is no time zone"),
        (["* * * * *", "--tz", ""], "write it as Europe/Berlin, or UTC"),
        (["* * * * *", "--tz", "x" * 5000], "there is no time zone"),
        (["* * * * *", "--after", "yesterday"], "--after is a moment such as"),
        (["* * * * *", "--after", "9999-12-31"], "--after is too late"),
        (["* * * * *", "--count", "0"], "--count"),
        ([], "EXPR"),
        (["*", "*", "*", "*", "*"], "unexpected extra arguments"),
    ],
)
def test_what_is_wrong_is_named_with_status_64(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, *arguments)


def test_a_year_of_one_digit_has_four(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "@yearly", "--after", "0005-06-01", "--count", "1") == ["0006-01-01T00:00:00Z"]


@pytest.mark.processes
def test_zones_need_no_files_of_the_machine() -> None:
    ask = [sys.executable, "-m", "supervisor.cli.main", "next", "0 12 * * *", "--tz", "Asia/Kolkata", "--count", "1"]
    environ = {"PYTHONPATH": str(REPOSITORY), "PYTHONTZPATH": ""}
    ended = subprocess.run(ask, env=environ, capture_output=True, text=True, timeout=40, check=True)
    assert ended.stdout.endswith("T06:30:00Z\n")


@pytest.mark.processes
def test_who_asks_for_no_zone_loads_none() -> None:
    ask = "import sys; from supervisor.cli.main import main; main(['next', '@daily']); print('zoneinfo' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", ask], cwd=REPOSITORY, capture_output=True, text=True, timeout=40, check=True
    )
    assert ended.stdout.splitlines()[-1] == "False"
