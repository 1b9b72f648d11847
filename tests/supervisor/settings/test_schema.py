import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from policies.failure import FIXED_KINDS, Kind
from supervisor.settings.describe import as_toml
from supervisor.settings.read import read_settings
from supervisor.settings.schema import json_schema

EXAMPLE = Path(__file__).parents[3] / "settings.toml"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def wrong(validator: Draft202012Validator, text: str) -> bool:
    return not validator.is_valid(tomllib.loads(text))


def test_the_example_is_valid(validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(tomllib.loads(EXAMPLE.read_text()))] == []


def test_an_empty_file_is_valid(validator: Draft202012Validator) -> None:
    assert not wrong(validator, "")


def test_what_check_prints_is_valid(validator: Draft202012Validator) -> None:
    assert not wrong(validator, as_toml(read_settings(EXAMPLE, {})))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense = 1",
        "policies.cron.bugdet = {}",
        "policies.cron.budget.attempts = 33",
        "policies.cron.budget.attempts = 0",
        "policies.cron.attempt.timeout = 5",
        'policies.cron.attempt.timeout = "5"',
        'policies.cron.attempt.timeout = ""',
        'policies.cron.attempt.grace = "off"',
        'policies.cron.attempt.max_rss = "5m"',
        "policies.cron.budget.session.deposit = 1.5",
        "policies.cron.breaker.failure_rate = 0",
        'policies.cron.gate.overlap = "skipp"',
        "policies.cron.kinds.busy = {}",
        "limits.starts = { count = 1 }",
        'state.url = "sqlight"',
        'state.url = "sqlite:///"',
        'state.url = "sqlite://turns.db"',
        "state.keep = 3",
        "state.keep.runs = 0",
        'state.quarantine_alarm = "0"',
        '[[alerts]]\non = []\ncommand = ["notify"]',
        '[[alerts]]\non = ["losst"]\ncommand = ["notify"]',
        '[[alerts]]\non = ["lost", "lost"]\ncommand = ["notify"]',
        '[[alerts]]\non = ["lost"]',
        '[[alerts]]\non = ["lost"]\ncommand = []',
        '[[alerts]]\non = ["lost"]\ncommand = [""]',
        '[[alerts]]\non = ["lost"]\ncommand = "notify"',
        '[[failures]]\nmatch = {}\nkind = "auth"',
        '[[failures]]\nmatch = { exit_code = 1 }\nkind = "unconfirmed"',
    ],
)
def test_what_check_refuses_the_schema_refuses_too(validator: Draft202012Validator, text: str) -> None:
    assert wrong(validator, text)


@pytest.mark.parametrize("timeout", ["250ms", "1h30m", "off", "0.5s"])
def test_durations_are_valid(validator: Draft202012Validator, timeout: str) -> None:
    assert not wrong(validator, f'policies.cron.attempt.timeout = "{timeout}"')


@pytest.mark.parametrize("url", ["memory", "sqlite", "sqlite:///var/lib/turnkeeper/turns.db"])
def test_places_of_state_are_valid(validator: Draft202012Validator, url: str) -> None:
    assert not wrong(validator, f'state.url = "{url}"')


def test_an_alert_is_valid(validator: Draft202012Validator) -> None:
    assert not wrong(validator, '[[alerts]]\non = ["lost", "give_up"]\ncommand = ["notify", ""]\ntimeout = "1s"')


def test_every_key_is_described() -> None:
    tables: dict[str, Any] = json_schema()["$defs"]
    for name, table in tables.items():
        assert table["description"], name
        for key, described in table["properties"].items():
            assert "description" in described or "$ref" in described, f"{name}.{key}"


def test_every_kind_that_can_be_changed_is_there() -> None:
    kinds = json_schema()["$defs"]["KindsTable"]["properties"]
    assert set(kinds) == {kind.value for kind in Kind if kind not in FIXED_KINDS}
    assert kinds["timeout"]["description"] == "Built in: retried = true, counts = true, tokens = 2."
