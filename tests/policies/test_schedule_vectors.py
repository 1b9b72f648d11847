"""What croner answers, and where this project's answers are others on purpose."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from policies.schedule import Cron, NeverDue, ScheduleError

DATA = Path(__file__).parents[1] / "data"
VECTORS = ("croner_vectors.json", "croner_vectors_more.json")


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def next_times(cron: Cron, moment: float, count: int = 5) -> list[str]:
    times: list[str] = []
    while len(times) < count and (tick := cron.next_after(moment)) is not None:
        times.append(iso(tick))
        moment = tick
    return times


def answered(vector: dict[str, Any]) -> list[str] | None:
    """Return the next five times, None for an expression that is refused."""
    try:
        cron = Cron(vector["expr"], ZoneInfo(vector["tz"]))
    except NeverDue:
        return []
    except ScheduleError:
        return None
    return next_times(cron, cron.as_croner_reads(unix(vector["after"])))


@pytest.mark.parametrize("file", VECTORS)
def test_every_answer_is_croners(file: str) -> None:
    vectors = json.loads((DATA / file).read_text())
    others = [vector for vector in vectors if answered(vector) != vector.get("next")]
    assert len(vectors) in {345, 410}
    assert others == []


def test_asked_within_a_repeated_hour_the_answer_is_later_where_croners_is_over() -> None:
    cron = Cron("* * * * *", ZoneInfo("Pacific/Auckland"))
    second_pass = unix("2026-04-04T14:30:00Z")
    assert next_times(cron, second_pass, 1) == ["2026-04-04T15:00:00.000Z"]
    assert iso(cron.as_croner_reads(second_pass)) == "2026-04-04T13:30:00.000Z"


@pytest.mark.parametrize("after", ["2026-03-08T06:59:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:29:59Z"])
def test_a_time_that_clocks_leave_out_is_not_lost_on_whoever_asks_a_moment_later(after: str) -> None:
    cron = Cron("30 2 * * *", ZoneInfo("America/New_York"))
    assert next_times(cron, unix(after), 2) == ["2026-03-08T07:30:00.000Z", "2026-03-09T06:30:00.000Z"]


def test_the_first_of_march_is_due_also_after_a_day_that_february_does_not_have() -> None:
    cron = Cron("0 0 1,30 * *", UTC)
    assert next_times(cron, unix("2026-02-10T00:00:00Z"), 1) == ["2026-03-01T00:00:00.000Z"]


@pytest.mark.parametrize(("marked", "starred"), [("0 0 ? * 1", "0 0 * * 1"), ("0 0 1 * ?", "0 0 1 * *")])
def test_a_question_mark_is_a_star(marked: str, starred: str) -> None:
    after = unix("2026-04-04T14:30:00Z")
    assert next_times(Cron(marked, UTC), after) == next_times(Cron(starred, UTC), after)
