from typing import Any

import pytest

from policies.failure import DEFAULT_EFFECTS, Effect, Kind
from policies.gate import Overlap
from policies.policy import Policy
from supervisor.settings.inherit import inherit


def test_tables_merge_key_by_key_along_the_whole_line(read: Any) -> None:
    settings = read("""
        [policies.default]
        backoff = { base = "1s", cap = "9s" }
        [policies.nightly]
        extends = "cron"
        budget.session.refill = 3
        [policies.cron]
        extends = "default"
        backoff.cap = "8s"
        budget.session.capacity = 5
        gate.overlap = "skip"
    """)
    nightly = settings.policies["nightly"]
    assert (nightly.backoff.base_s, nightly.backoff.cap_s) == (1.0, 8.0)
    assert (nightly.budget.session.capacity, nightly.budget.session.refill) == (5.0, 3.0)
    assert nightly.gate.overlap is Overlap.SKIP
    assert settings.policies["cron"].budget.session.refill == 1.0
    assert list(settings.policies) == ["default", "nightly", "cron"]


def test_a_policy_that_says_nothing_extends_default(read: Any) -> None:
    settings = read('[policies.default]\nattempt.timeout = "7s"\n[policies.cron]\n')
    assert settings.policies["cron"].attempt.timeout_s == 7.0
    assert settings.policies["cron"].hash == settings.policies["default"].hash


def test_a_policy_without_a_default_beside_it_extends_the_built_in_one(read: Any) -> None:
    settings = read('[policies.cron]\nextends = "default"\n')
    assert settings.policies["default"] == Policy()
    assert settings.policies["cron"].hash == Policy().hash


def test_kinds_merge_over_the_parents_and_those_over_the_built_in_ones(read: Any) -> None:
    settings = read("""
        [policies.default.kinds]
        timeout = { retried = false }
        auth = { retried = true, counts = false, tokens = 3 }
        [policies.cron.kinds]
        timeout.tokens = 5
    """)
    kinds = settings.policies["cron"].kinds
    assert kinds[Kind.TIMEOUT] == Effect(retried=False, counts=True, tokens=5.0)
    assert kinds[Kind.AUTH] == Effect(retried=True, counts=False, tokens=3.0)
    assert kinds[Kind.BUSY] == DEFAULT_EFFECTS[Kind.BUSY]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[policies.cron]\nextends = "cron"', 'policies.cron.extends needs another policy, got "cron"'),
        (
            '[policies.cron]\nextends = "nightly"\n[policies.nightli]\n',
            'policies.cron.extends needs the name of a policy, got "nightly"; did you mean nightli?',
        ),
        ('[policies.cron]\nextends = ""', 'policies.cron.extends needs the name of a policy, got ""; known: default'),
        ("[policies.cron]\nextends = 3", "policies.cron.extends needs a name as text, got 3"),
        ('[policies.default]\nextends = "cron"', "policies.default.extends cannot be: default extends nothing"),
        ('[policies.default]\nextends = "default"', "policies.default.extends cannot be: default extends nothing"),
    ],
)
def test_a_wrong_parent_says_what_is_wrong_with_it(problems: Any, text: str, problem: str) -> None:
    assert problems(text)[0].startswith(problem)


def test_a_circle_is_told_once() -> None:
    policies = {
        "a": {"extends": "b"},
        "b": {"extends": "c"},
        "c": {"extends": "b"},
        "d": {"extends": "a"},
    }
    _, _, problems = inherit(policies)
    (only,) = problems
    assert only.path == ("policies", "b", "extends")
    assert only.words == 'needs an end, got the circle "b -> c -> b"'


def test_two_circles_are_told_both() -> None:
    policies = {"a": {"extends": "b"}, "b": {"extends": "a"}, "c": {"extends": "d"}, "d": {"extends": "c"}}
    assert len(inherit(policies)[2]) == 2


def test_a_policy_with_a_wrong_parent_is_proved_all_the_same(problems: Any) -> None:
    found = problems('[policies.cron]\nextends = "cron"\nattempt.timeout = 5\n')
    assert [line.split()[0] for line in found] == ["policies.cron.extends", "policies.cron.attempt.timeout"]


def test_a_long_line_of_parents_is_followed(read: Any) -> None:
    text = "[policies.p0]\ngate.permits = 7\n" + "".join(
        f'[policies.p{i}]\nextends = "p{i - 1}"\n' for i in range(1500, 0, -1)
    )
    assert read(text).policies["p1500"].gate.permits == 7


def test_what_is_inherited_is_told_where_it_was_written_only(problems: Any) -> None:
    found = problems("""
        [policies.default]
        budget.attempts = 160
        backoff.base = "5s"
        [policies.cron]
        backoff.cap = "1s"
        [policies.nightly]
        extends = "cron"
    """)
    assert [line.split(" needs ")[0] for line in found] == ["policies.default.budget.attempts", "policies.cron.backoff"]
