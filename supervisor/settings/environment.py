"""Settings from the environment: TURNKEEPER_POLICIES__CRON__BUDGET__ATTEMPTS=2 is policies.cron.budget.attempts.

A value is JSON where it reads as JSON (2, true, {"count": 30, "period": "1m"}), else text. Names are taken in any
case below the prefix; a policy's name is matched whatever its case, and `_` stands for `-` too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.settings.did_you_mean import did_you_mean, nearest
from supervisor.settings.names import PREFIX, RESERVED
from supervisor.settings.problems import Path, Problem, path_text, printable, shown
from supervisor.settings.tables import SettingsTable


@dataclass(slots=True)
class Environment:
    """What the environment sets: tables like the file's, and which variable each value came from."""

    tables: dict[str, Any] = field(default_factory=dict)
    origins: list[tuple[Path, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_environment(environ: Mapping[str, str], policies: Iterable[str]) -> Environment:
    """Return what the variables set; `policies` are the names that file and call have."""
    found = Environment()
    known = list(dict.fromkeys(("default", *policies)))
    strangers = []
    # Fewer parts first: one key of a table is set over the whole table, whatever the order of the variables.
    for name in sorted(environ, key=lambda name: (name.count("__"), name)):
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        steps = name.removeprefix(PREFIX).lower().split("__")
        if "__" not in name and steps[0] not in SettingsTable.model_fields:
            strangers.append(name)
        else:
            _take(found, name, steps, environ[name], known)
    if strangers:
        names = ", ".join(f"{printable(name)}{_whole_table(name)}" for name in strangers)
        found.warnings.append(f"not settings, and ignored: {names}")
    return found


def _whole_table(name: str) -> str:
    near = nearest(name.removeprefix(PREFIX), SettingsTable.model_fields)
    return f" (did you mean {PREFIX}{near.upper()}?)" if near else ""


def _take(found: Environment, name: str, steps: list[str], text: str, known: list[str]) -> None:
    if "" in steps:
        found.problems.append(Problem((name,), "needs a name before and behind each __"))
        return
    try:
        value = _value(text, whole_table=len(steps) == 1)
    except ValueError as error:
        found.problems.append(Problem((name,), f"needs JSON, got {shown(text)}: {error}"))
        return
    if steps[0] == "policies" and len(steps) > 1:
        steps[1] = _policy(found, name, steps[1], known)
    table = found.tables
    for step in steps[:-1]:
        if not isinstance(table.get(step), dict):
            table[step] = {}
        table = table[step]
    table[steps[-1]] = value
    found.origins.append((tuple(steps), name))


def _value(text: str, *, whole_table: bool) -> Any:
    """Return the value of a variable; ValueError where it has to be JSON and is not."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        if whole_table or text.lstrip()[:1] in ("{", "[", '"'):
            raise
        return text
    return value


def _policy(found: Environment, name: str, step: str, known: list[str]) -> str:
    """Return the policy that a variable means: a known one, else a new one."""
    if step in known:
        return step
    for policy in known:
        if policy.lower().replace("-", "_") == step.replace("-", "_"):
            return policy
    hint = did_you_mean(step, known)
    found.warnings.append(f"{printable(name)} makes a policy of its own, {path_text(('policies', step))}{hint}")
    known.append(step)
    return step
