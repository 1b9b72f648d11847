"""Jobs: each over its policy, its schedule read, and what is wrong with them, all at once."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar
from unicodedata import category

from pydantic import ValidationError

from policies.classification import Rule
from policies.policy import Policy
from policies.schedule import stagger_s
from supervisor.settings.between import problems_between
from supervisor.settings.did_you_mean import did_you_mean
from supervisor.settings.inherit import merged
from supervisor.settings.job_schedule import schedule_of, text_of
from supervisor.settings.job_tables import JobTable, ServeTable, overrides
from supervisor.settings.policy_tables import PolicyTable
from supervisor.settings.problems import Path, Problem, problems_of, shown
from supervisor.settings.table import Table
from supervisor.settings.values import Job

T = TypeVar("T", bound=Table)

_WHEN: Final = ("cron", "every", "at")


def jobs_of(
    raw: Any, policies: Mapping[str, Any], failures: tuple[Rule, ...], state: Any, serve: ServeTable | None
) -> tuple[tuple[Job, ...], list[Problem]]:
    """Return the jobs, and what is wrong with them. `policies` are the raw tables, as they stand."""
    if not isinstance(raw, list | tuple):
        return (), [Problem(("jobs",), f"needs a list of tables, got {shown(raw)}")]
    jobs: list[Job] = []
    problems: list[Problem] = []
    names: dict[str, int] = {}
    rules = _Rules(policies, failures, state)
    for number, each in enumerate(raw):
        at: Path = ("jobs", number)
        table, wrong = proved(JobTable, each, at)
        right = each
        if table is None and isinstance(each, dict):
            table, right = _right_part(each, wrong, at)
        if table is not None:
            if "name" in right:
                wrong += _wrong_name(table.name, names.setdefault(table.name, number), at)
            job = _job(table, right, at, rules, serve or ServeTable(), wrong)
            if job is not None and not wrong:
                jobs.append(job)
        problems += wrong
    return tuple(jobs), problems


def proved(table: type[T], raw: Any, at: Path) -> tuple[T | None, list[Problem]]:
    """Return a raw table proved, None where something is wrong with it, and what that is."""
    try:
        return table.model_validate(raw), []
    except ValidationError as error:
        return None, problems_of(error, table, at)


def _right_part(raw: dict[str, Any], wrong: list[Problem], at: Path) -> tuple[JobTable | None, dict[str, Any]]:
    """Return a raw table without its wrong keys, also as one that is proved: all that is wrong is told at once.

    What that one must have beside them is made up: no job comes of it.
    """
    bad = {problem.path[len(at)] for problem in wrong if len(problem.path) > len(at)}
    right = {key: value for key, value in raw.items() if key not in bad}
    is_known = not bad.difference(JobTable.model_fields)
    made_up: dict[str, Any] = {"name": "-", "command": ["-"]}
    if bad.intersection(_WHEN) or not (is_known or set(right).intersection(_WHEN)):
        right = {key: value for key, value in right.items() if key not in (*_WHEN, "anchor")}
        made_up["every"] = "1m"
    table, _ = proved(JobTable, made_up | right, at)
    return table, right


def _wrong_name(name: str, first: int, at: Path) -> list[Problem]:
    """Return what is wrong with a job's name; the job with the number `first` was the first one of it."""
    wrong = []
    if not name.isprintable() or len(name) > 128:
        wrong.append(Problem((*at, "name"), f"needs a name of 1 to 128 printable characters, got {shown(name)}"))
    if first != at[-1]:
        wrong.append(Problem((*at, "name"), f"needs a name of its own, got {shown(name)}, as jobs #{first + 1}"))
    return wrong


class _Rules:
    """The rules of jobs. Those that say the same over the same policy share one: it is proved, and hashed, once."""

    def __init__(self, policies: Mapping[str, Any], failures: tuple[Rule, ...], state: Any) -> None:
        self._policies, self._failures, self._state = policies, failures, state
        self._known: dict[str, Policy] = {}

    def of(self, name: str, own: dict[str, Any], at: Path, wrong: list[Problem]) -> Policy | None:
        """Return a policy with what a job says in its place; what is wrong is added to `wrong`."""
        if name not in self._policies:
            hint = did_you_mean(name, self._policies)
            wrong.append(Problem((*at, "policy"), f"needs the name of a policy, got {shown(name)}{hint}"))
            return None
        known = repr((name, own))
        if known not in self._known:
            below = self._policies[name]
            raw = merged(below, own) if isinstance(below, dict) else below
            of_policy = {(each.path, each.words) for each in problems_between(at, below, self._state)}
            more = [p for p in problems_between(at, raw, self._state) if (p.path, p.words) not in of_policy]
            rules, _ = proved(PolicyTable, raw, at)  # what is wrong with it is told of the policy: a job's is proved
            wrong += more
            if rules is None or more:
                return None
            self._known[known] = rules.rule(name, self._failures)
        return self._known[known]


def _job(table: JobTable, raw: Any, at: Path, rules: _Rules, serve: ServeTable, wrong: list[Problem]) -> Job | None:
    """Return the job; what is wrong with it is added to `wrong`."""
    schedule = schedule_of(table, at, wrong)
    policy = rules.of(table.policy, overrides(raw), at, wrong)
    session = f"job:{table.name}" if table.session is None else table.session
    wrong += _wrong_session(session, at)
    if schedule is None or policy is None:
        return None
    return Job(
        name=table.name,
        schedule=schedule,
        schedule_text=text_of(schedule),
        session=session,
        policy=policy,
        command=table.command,
        stagger_s=table.stagger,
        offset_s=stagger_s(table.name, table.stagger) if table.stagger else 0.0,
        lock=table.lock,
        env=table.env,
        cwd=table.cwd,
        catch_up=table.catch_up,
        overdue=table.overdue if isinstance(raw, dict) and "overdue" in raw else serve.overdue,
    )


def _wrong_session(session: str, at: Path) -> list[Problem]:
    if len(session) <= 512 and not any(category(each) in ("Cc", "Cs") for each in session):
        return []
    return [Problem((*at, "session"), f"needs 1 to 512 characters, none a control character, got {shown(session)}")]
