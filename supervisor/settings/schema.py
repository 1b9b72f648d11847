"""The JSON Schema of settings.toml, with which editors complete and check it."""

from typing import Any

from supervisor.settings.tables import SettingsTable

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema. Rules between keys, and that regular expressions compile, are beyond it: `check` has them."""
    schema = _trimmed(SettingsTable.model_json_schema(mode="validation"))
    return {"$schema": DIALECT, "title": "settings.toml of Turnkeeper", **schema}


def _trimmed(node: Any) -> Any:
    """Drop what says nothing: null, which TOML cannot write, and titles that repeat a key's name."""
    if isinstance(node, list):
        return [_trimmed(each) for each in node]
    if not isinstance(node, dict):
        return node
    trimmed: dict[str, Any] = {
        key: _named(value) if key in ("properties", "$defs") else _trimmed(value)
        for key, value in node.items()
        if key != "title" and not (key == "default" and value is None)
    }
    choices: list[dict[str, Any]] = [each for each in trimmed.pop("anyOf", []) if each != {"type": "null"}]
    if len(choices) == 1:
        return choices[0] | trimmed
    return trimmed | ({"anyOf": choices} if choices else {})


def _named(nodes: dict[str, Any]) -> dict[str, Any]:
    """Trim each value of a mapping whose keys are names, be they `title` or `default`."""
    return {name: _trimmed(node) for name, node in nodes.items()}
