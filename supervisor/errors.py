"""What is raised: at the end of a run, for a caller's mistake, and by work that knows why it failed."""

from pathlib import Path
from typing import Any

from policies.failure import ONLY_FOUND, Kind
from supervisor.report import RunReport, describe_attempt


class SupervisorError(Exception):
    """Base of every error of this package. Each can be copied and pickled: a process pool hands them over so."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), self.__dict__


def _remade(cls: type[SupervisorError], args: tuple[Any, ...]) -> SupervisorError:
    """Make an error again without its constructor, which takes the fields that its message was made from."""
    return cls.__new__(cls, *args)


class Failure(SupervisorError):
    """Raised by work that knows what its failure is.

    `kind` decides what follows; `retry_after` is in seconds, and no retry is made before it has passed. ValueError for
    a kind that only the engine can know: lost, unconfirmed, cancelled.
    """

    def __init__(self, kind: Kind | str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = Kind(kind)
        if self.kind in ONLY_FOUND:
            raise ValueError(f"a Failure cannot be {self.kind.value}: {ONLY_FOUND[self.kind]}")
        self.message = message
        self.retry_after = retry_after


class CommandFailed(Failure):
    """A command did not succeed: its exit code, or the number of the signal that it died by; None: neither is known.

    `kind` is final: the rules of the settings have been asked already, about its output.
    """

    def __init__(self, kind: Kind, message: str, exit_code: int | None = None, signal: int | None = None) -> None:
        super().__init__(kind, message)
        self.exit_code = exit_code
        self.signal = signal


class RunFailed(SupervisorError):
    """A run ended without success. `report` has every attempt; the message names each of them."""

    def __init__(self, report: RunReport) -> None:
        attempts = "; ".join(describe_attempt(attempt) for attempt in report.attempts)
        super().__init__(
            f"run {report.run_id} of session {report.session!r} {report.status}"
            + (f" ({report.reason})" if report.reason else "")
            + (f": {attempts}" if attempts else "")
        )
        self.report = report


class RunRefused(SupervisorError):
    """A run was not allowed to start. Nothing was spent; try later. `report.reason` says why."""

    def __init__(self, report: RunReport) -> None:
        detail = f": {report.detail}" if report.detail else ""
        super().__init__(f"run of session {report.session!r} refused ({report.reason}){detail}; try again later")
        self.report = report


class SessionLocked(SupervisorError):
    """A session's lock file stayed held for longer than the policy's `lock.wait`.

    `holder_alive` is None where it cannot be judged; such a holder is respected.
    """

    def __init__(
        self,
        lock_path: Path,
        holder: str,
        holder_pid: int | None,
        held_for_s: float | None,
        advice: str,
        *,
        holder_alive: bool | None,
    ) -> None:
        since = "" if held_for_s is None else f" for {held_for_s:.0f} s"
        alive = {True: "alive", False: "dead", None: "of which it cannot be said whether it lives"}[holder_alive]
        super().__init__(f"{lock_path} is held by {holder}{since}, {alive}; {advice}")
        self.lock_path = lock_path
        self.holder_pid = holder_pid
        self.held_for_s = held_for_s
        self.holder_alive = holder_alive


class SettingsError(SupervisorError, ValueError):
    """The settings are wrong. `problems` has one line for each thing, all of them at once."""

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{source}:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.source = source
        self.problems = problems


class StoreUnavailable(SupervisorError):
    """The store did not answer, or could not keep what it was given. The one in memory never raises it."""
