import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.settings.describe import as_json, as_toml
from supervisor.settings.read import read_settings
from supervisor.settings.values import Settings, embedded_settings

EXAMPLE = Path(__file__).parents[3] / "settings.toml"

ODD = r"""
[limits]
starts = { count = 3, period = "1s500ms" }
min_available_memory = "1001B"
[policies.default]
attempt = { timeout = "off", max_rss = "1.5GiB" }
kinds.timeout = { retried = false }
kinds.auth = { tokens = 0.5 }
[policies."two words"]
kinds.timeout = { retried = true }
budget.session.capacity = 1e30
[[failures]]
match = { output = 'a"\\b é 😀', exit_code = 0 }
kind = "auth"
[[failures]]
match = { output = "del \u007f, tab \t", exception = "x.Y" }
kind = "auth"
[state]
url = "sqlite:///a b/é.db"
keep.age = "off"
[[alerts]]
on = ["give_up", "lost"]
command = ["notify", '--to=a "b"', ""]
timeout = "1m"
"""


def reading(path: Path, text: str) -> Settings:
    path.write_text(text, encoding="utf-8")
    return read_settings(path, {})


@pytest.mark.parametrize("text", [EXAMPLE.read_text(encoding="utf-8"), ODD, ""])
def test_the_text_is_a_settings_file_that_reads_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.toml"
    settings = reading(path, text)
    again = reading(path, as_toml(settings))
    assert again == settings
    assert {name: policy.hash for name, policy in again.policies.items()} == {
        name: policy.hash for name, policy in settings.policies.items()
    }


def test_each_policy_is_told_with_its_hash() -> None:
    settings = read_settings(EXAMPLE, {})
    text = as_toml(settings)
    for name, policy in settings.policies.items():
        assert f"[policies.{name}]  # hash {policy.hash}\n" in text


def test_the_json_has_everything_in_the_files_units(read: Any) -> None:
    shape = json.loads(json.dumps(as_json(read(ODD, {"TURNKEEPER_PORT": "1"}))))
    assert shape["limits"] == {"starts": {"count": 3, "period": "1s500ms"}, "min_available_memory": "1001B"}
    assert shape["policies"]["default"]["attempt"]["timeout"] == "off"
    assert shape["policies"]["default"]["attempt"]["max_rss"] == "1536MiB"
    assert shape["policies"]["two words"]["kinds"]["timeout"] == {"retried": True, "counts": True, "tokens": 2.0}
    assert "busy" not in shape["policies"]["default"]["kinds"]
    assert shape["state"] == {
        "url": "sqlite:///a b/é.db",
        "lease": "30s",
        "quarantine_alarm": "1h",
        "keep": {"age": "off", "runs": 100_000},
    }
    assert shape["alerts"] == [{"on": ["give_up", "lost"], "command": ["notify", '--to=a "b"', ""], "timeout": "1m"}]
    assert shape["failures"][0] == {"match": {"exit_code": 0, "output": 'a"\\\\b é 😀'}, "kind": "auth"}
    assert shape["warnings"] == ["not settings, and ignored: TURNKEEPER_PORT"]


def test_the_built_in_defaults_are_told_like_any_other() -> None:
    shape = as_json(embedded_settings())
    assert shape["source"] == "built-in defaults"
    assert shape["limits"] == {}
    assert "url" not in shape["state"]
    assert shape["alerts"] == []
    assert list(shape["policies"]) == ["default"]
