"""The paths of jobs: relative ones are of the folder of their settings file, wherever a command was started."""

import os
from dataclasses import replace

from supervisor.settings.values import EMBEDDED, Job, Settings


def with_whole_paths(job: Job, settings: Settings) -> Job:
    """Return a job of the settings with its folder, and its lock from there, as absolute paths.

    One without a folder of its own starts where its supervisor runs; its lock is from the settings file's folder.
    """
    if job.cwd is None and job.lock is None:
        return job  # the folder that we were started in need not be there any more
    folder = _folder_of(settings)
    cwd = None if job.cwd is None else os.path.join(folder, job.cwd)
    lock = None if job.lock is None else os.path.join(cwd or folder, job.lock)
    return replace(job, cwd=cwd, lock=lock)


def _folder_of(settings: Settings) -> str:
    """Return the folder of their file; where no file has a part in them, the one that we were started in."""
    folder = "" if settings.source == EMBEDDED else os.path.dirname(settings.source)
    return folder if os.path.isabs(folder) else os.path.join(os.getcwd(), folder)
