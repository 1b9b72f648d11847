"""What is wrong, one line each: table and key, what is needed, what was found instead."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import ValidationError

from policies.failure import FIXED_KINDS
from supervisor.settings.did_you_mean import did_you_mean
from supervisor.settings.policy_tables import KindsTable
from supervisor.settings.proofs import NEEDS
from supervisor.settings.table import Table

Path = tuple[str | int, ...]
"""Keys from the root of the settings; a number counts the tables of a list, from 0."""

_MOST: Final = 100
"""Problems told of one table: a file that is something else altogether has one with every line."""

_NEEDED: Final = {
    "model_type": "needs a table",
    "dict_type": "needs a table",
    "list_type": "needs a list of tables",
    "invalid_key": "needs keys that are text",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` says where; `words` the rest of the sentence; `about` the values to blame, where they are elsewhere."""

    path: Path
    words: str
    about: tuple[Path, ...] = ()


def problems_of(error: ValidationError, table: type[Table], at: Path = ()) -> list[Problem]:
    """Return the problems that pydantic found in a table that stands at the path `at`."""
    errors = error.errors(include_url=False)
    problems = [_problem(each["type"], each, table, at) for each in errors[:_MOST]]
    if len(errors) > _MOST:
        problems.append(Problem(at, f"has {len(errors) - _MOST} more problems"))
    return problems


def _problem(kind: str, error: Any, root: type[Table], at: Path) -> Problem:
    loc: Path = error["loc"]
    path = at + loc
    if kind == NEEDS:
        return Problem(path, f"{error['ctx']['words']}, got {shown(error['input'])}{error['ctx']['tail']}")
    if kind == "extra_forbidden":
        return Problem(path, _unknown(str(loc[-1]), _table_at(root, loc[:-1])))
    if kind == "missing":
        return Problem(path[:-1], f"needs {loc[-1]}")
    return Problem(path, f"{_NEEDED.get(kind) or error['msg']}, got {shown(error['input'])}")


def _unknown(key: str, table: type[Table]) -> str:
    if table is KindsTable and key in FIXED_KINDS:
        return "cannot be changed: what follows it is not a matter of policy"
    inside = [
        f"{field}.{key}"
        for field, info in table.model_fields.items()
        if (below := _table_of(info.annotation)) not in (None, KindsTable) and key in below.model_fields
    ]
    hint = f"; did you mean {' or '.join(inside)}?" if inside else did_you_mean(key, table.model_fields, most=20)
    return f"is not known{hint}"


def _table_at(root: type[Table], loc: Path) -> type[Table]:
    for step in loc:
        if isinstance(step, str):
            root = _table_of(root.model_fields[step].annotation) or root
    return root


def _table_of(annotation: Any) -> type[Table] | None:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((table for inner in get_args(annotation) if (table := _table_of(inner)) is not None), None)


def shown(value: Any) -> str:
    """Return a value as the file would have it, on one line of at most 80 characters, printable on any terminal."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    return printable(re.sub(r'://[^/\s"<>]*@', "://...@", text), 80)  # an address may carry a password, with an @ in it


def printable(text: str, most: int = 200) -> str:
    """Return text on one line, shortened in its middle to so many characters, nothing in it that moves a cursor."""
    if len(text) > most:
        text = f"{text[: most - 20]}...{text[-17:]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def path_text(path: Path) -> str:
    """Return a path as a person says it: `policies.cron.backoff`, `failures #2 match.output`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f" #{step + 1} "
        else:
            key = step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step, ensure_ascii=False)
            text += f"{'' if not text or text.endswith(' ') else '.'}{printable(key, 60)}"
    return text.strip() or "the settings"


def lines(problems: Iterable[Problem], origins: Iterable[tuple[Path, str]]) -> tuple[str, ...]:
    """Return one line for each problem. `origins` says which values do not come from the file, the last word first."""
    known = tuple(origins)
    return tuple(f"{path_text(each.path)} {each.words}{_origin(each, known)}" for each in problems)


def _origin(problem: Problem, origins: tuple[tuple[Path, str], ...]) -> str:
    for path, name in origins:
        for about in problem.about or (problem.path,):
            if about == path[: len(about)] or path == about[: len(path)]:
                return f" (set by {name})"
    return ""
