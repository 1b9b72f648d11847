"""Is the state well? For a container's health check: what speaks against it, in words."""

from collections.abc import Iterator
from pathlib import Path

from supervisor.cli.looking import is_served, life_of, look
from supervisor.clock import SystemClock
from supervisor.errors import StoreUnavailable
from supervisor.log import seconds
from supervisor.settings.values import Settings
from supervisor.store.sqlite.overview import Session
from supervisor.store.sqlite.reading import must_answer


def reasons_against(path: Path, settings: Settings) -> Iterator[str]:
    """Yield why the state is not healthy, if it is not. One that nobody has made yet is, where there are no jobs."""
    quarantine_alarm_s = settings.state.quarantine_alarm_s
    try:
        must_answer(path)
        seen = look(path)
        served = not settings.jobs or is_served(path)
    except StoreUnavailable as error:
        yield str(error)
        return
    if not served:
        yield nobody_serves(settings)
    for session in () if seen is None else seen.sessions:
        yield from _without_a_process(session)
        if quarantine_alarm_s is not None:
            yield from _quarantined(session, quarantine_alarm_s)


def nobody_serves(settings: Settings) -> str:
    """Return, in words, that the jobs of these settings are due in vain."""
    jobs = "the job" if len(settings.jobs) == 1 else f"any of the {len(settings.jobs)} jobs"
    return f"no `turnkeeper serve` on this state runs {jobs} of {settings.source}"


def _without_a_process(session: Session) -> Iterator[str]:
    for run in session.runs:
        if run.holder is not None and life_of(run) == "dead":
            yield (
                f"run {run.run_id} of session {session.session!r} is under way, and process {run.holder.pid}, "
                "which carried it out, is dead: the next run on this state ends it"
            )


def _quarantined(session: Session, alarm_s: float) -> Iterator[str]:
    wall = SystemClock().wall()
    for one in session.quarantines:
        if (age_s := wall - one.since_wall) > alarm_s:
            yield (
                f"session {session.session!r} has been quarantined for {seconds(age_s)} by run {one.run_id}; "
                f"may still live: {', '.join(one.alive)}"
            )
