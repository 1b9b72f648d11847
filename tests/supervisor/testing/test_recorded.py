from dataclasses import dataclass
from enum import StrEnum

from supervisor.testing import Recorded


class Status(StrEnum):
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    session: str
    run_id: str
    unix: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    number: int


@dataclass(frozen=True, slots=True)
class Ended(Event):
    status: Status
    duration_s: float
    detail: str


STARTED = Started("reports", "run-1", 1_767_225_600.5, 1)
OTHER = Started("mail", "run-2", 1_767_225_601.0, 1)
ENDED = Ended("reports", "run-1", 1_767_225_602.25, Status.FAILED, 0.1 + 0.2, "a\nb")


def recorded() -> Recorded:
    events = Recorded()
    for event in (STARTED, OTHER, ENDED):
        events(event)
    return events


def test_it_keeps_events_in_order() -> None:
    assert list(recorded()) == recorded().events == [STARTED, OTHER, ENDED]
    assert len(recorded()) == 3
    assert recorded().names() == ["Started", "Started", "Ended"]


def test_it_finds_events_by_class() -> None:
    assert recorded().of(Started) == [STARTED, OTHER]
    assert recorded().of(Event) == [STARTED, OTHER, ENDED]
    assert recorded().of(Ended)[0].status is Status.FAILED


def test_it_finds_the_events_of_a_run() -> None:
    assert recorded().for_run("run-1") == [STARTED, ENDED]
    assert recorded().for_run("run-3") == []


def test_its_text_has_one_line_for_each_event() -> None:
    assert recorded().text().split("\n") == [
        "2026-01-01T00:00:00.500Z Started session='reports' run_id='run-1' number=1",
        "2026-01-01T00:00:01.000Z Started session='mail' run_id='run-2' number=1",
        r"2026-01-01T00:00:02.250Z Ended session='reports' run_id='run-1' status=failed duration_s=0.3 detail='a\nb'",
    ]


def test_nothing_recorded_is_no_text() -> None:
    assert Recorded().text() == ""
    assert not Recorded().names()
