from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.alerting import (
    FORGOTTEN_AFTER_S,
    HOLD,
    HOUR_S,
    MINUTE_S,
    MOST_A_MINUTE,
    REPEAT,
    SOME_SESSIONS,
    AlertKind,
    Answer,
    Hold,
    Minute,
    Repeat,
    Send,
    Summary,
    Summed,
    Told,
    add,
    claim,
    is_forgotten,
    over_in_s,
    released,
)

NOW = 10_000.0
FULL = tuple(NOW - 9.0 + each for each in range(MOST_A_MINUTE))
OLD = tuple(each - MINUTE_S for each in FULL)

CELLS = [
    # what is known of the session and kind, what all share, the answer, and what is known then
    (None, Minute(), Send(0), Told(NOW), Minute((NOW,))),
    (None, Minute(FULL[1:]), Send(0), Told(NOW), Minute((*FULL[1:], NOW))),
    (None, Minute(FULL), HOLD, Told(NOW), Minute(FULL, NOW)),
    (None, Minute(OLD), Send(0), Told(NOW), Minute((*(at for at in OLD if at > NOW - MINUTE_S), NOW))),
    (None, Minute((), NOW - 5.0), HOLD, Told(NOW), Minute((), NOW - 5.0)),
    (None, Minute(FULL, NOW - 5.0), HOLD, Told(NOW), Minute(FULL, NOW - 5.0)),
    (Told(NOW, 0), Minute(), REPEAT, Told(NOW, 1), Minute()),
    (Told(NOW - HOUR_S + 0.5, 3), Minute(FULL), REPEAT, Told(NOW - HOUR_S + 0.5, 4), Minute(FULL)),
    (Told(NOW - 9.0), Minute(FULL, NOW), REPEAT, Told(NOW - 9.0, 1), Minute(FULL, NOW)),
    (Told(NOW - HOUR_S, 3), Minute(), Send(3), Told(NOW), Minute((NOW,))),
    (Told(NOW - HOUR_S, 3), Minute(FULL), HOLD, Told(NOW, 3), Minute(FULL, NOW)),
    (Told(NOW - HOUR_S), Minute((), NOW), HOLD, Told(NOW), Minute((), NOW)),
    (Told(NOW - FORGOTTEN_AFTER_S, 3), Minute(), Send(0), Told(NOW), Minute((NOW,))),
    (Told(NOW - FORGOTTEN_AFTER_S + 1.0, 3), Minute(), Send(3), Told(NOW), Minute((NOW,))),
    # a clock that was set back: moments ahead silence nobody
    (Told(NOW + 9.0, 2), Minute(), Send(0), Told(NOW), Minute((NOW,))),
    (None, Minute(tuple(at + MINUTE_S for at in FULL)), Send(0), Told(NOW), Minute((NOW,))),
]


@pytest.mark.parametrize(("told", "minute", "answer", "told_then", "minute_then"), CELLS)
def test_each_cell(told: Told | None, minute: Minute, answer: Answer, told_then: Told, minute_then: Minute) -> None:
    assert claim(told, minute, NOW) == (told_then, minute_then, answer)


@pytest.mark.parametrize(
    ("minute", "left_s"),
    [
        (Minute(), None),
        (Minute(FULL), None),
        (Minute((), NOW), 60.0),
        (Minute((), NOW - 59.0), 1.0),
        (Minute((), NOW - 60.0), 0.0),
        (Minute((), NOW - 6000.0), 0.0),
        (Minute((), NOW + 1.0), 0.0),  # a clock that was set back
    ],
)
def test_a_summary_is_due_a_minute_after_the_first_it_stands_for(minute: Minute, left_s: float | None) -> None:
    assert over_in_s(minute, NOW) == left_s


def test_a_summary_that_was_taken_is_held_no_more() -> None:
    assert released(Minute(FULL, NOW)) == Minute(FULL)


def test_a_summary_counts_each_kind_and_names_some_sessions() -> None:
    summed: tuple[Summed, ...] = ()
    for number in range(SOME_SESSIONS + 5):
        summed = add(summed, AlertKind.LOST, f"s{number}")
    summed = add(summed, AlertKind.GIVE_UP, "s0")
    lost = Summed(AlertKind.LOST, SOME_SESSIONS + 5, tuple(f"s{number}" for number in range(SOME_SESSIONS)))
    assert summed == (lost, Summed(AlertKind.GIVE_UP, 1, ("s0",)))


def test_a_summary_says_of_some_kinds_only_what_is_asked_for() -> None:
    lost, give_up = Summed(AlertKind.LOST, 2, ("a", "b")), Summed(AlertKind.GIVE_UP, 1, ("c",))
    summary = Summary((lost, give_up), 60.0)
    assert summary.of({AlertKind.LOST}) == Summary((lost,), 60.0)
    assert summary.of(list(AlertKind)) == summary
    assert summary.of({AlertKind.QUARANTINE}) is None


@pytest.mark.parametrize(
    ("told", "forgotten"),
    [
        (Told(NOW - HOUR_S + 1.0), False),
        (Told(NOW - HOUR_S), True),
        (Told(NOW - HOUR_S, 1), False),
        (Told(NOW - FORGOTTEN_AFTER_S, 1), True),
        (Told(NOW + 1.0), True),
    ],
)
def test_what_was_told_is_forgotten_when_nothing_follows_from_it(told: Told, forgotten: object) -> None:
    assert is_forgotten(told, NOW) is forgotten


# Waits from parts of a second to hours, and few sessions: so that each rule is met, alone and together with the others.
WAITS = st.sampled_from([0.0, 0.0, 0.0, 0.5, 3.0, 59.5, 60.0, 1800.0, 3600.0])
EVENTS = st.lists(st.tuples(WAITS, st.integers(0, 25)), min_size=1, max_size=150)


@given(EVENTS)
def test_nobody_is_told_too_often_and_nothing_is_left_out(events: list[tuple[float, int]]) -> None:
    now, minute, held = NOW, Minute(), 0
    told: dict[int, Told] = {}
    sent: list[float] = []
    told_at: dict[int, list[float]] = {}
    summaries: list[float] = []
    stood_for = 0
    for wait_s, session in events:
        now += wait_s
        if over_in_s(minute, now) == 0.0:
            summaries.append(now)
            stood_for += held
            minute, held = released(minute), 0
        told[session], minute, answer = claim(told.get(session), minute, now)
        match answer:
            case Send():
                stood_for += 1 + answer.repeats
                sent.append(now)
                told_at.setdefault(session, []).append(now)
            case Hold():
                held += 1
                told_at.setdefault(session, []).append(now)
            case Repeat():
                pass
    assert stood_for + held + sum(each.repeats for each in told.values()) == len(events)
    assert all(later - first >= MINUTE_S for first, later in pairwise(summaries))
    for moments in told_at.values():
        assert all(later - first >= HOUR_S for first, later in pairwise(moments))
    for at in sent:
        assert sum(at <= other < at + MINUTE_S for other in sent) <= MOST_A_MINUTE
    # It is not silent either: whatever is first of its session is told at once, or stands in a summary.
    assert set(told_at) == {session for _, session in events}


@given(st.integers(1, 80))
def test_an_outage_of_many_sessions_is_ten_alerts_and_one_summary(sessions: int) -> None:
    minute, answers = Minute(), []
    for _ in range(sessions):
        _, minute, answer = claim(None, minute, NOW)
        answers.append(answer)
    assert answers.count(Send()) == min(sessions, MOST_A_MINUTE)
    assert answers.count(HOLD) == max(0, sessions - MOST_A_MINUTE)
    assert (over_in_s(minute, NOW + MINUTE_S) == 0.0) is (sessions > MOST_A_MINUTE)
