"""Turnkeeper: a supervisor and retry-policy engine for agent turns.

    async with Supervisor.from_settings("settings.toml") as supervisor:
        report = await supervisor.run("agent:main:reports", turn, policy="cron")

When an attempt ends, however it ends, its session is free again; only then is it decided whether to try again, and
never more often than the budget allows.
"""

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
