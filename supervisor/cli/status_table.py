"""What `turnkeeper status` prints for a person: a line for each thing that keeps a session from being at rest."""

from policies.breaker import Closed
from supervisor.cli.looking import breaker_name, host_left, life_of, silent_s
from supervisor.cli.shared_state import say
from supervisor.log import seconds
from supervisor.report import way_out
from supervisor.settings.values import Settings
from supervisor.store.sqlite.history import under_way
from supervisor.store.sqlite.overview import Overview, Session, UnderWay


def print_status(seen: Overview | None, settings: Settings, wall: float) -> None:
    """Print it for a person."""
    if seen is not None and seen.all_paused_wall is not None:
        say(f"All sessions are paused, for {seconds(wall - seen.all_paused_wall)}: nothing new starts.")
    if settings.limits.retries is not None:
        say(f"Tokens of the host: {host_left(seen, settings):.1f} of {settings.limits.retries.capacity:g}.")
    if seen is None or not seen.sessions:
        say("Every session is at rest.")
        return
    from supervisor.cli.table import print_table

    silences = {
        run.run_id: silent_s(run, seen.now_at, settings.state.lease_s) for one in seen.sessions for run in one.runs
    }
    rows = [row for session in seen.sessions for row in _rows(session, wall, silences)]
    print_table(("session", "is", "since", "who", "more", "tokens"), rows)
    for session in seen.sessions:
        if session.quarantines:
            say(f"What quarantines session {session.session!r}: {way_out(session.session)}.")


def _rows(session: Session, wall: float, silences: dict[str, float | None]) -> list[tuple[str, ...]]:
    """Return a line for each thing that a session is."""

    def since(moment: float) -> str:
        return seconds(max(0.0, wall - moment))

    tokens = "" if session.tokens is None else f"{session.tokens[0]:.1f}/{session.tokens[1]:g}"
    rows = [
        (under_way(run.state), since(run.since_wall), _who(run, silences[run.run_id]), _more(run))
        for run in session.runs
    ]
    if not isinstance(session.breaker, Closed):
        rows.append((breaker_name(session).replace("_", " "), "", "", _breaker_words(session, wall)))
    rows += [
        ("quarantined", since(one.since_wall), one.run_id, f"may live: {', '.join(one.alive)}")
        for one in session.quarantines
    ]
    if session.paused_wall is not None:
        rows.append(("paused", since(session.paused_wall), "", "by an operator"))
    from supervisor.cli.table import cut

    return [(cut(session.session), *row, tokens) for row in rows]


def _breaker_words(session: Session, wall: float) -> str:
    assert not isinstance(session.breaker, Closed), "it is not at rest"
    trips = session.breaker.trips + 1
    times = "once" if trips == 1 else f"{trips} times in a row"
    left = 0.0 if session.until_wall is None else session.until_wall - wall
    what = f"a trial may be made in {seconds(left)}" if left > 0.0 else "its cooldown is over: a trial may be made"
    return f"opened {times}; {what}"


def _who(run: UnderWay, silence_s: float | None) -> str:
    if run.holder is None:
        return run.run_id
    life = life_of(run)
    if silence_s is not None:
        life = f"silent for {seconds(silence_s)}"
    process = f"process {run.holder.pid}" + ("" if life == "alive" else f" ({life})")
    return process if run.warden is None else f"{process}, warden {run.warden}"


def _more(run: UnderWay) -> str:
    attempt = f"attempt {run.number} of {run.attempts}" if run.number else f"{run.attempts} attempts"
    stop = "" if run.stop is None else f"; told to end ({run.stop})"
    return f"{run.run_id}, {run.policy}: {attempt}{stop}"
