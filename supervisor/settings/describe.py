"""Settings as they stand, inheritance and environment included: as JSON, and as text that is a settings file again."""

import json
import re
from typing import Any

from policies.failure import DEFAULT_EFFECTS, FIXED_KINDS, Effect, Kind
from policies.policy import Policy
from supervisor.settings.job_schedule import keys_of
from supervisor.settings.units import duration_text, size_text
from supervisor.settings.values import Job, Settings, State

_SIZES = frozenset({"max_rss_bytes", "min_available_memory_bytes"})


def as_json(settings: Settings) -> dict[str, Any]:
    """Return everything that is set, in the file's shape and units, with the hash of each policy and every kind."""
    policies = {}
    for name, policy in settings.policies.items():
        kinds = {kind.value: _keys(policy.effect(kind)) for kind in Kind if kind not in FIXED_KINDS}
        policies[name] = {"hash": policy.hash, **_parts(policy), "kinds": kinds, "on_lost": policy.on_lost.value}
    return {
        "source": settings.source,
        "warnings": list(settings.warnings),
        "state": _state(settings.state),
        "limits": _limits(settings),
        "policies": policies,
        "failures": _failures(settings),
        "alerts": _alerts(settings),
        "serve": _keys(settings.serve),
        "jobs": [{"policy_hash": job.policy.hash, **_job(settings, job)} for job in settings.jobs],
    }


def as_toml(settings: Settings) -> str:
    """Return the text of a settings file that reads the same, with each policy's hash behind its name.

    Of `kinds` it has those that are not as built in.
    """
    blocks = [_block("[state]", _state(settings.state))]
    if limits := _limits(settings):
        blocks.append(_block("[limits]", limits))
    default = settings.policies["default"]
    for name, policy in settings.policies.items():
        keys = {**_parts(policy), "on_lost": policy.on_lost.value}
        keys |= {f"kinds.{kind}": _keys(effect) for kind, effect in _changed_kinds(policy, default).items()}
        blocks.append(_block(f"[policies.{_key(name)}]  # hash {policy.hash}", keys))
    blocks += [_block("[[failures]]", failure) for failure in _failures(settings)]
    blocks += [_block("[[alerts]]", alert) for alert in _alerts(settings)]
    if settings.jobs:
        blocks.append(_block("[serve]", _keys(settings.serve)))
    blocks += [_block(f"[[jobs]]  # hash {job.policy.hash}", _job(settings, job)) for job in settings.jobs]
    return "\n\n".join(blocks) + "\n"


def _parts(policy: Policy) -> dict[str, Any]:
    return {part: _keys(getattr(policy, part)) for part in ("attempt", "budget", "backoff", "breaker", "gate", "lock")}


def _changed_kinds(policy: Policy, default: Policy) -> dict[Kind, Effect]:
    """Return the effects that the text must state: not built in, or not those of `default`, which it extends."""
    effects = {kind: policy.effect(kind) for kind in Kind}
    return {k: e for k, e in effects.items() if not e == DEFAULT_EFFECTS[k] == default.effect(k)}


def _state(state: State) -> dict[str, Any]:
    keys = _keys(state)
    if state.url is None:
        del keys["url"]
    keys["keep"] = {"age": keys.pop("keep_age"), "runs": keys.pop("keep_runs")}
    return keys


def _alerts(settings: Settings) -> list[dict[str, Any]]:
    return [_keys(alert) for alert in settings.alerts]


def _job(settings: Settings, job: Job) -> dict[str, Any]:
    """Return a job as the file has it; of its rules those that are not its policy's."""
    below = settings.policies[job.policy.name]
    own = {key: value for key, value in _parts(job.policy).items() if value != _parts(below)[key]}
    if job.policy.on_lost != below.on_lost:
        own["on_lost"] = job.policy.on_lost.value
    if kinds := {k.value: _keys(job.policy.effect(k)) for k in Kind if job.policy.effect(k) != below.effect(k)}:
        own["kinds"] = kinds
    keys = {"name": job.name, **keys_of(job.schedule), "stagger": duration_text(job.stagger_s)}
    keys |= {"session": job.session, "policy": job.policy.name, "command": list(job.command)}
    keys |= {key: value for key, value in (("lock", job.lock), ("cwd", job.cwd), ("env", dict(job.env))) if value}
    overdue = "off" if job.overdue is None else job.overdue
    return keys | {"catch_up": job.catch_up.value, "overdue": overdue} | own


def _limits(settings: Settings) -> dict[str, Any]:
    limits = settings.limits
    keys: dict[str, Any] = {name: value for name, value in _keys(limits).items() if value != "off"}
    if limits.starts is not None:
        count, period_s = limits.starts
        keys["starts"] = {"count": count, "period": duration_text(period_s)}
    return keys


def _failures(settings: Settings) -> list[dict[str, Any]]:
    failures = []
    for rule in settings.policies["default"].failures:
        match = {
            "exception": rule.exception,
            "exit_code": rule.exit_code,
            "output": rule.output and rule.output.pattern,
        }
        failures.append({"match": {k: v for k, v in match.items() if v is not None}, "kind": rule.kind.value})
    return failures


def _keys(rule: Any) -> dict[str, Any]:
    """Return a rule's fields as the file's keys: a suffix for the unit becomes the unit itself, None becomes off."""
    keys: dict[str, Any] = {}
    for field in rule.__dataclass_fields__:
        value = getattr(rule, field)
        key = field.removesuffix("_bytes") if field in _SIZES else field.removesuffix("_s")
        if value is None:
            keys[key] = "off"
        elif key != field:
            keys[key] = size_text(value) if field in _SIZES else duration_text(value)
        else:
            keys[key] = _keys(value) if hasattr(value, "__dataclass_fields__") else value
    return keys


def _block(header: str, keys: dict[str, Any]) -> str:
    width = max(map(len, keys))
    return "\n".join([header, *(f"{key:<{width}} = {_toml(value)}" for key, value in keys.items())])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    # JSON's text, numbers and booleans are TOML's, but for one character that TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
