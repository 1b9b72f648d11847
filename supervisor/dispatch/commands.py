"""What a job does: its command, as work."""

import os

from supervisor.dispatch.systemd import without_notify
from supervisor.settings.values import Job
from supervisor.work.command import Command


def command_of(
    job: Job, *, stdin: "bytes | int | None" = b"", stdout: int | None = None, stderr: int | None = None
) -> Command:
    """Return the command of one run of a job; it reads nothing, and what it prints is kept for its report."""
    environ = {**without_notify(os.environ), **job.env}
    return Command(job.command, env=environ, cwd=job.cwd, stdin=stdin, stdout=stdout, stderr=stderr)
