from dataclasses import replace
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.backoff import Backoff, Strategy
from policies.breaker import CLOSED, Admitted, Breaker, Closed, HalfOpen, Open, Report, State
from policies.budget import FULL, Bucket, Budget, Tokens, left
from policies.failure import DEFAULT_EFFECTS, Effect, Failed, Gone, Kind, Receipt, Refusal, Unknown
from policies.policy import OnLost, Policy
from policies.verdict import FINISH, Case, Finish, GiveUp, Ledger, Quarantine, Reason, Retry, decide, report_of

POLICY = Policy(
    budget=Budget(attempts=3, session=Bucket(capacity=3.0, refill=0.0)),
    backoff=Backoff(Strategy.CONSTANT, base_s=4.0, cap_s=100.0),
    breaker=Breaker(failures=5, cooldown_s=60.0),
)
HOST = Bucket(capacity=8.0, refill=0.0)
FIRST = Admitted(0)
HEALTHY = Ledger()
GONE = Gone(steps=("task",), seconds=0.5)
ALIVE = Unknown(alive=("pid 7 (node), started 12:00",))
SPENT = Ledger(session=Tokens(3.0, 0.0), host=Tokens(8.0, 0.0))


def no_jitter() -> float:
    return 0.0


def case(
    kind: Kind | None = Kind.ERROR,
    *,
    receipt: Receipt = GONE,
    attempt: int = 1,
    policy: Policy = POLICY,
    retry_after_s: float | None = None,
    admitted: Admitted = FIRST,
    above: int | None = None,
    deadline: float | None = None,
    stopped: Reason | None = None,
    below: int = 0,
) -> Case:
    failed = None if kind is None else Failed(kind, "it failed", retry_after_s)
    return Case(policy, attempt, failed, receipt, admitted, above, deadline, stopped, below)


def verdict(of: Case, ledger: Ledger = HEALTHY, host: Bucket | None = HOST, now: float = 100.0) -> object:
    return decide(of, ledger, host, now, no_jitter)[1]


# --- what the type of a retry asks for


def test_a_retry_cannot_be_spelled_without_the_proof() -> None:
    assert get_type_hints(Retry)["receipt"] is Gone
    assert "receipt" not in Retry._field_defaults


def test_a_bare_case_has_no_parent_no_deadline_and_nobody_who_stopped_it() -> None:
    bare = Case(POLICY, 1, None, GONE, FIRST)
    assert bare == Case(
        POLICY, 1, None, GONE, FIRST, retries_left_above=None, deadline=None, stopped=None, retries_below=0
    )


# --- unknown: quarantine before anything else


@pytest.mark.parametrize("kind", [None, *Kind])
@pytest.mark.parametrize("stopped", [None, *Reason])
def test_what_may_still_live_is_quarantined_before_anything_else_is_asked(
    kind: Kind | None, stopped: Reason | None
) -> None:
    of = case(kind, receipt=ALIVE, attempt=99, above=0, deadline=0.0, stopped=stopped)
    ledger, answer = decide(of, SPENT, HOST, 100.0, no_jitter)
    assert answer == Quarantine(ALIVE.alive)
    assert (ledger.session, ledger.host) == (SPENT.session, SPENT.host)
    assert ledger.breaker == Closed(0, 1, (100.0, 1, 1)), "it counts, a success too"


# --- finish, and what somebody asked to stop


def test_a_success_finishes_and_ends_the_row_of_failures() -> None:
    ledger, answer = decide(case(None), Ledger(Closed(2, 3, (90.0, 3, 3))), HOST, 100.0, no_jitter)
    assert ledger == Ledger(Closed(2, 3, (90.0, 3, 3))), "its place was of another generation"
    assert answer == FINISH == Finish()
    ledger, answer = decide(
        case(None, admitted=Admitted(2)), Ledger(Closed(2, 3, (90.0, 3, 3))), HOST, 100.0, no_jitter
    )
    assert ledger.breaker == Closed(2, 0, (90.0, 4, 3))
    assert answer is FINISH


def test_a_healthy_session_keeps_its_ledger_as_it_is() -> None:
    ledger = Ledger()
    assert decide(case(None), ledger, HOST, 100.0, no_jitter) == (ledger, FINISH)
    assert decide(case(None), ledger, HOST, 100.0, no_jitter)[0] is ledger


@pytest.mark.parametrize("stopped", sorted(set(Reason) - {Reason.LOST}))
@pytest.mark.parametrize("kind", [None, Kind.CANCELLED, Kind.TIMEOUT, Kind.BUSY, Kind.AUTH])
def test_nothing_follows_what_somebody_stopped(stopped: Reason, kind: Kind | None) -> None:
    ledger, answer = decide(case(kind, stopped=stopped), Ledger(), HOST, 100.0, no_jitter)
    assert answer == GiveUp(stopped)
    assert ledger == Ledger(), "neither token nor breaker knows of it"


# --- what the breaker is told


@pytest.mark.parametrize("kind", Kind)
def test_the_breaker_is_told_what_the_kind_counts_for(kind: Kind) -> None:
    expected = Report.COUNTED if DEFAULT_EFFECTS[kind].counts else Report.UNCOUNTED
    assert report_of(case(kind)) is (Report.BUSY if kind is Kind.BUSY else expected)
    assert report_of(case(kind, receipt=ALIVE)) is Report.COUNTED
    assert report_of(case(kind, stopped=Reason.CANCELLED)) is (Report.BUSY if kind is Kind.BUSY else Report.UNCOUNTED)


def test_a_policy_may_say_that_a_kind_does_not_count() -> None:
    quiet = replace(POLICY, kinds={Kind.TIMEOUT: Effect(retried=True, counts=False)})
    assert report_of(case(Kind.TIMEOUT, policy=quiet)) is Report.UNCOUNTED
    assert report_of(case(None)) is Report.SUCCESS
    assert report_of(case(None, stopped=Reason.CANCELLED)) is Report.SUCCESS


def test_an_attempt_that_was_taken_from_a_silent_process_counts_as_any_that_is_lost() -> None:
    _, answer = decide(case(Kind.LOST, stopped=Reason.LOST), Ledger(), HOST, 100.0, no_jitter)
    assert answer == GiveUp(Reason.LOST)
    assert report_of(case(Kind.LOST, stopped=Reason.LOST)) is Report.COUNTED
    assert report_of(case(Kind.LOST, stopped=Reason.STOPPED)) is Report.UNCOUNTED


@pytest.mark.parametrize("kind", [None, *Kind])
@pytest.mark.parametrize("receipt", [GONE, ALIVE], ids=["gone", "unknown"])
@pytest.mark.parametrize("stopped", [None, Reason.CANCELLED])
def test_the_place_of_a_trial_comes_back_on_every_path(
    kind: Kind | None, receipt: Receipt, stopped: Reason | None
) -> None:
    trial = Ledger(HalfOpen(6, trips=0, taken=1))
    of = case(kind, receipt=receipt, admitted=Admitted(6, trial=True), stopped=stopped)
    match decide(of, trial, HOST, 100.0, no_jitter)[0].breaker:
        case HalfOpen(taken=taken):
            assert taken == 0
        case Open(generation=generation) | Closed(generation=generation):
            assert generation == 7


# --- why there is no retry, in the order in which it is asked


@pytest.mark.parametrize(
    ("of", "ledger", "answer"),
    [
        (case(Kind.BUSY), Ledger(), Refusal.BUSY),
        (case(Kind.BUSY, attempt=3, above=0, deadline=0.0), SPENT, Refusal.BUSY),
        (case(Kind.CANCELLED), Ledger(), Reason.CANCELLED),
        (case(Kind.AUTH), Ledger(), Reason.NOT_RETRIED),
        (case(Kind.INVALID), Ledger(), Reason.NOT_RETRIED),
        (case(Kind.MEMORY), Ledger(), Reason.NOT_RETRIED),
        (case(Kind.UNCONFIRMED), Ledger(), Reason.NOT_RETRIED),
        (case(Kind.LOST), Ledger(), Reason.NOT_RETRIED),
        (case(Kind.AUTH, attempt=3, above=0, deadline=0.0), SPENT, Reason.NOT_RETRIED),
        (case(attempt=3), Ledger(), Reason.ATTEMPTS),
        (case(attempt=4), Ledger(), Reason.ATTEMPTS),
        (case(attempt=1, below=2), Ledger(), Reason.ATTEMPTS),
        (case(attempt=2, below=1), Ledger(), Reason.ATTEMPTS),
        (case(attempt=1, below=9), Ledger(), Reason.ATTEMPTS),
        (case(attempt=3, above=0, deadline=0.0), SPENT, Reason.ATTEMPTS),
        (case(above=0), Ledger(), Reason.PARENT_BUDGET),
        (case(above=-1), Ledger(), Reason.PARENT_BUDGET),
        (case(above=0, deadline=0.0), SPENT, Reason.PARENT_BUDGET),
        (case(deadline=104.0), Ledger(), Refusal.DEADLINE),
        (case(deadline=99.0), Ledger(), Refusal.DEADLINE),
        (case(deadline=104.0), SPENT, Refusal.DEADLINE),
        (case(), Ledger(session=Tokens(2.5, 0.0)), Reason.SESSION_BUDGET),
        (case(), SPENT, Reason.SESSION_BUDGET),
        (case(), Ledger(host=Tokens(7.5, 0.0)), Reason.HOST_BUDGET),
    ],
)
def test_the_first_reason_against_a_retry_ends_the_run_and_spends_nothing(
    of: Case, ledger: Ledger, answer: Reason | Refusal
) -> None:
    after, given_up = decide(of, ledger, HOST, 100.0, no_jitter)
    assert given_up == GiveUp(answer)
    assert (after.session, after.host) == (ledger.session, ledger.host)


@pytest.mark.parametrize(
    "of",
    [
        case(attempt=2),
        case(attempt=1, below=1),
        case(above=1),
        case(deadline=104.001),
        case(Kind.LOST, policy=replace(POLICY, on_lost=OnLost.RETRY)),
        case(Kind.AUTH, policy=replace(POLICY, kinds={Kind.AUTH: Effect(retried=True, counts=True)})),
    ],
)
def test_just_within_each_bound_there_is_a_retry_that_carries_its_proof(of: Case) -> None:
    ledger, answer = decide(of, Ledger(session=Tokens(2.0, 0.0), host=Tokens(7.0, 0.0)), HOST, 100.0, no_jitter)
    assert answer == Retry(at=104.0, delay_s=4.0, tokens=1.0, receipt=GONE)
    assert isinstance(answer, Retry)
    assert answer.receipt is GONE
    assert (ledger.session, ledger.host) == (Tokens(3.0, 100.0), Tokens(8.0, 100.0))


def test_a_kind_that_is_not_retried_is_not_retried_when_it_was_lost_either() -> None:
    never = replace(POLICY, on_lost=OnLost.RETRY, kinds={Kind.LOST: Effect(retried=False, counts=True)})
    assert verdict(case(Kind.LOST, policy=never)) == GiveUp(Reason.NOT_RETRIED)


def test_lost_asks_on_lost_and_other_kinds_do_not() -> None:
    assert POLICY.on_lost is OnLost.GIVE_UP
    assert isinstance(verdict(case(Kind.ERROR)), Retry)


# --- tokens


@pytest.mark.parametrize("kind", [kind for kind in Kind if DEFAULT_EFFECTS[kind].retried])
def test_a_retry_costs_the_session_and_the_host_what_its_kind_says(kind: Kind) -> None:
    policy = replace(POLICY, on_lost=OnLost.RETRY)
    ledger, answer = decide(case(kind, policy=policy), Ledger(), HOST, 100.0, no_jitter)
    tokens = DEFAULT_EFFECTS[kind].tokens
    assert isinstance(answer, Retry)
    assert answer.tokens == ledger.session.spent == ledger.host.spent == tokens


def test_without_a_host_bucket_the_host_is_not_asked() -> None:
    ledger, answer = decide(case(), Ledger(host=Tokens(9.0, 5.0)), None, 100.0, no_jitter)
    assert isinstance(answer, Retry)
    assert ledger == Ledger(Closed(0, 1, (100.0, 1, 1)), Tokens(1.0, 100.0), Tokens(9.0, 5.0))


def test_a_free_retry_needs_no_token_and_leaves_the_buckets_as_they_are() -> None:
    free = replace(POLICY, kinds={Kind.ERROR: Effect(retried=True, counts=True, tokens=0.0)})
    ledger, answer = decide(case(policy=free), SPENT, HOST, 100.0, no_jitter)
    assert answer == Retry(104.0, 4.0, 0.0, GONE)
    assert ledger.session is SPENT.session
    assert ledger.host is SPENT.host


# --- when


@pytest.mark.parametrize(
    ("retry_after_s", "delay_s"), [(None, 4.0), (3.0, 4.0), (4.5, 4.5), (5000.0, 5000.0), (0.0, 4.0), (-9.0, 4.0)]
)
def test_a_stated_retry_after_is_a_floor_that_no_cap_cuts_short(retry_after_s: float | None, delay_s: float) -> None:
    answer = verdict(case(Kind.RATE_LIMITED, retry_after_s=retry_after_s))
    assert answer == Retry(100.0 + delay_s, delay_s, 1.0, GONE)


def test_a_retry_after_past_the_deadline_gives_up_at_once() -> None:
    assert verdict(case(Kind.RATE_LIMITED, retry_after_s=60.0, deadline=160.0)) == GiveUp(Refusal.DEADLINE)
    assert isinstance(verdict(case(Kind.RATE_LIMITED, retry_after_s=60.0, deadline=160.1)), Retry)


def test_a_retry_after_that_is_no_number_is_not_waited_for() -> None:
    assert verdict(case(Kind.RATE_LIMITED, retry_after_s=float("nan"))) == Retry(104.0, 4.0, 1.0, GONE)
    assert verdict(case(Kind.RATE_LIMITED, retry_after_s=float("inf"), deadline=1e9)) == GiveUp(Refusal.DEADLINE)


def test_the_backoff_grows_with_the_attempts_number() -> None:
    growing = replace(POLICY, backoff=Backoff(Strategy.EXPONENTIAL, base_s=4.0, cap_s=100.0))
    delays = [verdict(case(policy=growing, attempt=n)) for n in (1, 2)]
    assert [d.delay_s for d in delays if isinstance(d, Retry)] == [4.0, 8.0]


@pytest.mark.parametrize(
    ("breaker", "at"),
    [
        (CLOSED, 104.0),
        (Open(5, until=150.0, trips=0), 150.0),
        (Open(5, until=103.0, trips=0), 104.0),
        (Open(5, until=104.0, trips=0), 104.0),
        (Open(5, until=1e6, trips=0), 104.0),  # of a clock that was set back since
        (HalfOpen(6, trips=0, taken=0), 104.0),
        (HalfOpen(6, trips=0, taken=1), 104.0),  # it will look again
        (HalfOpen(6, trips=0, taken=0, not_before=130.0), 130.0),
        (HalfOpen(6, trips=0, taken=0, not_before=102.0), 104.0),
    ],
)
def test_a_retry_that_falls_due_inside_a_cooldown_moves_to_its_end(breaker: State, at: float) -> None:
    answer = verdict(case(admitted=Admitted(3) if breaker is not CLOSED else Admitted(0)), Ledger(breaker))
    assert answer == Retry(at, at - 100.0, 1.0, GONE)


def test_a_failure_whose_input_was_used_up_is_not_retried() -> None:
    used_up = {kind: case()._replace(failed=Failed(kind, "x", repeatable=False)) for kind in (Kind.ERROR, Kind.AUTH)}
    assert verdict(used_up[Kind.ERROR]) == GiveUp(Reason.STDIN_CONSUMED)
    assert verdict(used_up[Kind.AUTH]) == GiveUp(Reason.NOT_RETRIED)


def test_the_failure_that_opens_the_breaker_waits_out_the_cooldown_it_began() -> None:
    ledger, answer = decide(case(), Ledger(Closed(0, 4, (90.0, 4, 4))), HOST, 100.0, no_jitter)
    assert ledger.breaker == Open(1, 160.0, trips=0, wait_s=60.0)
    assert answer == Retry(160.0, 60.0, 1.0, GONE)


def test_a_cooldown_past_the_deadline_gives_up_and_spends_nothing() -> None:
    opened = Ledger(Open(5, until=150.0, trips=0))
    ledger, answer = decide(case(admitted=Admitted(3), deadline=150.0), opened, HOST, 100.0, no_jitter)
    assert answer == GiveUp(Refusal.DEADLINE)
    assert ledger is opened


def test_the_die_is_handed_on_to_cooldown_and_backoff() -> None:
    jitter = replace(POLICY, backoff=Backoff(Strategy.FULL_JITTER, base_s=8.0))
    assert decide(case(policy=jitter), Ledger(), HOST, 100.0, lambda: 0.5)[1] == Retry(104.0, 4.0, 1.0, GONE)
    ledger, _ = decide(case(), Ledger(Closed(0, 4, (90.0, 4, 4))), HOST, 100.0, lambda: 0.5)
    assert ledger.breaker == Open(1, 166.0, trips=0, wait_s=66.0)


# --- any case at all

BREAKERS: list[State] = [
    CLOSED,
    Closed(0, 4, (90.0, 4, 4)),
    Open(1, until=150.0, trips=0),
    HalfOpen(2, trips=1, taken=1),
    HalfOpen(2, trips=1, taken=0, not_before=130.0),
]
CASES = st.builds(
    case,
    st.none() | st.sampled_from(Kind),
    receipt=st.sampled_from([GONE, ALIVE]),
    attempt=st.integers(1, 4),
    retry_after_s=st.sampled_from([None, 1.0, 40.0, 900.0]),
    admitted=st.builds(Admitted, st.integers(0, 3), st.booleans()),
    above=st.none() | st.integers(0, 2),
    deadline=st.sampled_from([None, 90.0, 104.0, 155.0, 2000.0]),
    stopped=st.sampled_from([None, None, None, Reason.CANCELLED]),
    below=st.integers(0, 2),
)
LEDGERS = st.builds(
    Ledger,
    st.sampled_from(BREAKERS),
    st.sampled_from([FULL, Tokens(2.0, 0.0), Tokens(3.0, 0.0)]),
    st.sampled_from([FULL, Tokens(7.0, 0.0), Tokens(8.0, 0.0)]),
)


@given(CASES, LEDGERS, st.sampled_from([None, HOST]), st.floats(0.0, 1.0, exclude_max=True))
def test_a_retry_keeps_every_bound_at_once_and_nothing_else_spends(
    of: Case, ledger: Ledger, host: Bucket | None, draw: float
) -> None:
    after, answer = decide(of, ledger, host, 100.0, lambda: draw)
    if not isinstance(answer, Retry):
        assert (after.session, after.host) == (ledger.session, ledger.host)
        return
    assert of.failed is not None
    assert of.receipt is answer.receipt is GONE
    assert of.stopped is None
    assert of.attempt + of.retries_below < of.policy.budget.attempts
    assert of.retries_left_above is None or of.retries_left_above > 0
    assert of.deadline is None or answer.at < of.deadline
    assert answer.delay_s >= max(0.0, of.failed.retry_after_s or 0.0)
    assert answer.at == 100.0 + answer.delay_s
    assert not isinstance(after.breaker, Open) or answer.at >= after.breaker.until
    assert answer.tokens == DEFAULT_EFFECTS[of.failed.kind].tokens
    assert after.session.spent == ledger.session.spent + answer.tokens
    assert left(of.policy.budget.session, after.session, 100.0) >= 0.0
    assert after.host.spent == ledger.host.spent + (answer.tokens if host else 0.0)


def test_words_in_reports_are_these() -> None:
    assert {*Reason} == {
        *("not_retried", "stdin_consumed", "attempts", "parent_budget", "session_budget", "host_budget"),
        *("cancelled", "replaced", "closed", "unconfirmed"),
        *("stopped", "paused", "lost", "store_unavailable"),
    }
