from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.failure import Refusal
from policies.gate import Answer, Gate, Overlap, Traffic, arrive, may_enter, newest_may_enter

ENTER, WAIT, NEWEST, REPLACE = Answer.ENTER, Answer.WAIT, Answer.WAIT_AS_NEWEST, Answer.REPLACE
FULL, OVERLAP = Refusal.QUEUE_FULL, Refusal.OVERLAP

# What a run is told that comes to a gate of one permit and a line of two, for each overlap rule in this order:
ORDER = (Overlap.QUEUE, Overlap.SKIP, Overlap.COALESCE, Overlap.REPLACE)
ONE_PERMIT: dict[Traffic, tuple[Answer | Refusal, ...]] = {
    Traffic(): (ENTER, ENTER, ENTER, ENTER),
    Traffic(running=1, under_way=1): (WAIT, OVERLAP, NEWEST, REPLACE),
    Traffic(running=0, under_way=1): (ENTER, OVERLAP, NEWEST, REPLACE),  # the other one is in backoff
    Traffic(running=1, in_line=1, under_way=1): (WAIT, OVERLAP, NEWEST, REPLACE),
    Traffic(running=1, in_line=2, under_way=1): (FULL, OVERLAP, NEWEST, REPLACE),
    Traffic(running=1, in_line=3, under_way=1): (FULL, OVERLAP, NEWEST, REPLACE),
    Traffic(running=0, in_line=1): (WAIT, OVERLAP, NEWEST, REPLACE),  # nobody passes who is about to be let in
    Traffic(running=0, in_line=2): (FULL, OVERLAP, NEWEST, REPLACE),
    Traffic(running=0, retries_in_line=1, under_way=1): (WAIT, OVERLAP, NEWEST, REPLACE),
    Traffic(running=0, in_line=2, retries_in_line=1, under_way=1): (FULL, OVERLAP, NEWEST, REPLACE),
}
# The same with two permits:
TWO_PERMITS: dict[Traffic, tuple[Answer | Refusal, ...]] = {
    Traffic(running=1, under_way=1): (ENTER, ENTER, ENTER, ENTER),
    Traffic(running=0, under_way=1): (ENTER, ENTER, ENTER, ENTER),
    Traffic(running=1, under_way=2): (ENTER, OVERLAP, NEWEST, REPLACE),
    Traffic(running=2, under_way=2): (WAIT, OVERLAP, NEWEST, REPLACE),
    Traffic(running=1, in_line=1, under_way=1): (WAIT, OVERLAP, NEWEST, REPLACE),
    # A retry under a rule of one permit waits at the head: a rule of two does not pass it.
    Traffic(running=1, retries_in_line=1, under_way=2): (WAIT, OVERLAP, NEWEST, REPLACE),
    Traffic(running=0, retries_in_line=1, under_way=1): (WAIT, WAIT, WAIT, WAIT),
}
CELLS = [
    (Gate(permits=permits, queue=2, overlap=overlap), traffic, answer)
    for permits, table in ((1, ONE_PERMIT), (2, TWO_PERMITS))
    for traffic, answers in table.items()
    for overlap, answer in zip(ORDER, answers, strict=True)
]


def test_the_table_has_every_overlap_rule() -> None:
    assert set(ORDER) == set(Overlap)


@pytest.mark.parametrize(("gate", "traffic", "answer"), CELLS)
def test_an_arriving_run_is_told_what_the_table_says(gate: Gate, traffic: Traffic, answer: Answer | Refusal) -> None:
    assert arrive(gate, traffic) is answer


def test_a_line_of_length_zero_refuses_whoever_cannot_enter() -> None:
    assert arrive(Gate(queue=0), Traffic()) is ENTER
    assert arrive(Gate(queue=0), Traffic(running=1, under_way=1)) is FULL


def test_retries_in_line_take_no_place_of_first_attempts() -> None:
    assert arrive(Gate(queue=1), Traffic(running=1, retries_in_line=9, under_way=10)) is WAIT


@pytest.mark.parametrize(("running", "permits", "may"), [(0, 1, True), (1, 1, False), (1, 2, True), (3, 2, False)])
def test_the_head_of_the_line_enters_under_its_own_permits(running: int, permits: int, *, may: bool) -> None:
    assert may_enter(Gate(permits=permits), running) is may


@pytest.mark.parametrize(
    ("traffic", "may"),
    [
        (Traffic(), True),
        (Traffic(running=1, under_way=1), True),
        (Traffic(running=0, under_way=1), True),
        (Traffic(running=0, under_way=2), False),  # both are in backoff
        (Traffic(running=2, under_way=2), False),
        (Traffic(running=2, under_way=1), False),
        (Traffic(running=0, in_line=1), False),
        (Traffic(running=0, retries_in_line=1, under_way=1), False),
    ],
)
def test_the_newest_goes_when_no_line_is_left_and_fewer_runs_than_permits_are_under_way(
    traffic: Traffic, *, may: bool
) -> None:
    assert newest_may_enter(Gate(permits=2, overlap=Overlap.COALESCE), traffic) is may


def test_shrinking_the_permits_stops_nobody_and_lets_nobody_in() -> None:
    assert may_enter(Gate(permits=1), running=3) is False
    assert arrive(Gate(permits=1), Traffic(running=3, under_way=3)) is WAIT


def test_the_defaults_are_the_documented_ones() -> None:
    assert Gate() == Gate(permits=1, queue=16, wait_s=60.0, overlap=Overlap.QUEUE)
    assert Traffic() == Traffic(running=0, in_line=0, under_way=0, retries_in_line=0)


@dataclass(eq=False)
class Run:
    gate: Gate
    number: int
    retry: bool = False


class GateMachine(RuleBasedStateMachine):
    """A session's line that does what the gate says: queueing runs of two policies, their retries, their ends."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = 0
        self.line: deque[Run] = deque()
        self.running: list[Run] = []
        self.in_backoff: list[Run] = []

    def traffic(self) -> Traffic:
        retries = sum(run.retry for run in self.line)
        under_way = len(self.running) + len(self.in_backoff) + retries
        return Traffic(len(self.running), len(self.line) - retries, under_way, retries)

    def let_in(self) -> None:
        while self.line and may_enter(self.line[0].gate, len(self.running)):
            self.running.append(self.line.popleft())

    @rule(permits=st.sampled_from([1, 2]), queue=st.sampled_from([0, 1, 3]))
    def a_run_comes(self, permits: int, queue: int) -> None:
        self.arrived += 1
        run = Run(Gate(permits=permits, queue=queue), self.arrived)
        before = self.traffic()
        answer = arrive(run.gate, before)
        if answer is Answer.ENTER:
            assert not self.line
            assert before.running < permits
            self.running.append(run)
        elif answer is Answer.WAIT:
            assert before.in_line < queue
            self.line.append(run)
        else:
            assert answer is Refusal.QUEUE_FULL
            assert before.in_line >= queue

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 3), retried=st.booleans())
    def an_attempt_ends(self, which: int, *, retried: bool) -> None:
        run = self.running.pop(which % len(self.running))
        if retried:
            self.in_backoff.append(run)
        self.let_in()

    @precondition(lambda self: self.in_backoff)
    @rule()
    def a_retry_falls_due(self) -> None:
        run = self.in_backoff.pop(0)
        run.retry = True
        self.line.append(run)
        self.let_in()

    @invariant()
    def nobody_runs_beyond_the_permits_and_nobody_waits_who_could_go(self) -> None:
        assert len(self.running) <= 2
        assert not self.line or len(self.running) >= self.line[0].gate.permits

    @invariant()
    def first_attempts_stand_in_the_order_in_which_they_came(self) -> None:
        numbers = [run.number for run in self.line if not run.retry]
        assert numbers == sorted(numbers)

    @invariant()
    def a_coalesced_run_passes_nobody(self) -> None:
        traffic = self.traffic()
        gate = Gate(permits=2, overlap=Overlap.COALESCE)
        if newest_may_enter(gate, traffic):
            assert not self.line
            assert arrive(replace(gate, overlap=Overlap.QUEUE), traffic) is Answer.ENTER


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=100, stateful_step_count=30)
