"""Turnkeeper: a supervisor and retry-policy engine for agent turns.

    async with Supervisor.from_settings("settings.toml") as supervisor:
        report = await supervisor.run("agent:main:reports", turn, policy="cron")

When an attempt ends, however it ends, its session is free again; only then is it decided whether to try again, and
never more often than the budget allows.

Each name is loaded when it is first asked for: the command starts without most of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from policies.failure import Gone, Kind, Outcome, Refusal, Unknown
    from policies.policy import Policy
    from supervisor.attempt import Attempt, current_attempt
    from supervisor.errors import (
        CommandFailed,
        Failure,
        RunFailed,
        RunRefused,
        SessionLocked,
        SettingsError,
        StoreUnavailable,
        SupervisorError,
    )
    from supervisor.report import AttemptReport, RunReport, Status
    from supervisor.supervisor import Supervisor
    from supervisor.work.command import Command, CommandResult
    from supervisor.work.contract import Alive, Stopped, Work

__all__ = [
    "Alive",
    "Attempt",
    "AttemptReport",
    "Command",
    "CommandFailed",
    "CommandResult",
    "Failure",
    "Gone",
    "Kind",
    "Outcome",
    "Policy",
    "Refusal",
    "RunFailed",
    "RunRefused",
    "RunReport",
    "SessionLocked",
    "SettingsError",
    "Status",
    "Stopped",
    "StoreUnavailable",
    "Supervisor",
    "SupervisorError",
    "Unknown",
    "Work",
    "current_attempt",
]

_WHERE: Final = {
    "policies.failure": ("Gone", "Kind", "Outcome", "Refusal", "Unknown"),
    "policies.policy": ("Policy",),
    "supervisor.attempt": ("Attempt", "current_attempt"),
    "supervisor.errors": (
        "CommandFailed",
        "Failure",
        "RunFailed",
        "RunRefused",
        "SessionLocked",
        "SettingsError",
        "StoreUnavailable",
        "SupervisorError",
    ),
    "supervisor.report": ("AttemptReport", "RunReport", "Status"),
    "supervisor.supervisor": ("Supervisor",),
    "supervisor.work.command": ("Command", "CommandResult"),
    "supervisor.work.contract": ("Alive", "Stopped", "Work"),
}
_MODULE_OF: Final = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
