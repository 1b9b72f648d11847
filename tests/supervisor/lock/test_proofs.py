"""What proves a killed warden dead, and each thing without which it does not."""

import os
from dataclasses import replace
from typing import Any

import pytest

from supervisor.cgroup import Cgroup
from supervisor.lock import proofs
from supervisor.lock.contents import OurPart, OwnedBy
from supervisor.lock.proofs import proof_of_death
from supervisor.owner import Owner, this_process

TICKS = os.sysconf("SC_CLK_TCK")
ELSEWHERE = Cgroup("/before", 5000, 7)
HERE = Cgroup("/now", 5001, 8)
ROOT = Cgroup("/", 1, 9)


@pytest.fixture
def me(monkeypatch: pytest.MonkeyPatch) -> Owner:
    """This process, as it would see itself in a container whose init started 100 s after boot."""
    me = replace(this_process(), host="box", pid_namespace=20, init_start=100 * TICKS, cgroup=HERE)
    monkeypatch.setattr(proofs, "this_process", lambda: me)
    monkeypatch.setattr(proofs, "in_initial_time_namespace", lambda: True)
    return me


def killed(me: Owner, **said: Any) -> OurPart:
    """Return what a warden has left that was killed in the same container, when that ran before."""
    left = OurPart(OwnedBy.WARDEN, me.boot_id, "box", gone=False, pid_namespace=10, init_start=5, cgroup=ELSEWHERE)
    return replace(left, **said)


def test_a_container_that_was_started_again_has_none_left_of_those_before(me: Owner) -> None:
    assert proof_of_death(killed(me), renewed_at=99.9) == "the container box was started again since"


@pytest.mark.parametrize(
    "said",
    [
        {"pid_namespace": 20},  # its inode was recycled
        {"init_start": 100 * TICKS},
        {"cgroup": None},
    ],
)
def test_it_is_another_container_by_its_namespace_or_its_init(me: Owner, said: dict[str, Any]) -> None:
    assert proof_of_death(killed(me, **said), renewed_at=99.9)


@pytest.mark.parametrize("cgroup", [ROOT, None])
def test_where_nobody_uses_cgroups_they_say_nothing_against_it(
    me: Owner, monkeypatch: pytest.MonkeyPatch, cgroup: Cgroup | None
) -> None:
    monkeypatch.setattr(proofs, "this_process", lambda: replace(me, cgroup=cgroup))
    assert proof_of_death(killed(me, cgroup=cgroup), renewed_at=99.9)


@pytest.mark.parametrize("renewed_at", [None, 100.0, 100.1, 1e9])
def test_who_may_have_lived_when_this_container_started_is_another_one_beside_it(
    me: Owner, renewed_at: float | None
) -> None:
    assert not proof_of_death(killed(me), renewed_at)


@pytest.mark.parametrize(
    "said",
    [
        {"pid_namespace": 20, "init_start": 100 * TICKS},  # it is ours
        {"pid_namespace": 0},
        {"pid_namespace": 0xEFFFFFFC},  # the host's own
        {"init_start": None},
        {"host": "another"},
        {"boot_id": ""},
        {"cgroup": HERE},  # we are a sandbox in its container
    ],
)
def test_without_any_of_these_a_container_was_not_started_again(me: Owner, said: dict[str, Any]) -> None:
    assert not proof_of_death(killed(me, **said), renewed_at=0.0)


def test_in_a_time_namespace_no_start_is_compared(me: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "in_initial_time_namespace", lambda: False)
    assert not proof_of_death(killed(me), renewed_at=0.0)


def test_another_boot_is_a_proof_wherever_it_was(me: Owner) -> None:
    assert proof_of_death(killed(me, boot_id="another", host="another")) == "box was booted since"


def test_a_boot_that_cannot_be_told_is_no_other_one(me: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "this_process", lambda: replace(me, boot_id=""))
    assert not proof_of_death(killed(me), renewed_at=0.0)
