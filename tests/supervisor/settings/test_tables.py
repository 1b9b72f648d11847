import re
import tomllib
from pathlib import Path
from typing import Any

import supervisor.settings
from policies.alerting import AlertKind
from policies.policy import Policy
from supervisor.settings.policy_tables import BucketTable, PolicyTable
from supervisor.settings.read import read_settings
from supervisor.settings.tables import AlertTable, LimitsTable, StateTable
from supervisor.settings.values import Alert, Settings, State, embedded_settings

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "settings.toml"


def test_the_defaults_of_the_tables_are_those_of_the_policies() -> None:
    assert PolicyTable().rule("default", ()) == Policy()
    assert BucketTable().rule() == Policy().budget.session
    assert StateTable().value() == State()


def test_the_shipped_file_is_the_repositorys() -> None:
    shipped = Path(supervisor.settings.__file__).parent / "settings.toml"
    assert shipped.read_bytes() == EXAMPLE.read_bytes()


def test_the_example_states_the_built_in_defaults() -> None:
    settings = read_settings(EXAMPLE, {})
    default = settings.policies["default"]
    assert Policy(failures=default.failures) == default
    assert settings.state == embedded_settings().state


def test_the_example_has_policies_for_cron_and_subagents() -> None:
    settings = read_settings(EXAMPLE, {})
    assert list(settings.policies) == ["default", "cron", "subagent"]
    assert settings.policies["cron"].gate.overlap == "skip"
    assert settings.policies["subagent"].attempt.timeout_s == 120.0


def test_the_example_names_every_key() -> None:
    text = EXAMPLE.read_text()
    for table, info in PolicyTable.model_fields.items():
        fields: dict[str, Any] = getattr(info.annotation, "model_fields", {})
        assert table in text
        for key in fields if table != "kinds" else ():
            assert f"{table}.{key}" in text


def test_the_example_names_every_key_outside_the_policies() -> None:
    text = EXAMPLE.read_text()
    for table in (StateTable, LimitsTable, AlertTable):
        for key in table.model_fields:
            assert re.search(rf"^(# |retries\.)?{key}(\.\w+)? += ", text, re.MULTILINE), key


def test_the_alert_of_the_example_is_one_once_it_is_no_comment() -> None:
    text = EXAMPLE.read_text()
    lines = text[text.index("# [[alerts]]") :].partition("\n\n")[0].splitlines()
    (alert,) = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines))["alerts"]
    assert AlertTable(**alert).value() == Alert(tuple(AlertKind), ("/usr/local/bin/notify", "--stdin"))


def test_a_reading_is_a_frozen_value() -> None:
    assert isinstance(read_settings(EXAMPLE, {}), Settings)
    assert read_settings(EXAMPLE, {}) == read_settings(EXAMPLE, {})
