"""Rules between keys of a policy, asked of the raw text, so that they are told together with all other problems."""

from typing import Any, Final

from supervisor.settings.policy_tables import AttemptTable, BackoffTable, BreakerTable, BudgetTable
from supervisor.settings.problems import Path, Problem, shown
from supervisor.settings.table import Table
from supervisor.settings.tables import StateTable
from supervisor.settings.units import parse_duration

_TABLES: Final[dict[str, type[Table]]] = {
    "attempt": AttemptTable,
    "budget": BudgetTable,
    "backoff": BackoffTable,
    "breaker": BreakerTable,
}

_AT_MOST: Final = (("backoff", "base", "cap"), ("breaker", "cooldown", "cooldown_cap"))


def problems_between(at: Path, policy: Any, state: Any) -> list[Problem]:
    """Return which rules between its keys a policy breaks, as it stands. A value that cannot be read breaks none."""
    problems = []
    for table, small, large in _AT_MOST:
        low, high = _text(policy, table, small), _text(policy, table, large)
        if _more(low, high):
            words = f"needs {small} <= {large}, got {small}={shown(low)}, {large}={shown(high)}"
            keys: tuple[Path, ...] = ((*at, table, small), (*at, table, large))
            problems.append(Problem((*at, table), words, keys))
    grace = _text(policy, "attempt", "grace")
    lease = state.get("lease", StateTable.model_fields["lease"].default) if isinstance(state, dict) else None
    if _more(grace, lease, 0.5):
        keys = ((*at, "attempt", "grace"), ("state", "lease"))
        words = f"needs at most half of state.lease, got grace={shown(grace)}, lease={shown(lease)}"
        problems.append(Problem((*at, "attempt", "grace"), words, keys))
    if _text(policy, "attempt", "timeout") == _text(policy, "budget", "deadline") == "off":
        keys = ((*at, "attempt", "timeout"), (*at, "budget", "deadline"))
        words = 'needs attempt.timeout or budget.deadline, got timeout="off", deadline="off": its runs would never end'
        problems.append(Problem(at, words, keys))
    return problems


def _text(policy: Any, table: str, key: str) -> Any:
    """Return what stands at a key, or its built-in text; None where its table is not one."""
    keys = policy.get(table, {}) if isinstance(policy, dict) else None
    return keys.get(key, _TABLES[table].model_fields[key].default) if isinstance(keys, dict) else None


def _more(left: Any, right: Any, part: float = 1.0) -> bool:
    if not isinstance(left, str) or not isinstance(right, str):
        return False
    try:
        most = parse_duration(right) * part
        return parse_duration(left) > most > 0  # a zero where there may be none is told where it stands
    except ValueError:
        return False
