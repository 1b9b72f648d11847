"""What a supervised command is told of the run it is in, and what a `turnkeeper run` within it makes of that.

The variables are believed only while the supervisor that they name is found, by pid and start time, among the
ancestors of whoever reads them, and the deadline is ahead. A gateway that was once started inside a run lives for
weeks with the environment of that day.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from policies.budget import Budget
from policies.policy import Policy
from policies.verdict import Reason
from supervisor.attempt import Attempt
from supervisor.clock import iso_utc
from supervisor.owner import is_ancestor, this_process
from supervisor.store.contract import Standing

PARENT: Final = "TURNKEEPER_PARENT"
DEADLINE: Final = "TURNKEEPER_DEADLINE"

_MOST_RUNS: Final = 1000
_ONE_ATTEMPT: Final = Policy(budget=Budget(attempts=1))


@dataclass(frozen=True, slots=True)
class Ignored:
    """The variables say something that is not so, or no more. `why` is for a person."""

    why: str


class OuterRun(Standing):
    """A run of another process, within whose attempt this process was started.

    Its budget is in that process's memory: a run within it has one attempt.
    """

    policy = _ONE_ATTEMPT

    def __init__(self, run_id: str, session: str, deadline: float | None, parent: Standing | None) -> None:
        self._run_id, self.session, self.deadline, self.parent = run_id, session, deadline, parent

    @property
    def run_id(self) -> str:
        return self._run_id

    def interrupt(self, reason: Reason) -> None:
        """It is not ours to end."""
        raise AssertionError(f"run {self._run_id} belongs to another process ({reason})")


def variables_of(attempt: Attempt) -> dict[str, str]:
    """Return the variables that a command of this attempt is started with."""
    me, remaining = this_process(), attempt.remaining()
    supervisor = {"pid": me.pid, "starttime": me.starttime, "bootId": me.boot_id}
    variables = {
        "TURNKEEPER_RUN_ID": attempt.run_id,
        "TURNKEEPER_SESSION": attempt.session,
        "TURNKEEPER_ATTEMPT": str(attempt.number),
        "TURNKEEPER_IDEMPOTENCY_KEY": attempt.idempotency_key,
        PARENT: json.dumps({"runs": _runs_to(attempt._run), "supervisor": supervisor}),
    }
    if remaining is not None:
        variables[DEADLINE] = iso_utc(attempt._effects.clock.wall() + remaining)
    return variables


def _runs_to(run: Standing) -> list[dict[str, str]]:
    runs: list[dict[str, str]] = []
    above: Standing | None = run
    while above is not None:
        runs.append({"run_id": above.run_id, "session": above.session})
        above = above.parent
    return runs[::-1]


def outer_run(environ: Mapping[str, str], now: float, wall: float) -> OuterRun | Ignored | None:
    """Return the run that this process was started in; None: there is none. `now` and `wall` are one moment, on the
    clock that the deadline is for and in seconds since 1970.
    """
    if not environ.get(PARENT):
        return None
    try:
        told = json.loads(environ[PARENT])
        runs = [(_text(run["run_id"]), _text(run["session"])) for run in told["runs"][:_MOST_RUNS]]
        pid, starttime, boot_id = (told["supervisor"][key] for key in ("pid", "starttime", "bootId"))
        deadline = _deadline(environ.get(DEADLINE), now, wall)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Ignored(f"{PARENT} or {DEADLINE} does not say what a supervisor says there")
    if not runs or boot_id != this_process().boot_id or not is_ancestor(pid, starttime):
        return Ignored(f"{PARENT} names a supervisor that this process does not run under (any more)")
    if deadline is not None and deadline <= now:
        return Ignored(f"the time of run {runs[-1][0]}, which {PARENT} names, is over")
    outer: OuterRun | None = None
    for run_id, session in runs:
        outer = OuterRun(run_id, session, deadline, outer)
    return outer


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _deadline(text: str | None, now: float, wall: float) -> float | None:
    return None if not text else now + datetime.fromisoformat(text).timestamp() - wall
