"""Who has been silent for too long? By the owner's word, and by the judge's own waking time."""

from supervisor.recovery.silence import Silence
from supervisor.store.sqlite.owners import Owner

LEASE_S = 12.0


def owner(renewed_at: float) -> Owner:
    return Owner("other", 1, "/alive/other", renewed_at)


def watch(silence: Silence, renewed_at: float, begin: float, end: float, step: float = 0.5) -> None:
    now = begin
    while now <= end:
        silence.see([owner(renewed_at)], now, now)
        now += step


def test_one_that_renews_is_never_silent_for_too_long() -> None:
    silence = Silence(LEASE_S)
    for at in range(100):
        silence.see([owner(float(at))], float(at), float(at))
        assert not silence.is_too_long("other")


def test_one_is_silent_for_too_long_after_the_lease_and_not_before() -> None:
    silence = Silence(LEASE_S)
    watch(silence, 0.0, 0.0, LEASE_S)
    assert not silence.is_too_long("other")
    watch(silence, 0.0, LEASE_S + 0.5, LEASE_S + 0.5)
    assert silence.is_too_long("other")


def test_whoever_has_just_come_watches_for_a_third_of_the_lease_first() -> None:
    silence = Silence(LEASE_S)
    watch(silence, 0.0, 1000.0, 1003.5)
    assert not silence.is_too_long("other")
    watch(silence, 0.0, 1004.0, 1004.0)
    assert silence.is_too_long("other")


def test_after_a_suspend_nobody_is_judged_by_the_time_that_all_have_slept() -> None:
    silence = Silence(LEASE_S)
    watch(silence, 0.0, 0.0, 2.0)
    silence.see([owner(0.0)], 2.5, 5000.0)  # the machine slept: our own clock did not go on
    assert not silence.is_too_long("other")
    silence.see([owner(0.0)], 2000.0, 7000.0)  # nor does one late look count for more than a look may be late
    assert not silence.is_too_long("other")


def test_one_that_renewed_is_watched_anew() -> None:
    silence = Silence(LEASE_S)
    watch(silence, 0.0, 1000.0, 1010.0)
    assert silence.is_too_long("other")
    silence.see([owner(5.0)], 1010.5, 1010.5)
    assert not silence.is_too_long("other")
