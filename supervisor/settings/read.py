"""Settings as one value: the file, the environment over it, the call over both; every problem told at once."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from policies.policy import Policy
from supervisor.errors import SettingsError
from supervisor.settings import problems as told
from supervisor.settings.between import problems_between
from supervisor.settings.environment import read_environment
from supervisor.settings.file import find, read_tables
from supervisor.settings.inherit import inherit
from supervisor.settings.jobs import jobs_of, proved
from supervisor.settings.policy_tables import PolicyTable
from supervisor.settings.problems import Problem
from supervisor.settings.tables import SettingsTable
from supervisor.settings.values import EMBEDDED, Settings

_MOST_LINES = 200


def read_settings(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of a file, of the environment over it, and of the call over both.

    The file is `path`, else $TURNKEEPER_SETTINGS, else ./settings.toml, else settings.toml in the user's
    configuration folder, else none: the built-in defaults. `environ` is os.environ unless given; `overrides` are
    tables like the file's: `{"policies": {"cron": {"budget": {"attempts": 2}}}}`.

    Raises SettingsError with all problems; for a file that cannot be read or is not TOML, that is the only one.
    """
    environ = os.environ if environ is None else environ
    found = find(path, environ)
    source = EMBEDDED if found.path is None else found.path
    from_file = {} if found.path is None else read_tables(found.path)
    from_call = _plain(overrides or {})
    environment = read_environment(environ, [*_names(from_file), *_names(from_call)])
    tables = _over_each_other(from_call, environment.tables, from_file)
    settings, problems = _prove(tables)
    problems = environment.problems + problems
    if problems or settings is None:
        origins = [*((leaf, "the call") for leaf in _leaves(from_call)), *environment.origins]
        lines = told.lines(problems[:_MOST_LINES], origins)
        more = (f"... and {len(problems) - _MOST_LINES} more",) if len(problems) > _MOST_LINES else ()
        raise SettingsError(told.printable(source), lines + more)
    warnings = (*found.warnings, *environment.warnings)
    return replace(settings, source=source, warnings=warnings)


def _over_each_other(*sources: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of all sources as one, key by key; of a value that several have, the first one's holds."""

    class Sources(BaseSettings, extra="allow"):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, init_kwargs=tables) for tables in sources)

    return Sources().model_extra or {}


def _prove(tables: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, None where something is wrong, and everything that is."""
    policies = tables.get("policies", {})
    rest = {k: v for k, v in tables.items() if k != "jobs" and (k != "policies" or not isinstance(v, dict))}
    table, problems = proved(SettingsTable, rest, ())
    if not isinstance(policies, dict):
        return None, problems
    standing, parents, wrong_parents = inherit(policies)
    problems += wrong_parents
    rules: dict[str, PolicyTable] = {}
    told_of: dict[str, set[tuple[told.Path, str]]] = {}
    for name, raw in standing.items():
        policy, own = proved(PolicyTable, raw, ("policies", name))
        own += _wrong_name(name) + problems_between(("policies", name), raw, tables.get("state", {}))
        # What a policy inherits is told where it was written, and only there.
        told_of[name] = {(each.path[2:], each.words) for each in own}
        inherited = told_of.get(parents.get(name, ""), set())
        problems += [each for each in own if (each.path[2:], each.words) not in inherited]
        if policy is not None:
            rules[name] = policy
    failures = () if table is None else tuple(failure.rule() for failure in table.failures)
    serve = None if table is None else table.serve
    jobs, wrong_jobs = jobs_of(tables.get("jobs", []), standing, failures, tables.get("state", {}), serve)
    problems += wrong_jobs
    if problems or table is None:
        return None, problems
    named: dict[str, Policy] = {name: rules[name].rule(name, failures) for name in ("default", *policies)}
    settings = Settings(
        state=table.state.value(),
        limits=table.limits.value(),
        policies=MappingProxyType(named),
        alerts=tuple(alert.value() for alert in table.alerts),
        serve=table.serve.value(),
        jobs=jobs,
    )
    return settings, []


def _wrong_name(name: str) -> list[Problem]:
    if name and name.isprintable() and len(name) <= 128:
        return []
    return [Problem(("policies", name), "needs a name of 1 to 128 printable characters")]


def _names(tables: Mapping[str, Any]) -> list[str]:
    policies = tables.get("policies")
    return list(policies) if isinstance(policies, dict) else []


def _plain(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a caller's mappings as dicts with text for keys, as a file would have them."""
    return {str(key): _plain(each) if isinstance(each, Mapping) else each for key, each in value.items()}


def _leaves(tables: dict[str, Any], at: told.Path = ()) -> Iterator[told.Path]:
    for key, value in tables.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key)
