"""Inheritance: each policy over the one that it extends, key by key, before anything is proved."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from supervisor.settings.did_you_mean import did_you_mean
from supervisor.settings.problems import Path, Problem, shown

Tables = dict[str, Any]

_HINTS = 100  # nobody reads more of them, and each costs a comparison with every name


def inherit(policies: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """Return the policies as they stand, the parent of each, and what is wrong with their parents.

    They come in an order in which each stands behind its parent, `default` first (an empty table, if it is missing).
    A policy whose parent is wrong extends `default`, so that all the rest of it can be proved. What is not a table
    is passed on as it is; `extends` means nothing any more.
    """
    parents, problems = _parents(policies)
    standing: dict[str, Any] = {"default": policies.get("default", {})}
    for name in policies:
        line = [name]
        while line[-1] not in standing:
            line.append(parents[line[-1]])
        for each in reversed(line[:-1]):
            own, parent = policies[each], standing[parents[each]]
            over = isinstance(own, dict) and isinstance(parent, dict)
            standing[each] = merged(parent, own) if over else own
    return standing, parents, problems


def merged(below: Tables, above: Tables) -> Tables:
    """Return both tables as one: of a key that both have, two tables are merged, else `above` holds."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def _parents(policies: Mapping[str, Any]) -> tuple[dict[str, str], list[Problem]]:
    parents: dict[str, str] = {}
    problems: list[Problem] = []
    for name, table in policies.items():
        extends = table.get("extends") if isinstance(table, dict) else None
        path: Path = ("policies", name, "extends")
        if name == "default":
            if extends is not None:
                problems.append(Problem(path, f"cannot be: default extends nothing, got {shown(extends)}"))
            continue
        parents[name] = "default"
        if not isinstance(extends, str):
            continue  # none is default; anything else than text is reported where the table is proved
        if extends == name:
            problems.append(Problem(path, f"needs another policy, got {shown(extends)}: a policy cannot extend itself"))
        elif extends != "default" and extends not in policies:
            known = dict.fromkeys(other for other in ("default", *islice(policies, 500)) if other != name)
            hint = did_you_mean(extends, known) if len(problems) < _HINTS else ""
            problems.append(Problem(path, f"needs the name of a policy, got {shown(extends)}{hint}"))
        else:
            parents[name] = extends
    return parents, problems + _circles(parents)


def _circles(parents: dict[str, str]) -> list[Problem]:
    """Find each circle once, and break it where it was found."""
    problems = []
    ends_well = {"default"}
    for name in list(parents):
        line: dict[str, None] = {}
        step = name
        while step not in ends_well and step not in line:
            line[step] = None
            step = parents[step]
        if step not in ends_well:
            names = list(line)
            circle = [*names[names.index(step) :], step]
            shape = shown(" -> ".join(circle))
            problems.append(Problem(("policies", step, "extends"), f"needs an end, got the circle {shape}"))
            parents[step] = "default"
        ends_well.update(line)
    return problems
