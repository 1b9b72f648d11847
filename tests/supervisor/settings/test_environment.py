from typing import Any

import pytest

from supervisor.settings.names import RESERVED


def test_a_variable_is_read_over_the_file(read: Any) -> None:
    settings = read(
        "[policies.cron]\nbudget = { attempts = 9, deadline = '1h' }\n",
        {"TURNKEEPER_POLICIES__CRON__BUDGET__ATTEMPTS": "2", "TURNKEEPER_STATE__LEASE": "90s"},
    )
    assert settings.policies["cron"].budget.attempts == 2
    assert settings.policies["cron"].budget.deadline_s == 3600.0
    assert settings.state.lease_s == 90.0


def test_what_a_variable_sets_in_default_is_inherited(read: Any) -> None:
    settings = read("[policies.cron]\n", {"TURNKEEPER_POLICIES__DEFAULT__BUDGET__ATTEMPTS": "2"})
    assert settings.policies["cron"].budget.attempts == 2


def test_the_call_is_read_over_both(read: Any) -> None:
    settings = read(
        "[policies.cron]\nbudget.attempts = 9\n",
        {"TURNKEEPER_POLICIES__CRON__BUDGET__ATTEMPTS": "2"},
        {"policies": {"cron": {"budget": {"attempts": 3}}, "mine": {"extends": "cron"}}},
    )
    assert settings.policies["cron"].budget.attempts == 3
    assert settings.policies["mine"].budget.attempts == 3


def test_a_whole_table_is_json(read: Any) -> None:
    settings = read(
        "[limits]\nrunning = 3\n",
        {
            "TURNKEEPER_LIMITS": '{"starts": {"count": 5, "period": "1m"}}',
            "TURNKEEPER_LIMITS__STARTS__COUNT": "6",
            "TURNKEEPER_FAILURES": '[{"match": {"exit_code": 3}, "kind": "auth"}]',
        },
    )
    assert settings.limits.running == 3
    assert settings.limits.starts == (6, 60.0)
    assert settings.policies["default"].failures[0].exit_code == 3


def test_null_switches_off_what_the_file_set(read: Any) -> None:
    assert read("[limits]\nrunning = 3\n", {"TURNKEEPER_LIMITS__RUNNING": "null"}).limits.running is None


@pytest.mark.parametrize("name", ["Nightly-Report", "nightly_report"])
def test_a_policys_name_is_matched_whatever_its_case(read: Any, name: str) -> None:
    settings = read(f"[policies.{name}]\n", {"TURNKEEPER_POLICIES__NIGHTLY_REPORT__BUDGET__ATTEMPTS": "2"})
    assert list(settings.policies) == ["default", name]
    assert settings.policies[name].budget.attempts == 2


def test_a_policy_that_only_the_environment_has_is_made_with_a_warning(read: Any) -> None:
    settings = read("[policies.cron]\n", {"TURNKEEPER_POLICIES__CORN__BUDGET__ATTEMPTS": "2"})
    assert settings.policies["corn"].budget.attempts == 2
    (warning,) = settings.warnings
    assert warning.endswith("makes a policy of its own, policies.corn; did you mean cron?")


def test_reserved_names_are_no_settings(read: Any) -> None:
    settings = read("", dict.fromkeys(RESERVED, "x"))
    assert settings.warnings == ()


def test_names_that_others_put_there_are_warned_of_and_ignored(read: Any) -> None:
    settings = read("", {"TURNKEEPER_PORT": "tcp://10.0.0.1:80", "TURNKEEPER_LIMIT": "3", "PATH": "/bin"})
    assert settings.warnings == (
        "not settings, and ignored: TURNKEEPER_LIMIT (did you mean TURNKEEPER_LIMITS?), TURNKEEPER_PORT",
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LIMITS__RUNNING", "many", 'limits.running needs a whole number of 1 or more, got "many"'),
        ("LIMITS__RUNNING", "", 'limits.running needs a whole number of 1 or more, got ""'),
        ("LIMITS__RUNNING", "2.5", "limits.running needs a whole number of 1 or more, got 2.5"),
        ("LIMITS__RUNNING", "true", "limits.running needs a whole number of 1 or more, got true"),
        ("LIMITS__RUNING", "2", "limits.runing is not known; did you mean running?"),
        ("LIMITS", "running=3", 'TURNKEEPER_LIMITS needs JSON, got "running=3": Expecting value'),
        ("LIMITS", "[]", "limits needs a table, got []"),
        ("LIMITS__STARTS", '{"count": 3', "TURNKEEPER_LIMITS__STARTS needs JSON, got"),
        ("LIMITS__STARTS", "[" * 100_000, "TURNKEEPER_LIMITS__STARTS needs JSON, got"),
        ("LIMITS__STARTS__COUNT", "3", "limits.starts needs period"),
        ("POLCIES__CRON__GATE__QUEUE", "1", "polcies is not known; did you mean policies?"),
        ("POLICIES__CRON__BUGET__ATTEMPTS", "2", "policies.cron.buget is not known; did you mean budget?"),
        ("POLICIES__CRON__ATTEMPT__TIMEOUT", "90", "policies.cron.attempt.timeout needs a duration with its unit"),
        ("POLICIES__CRON__ATTEMPT__LEAVE_CHILDREN", "yes", "policies.cron.attempt.leave_children needs true or false"),
        ("POLICIES__CRON__BUDGET__SESSION__REFILL", "NaN", "policies.cron.budget.session.refill needs a finite number"),
        ("POLICIES__CRON__BUDGET__SESSION__REFILL", "\udcff", r"policies.cron.budget.session.refill needs a number"),
        ("POLICIES____GATE", "1", "TURNKEEPER_POLICIES____GATE needs a name before and behind each __"),
        ("_POLICIES", "1", "_policies is not known; did you mean policies?"),
    ],
)
def test_a_variable_that_is_wrong_is_named(problems: Any, name: str, value: str, problem: str) -> None:
    (line,) = problems("[policies.cron]\n", {f"TURNKEEPER_{name}": value})
    assert line.startswith(problem)
    assert f"TURNKEEPER_{name}" in line


def test_a_rule_between_keys_names_the_variable_that_broke_it(problems: Any) -> None:
    (line,) = problems('[policies.cron]\nbackoff.base = "5s"\n', {"TURNKEEPER_POLICIES__CRON__BACKOFF__CAP": "1s"})
    assert line == (
        'policies.cron.backoff needs base <= cap, got base="5s", cap="1s" '
        "(set by TURNKEEPER_POLICIES__CRON__BACKOFF__CAP)"
    )


def test_what_the_call_set_is_said_to_be_from_the_call(problems: Any) -> None:
    (line,) = problems("", {"TURNKEEPER_LIMITS__RUNNING": "3"}, {"limits": {"running": 0}})
    assert line == "limits.running needs a whole number of 1 or more, got 0 (set by the call)"


def test_the_store_and_the_alerts_can_be_set_from_the_environment(read: Any) -> None:
    variables = {
        "TURNKEEPER_STATE__URL": "sqlite:///var/lib/turns.db",
        "TURNKEEPER_STATE__KEEP__RUNS": "7",
        "TURNKEEPER_ALERTS": '[{"on": ["lost"], "command": ["notify"]}]',
    }
    settings = read("", variables)
    assert (settings.state.url, settings.state.keep_runs) == ("sqlite:///var/lib/turns.db", 7)
    assert [alert.command for alert in settings.alerts] == [("notify",)]
