"""To arrive and to begin as one transaction, for a first attempt that has nothing to make ready in between."""

from policies.budget import Bucket
from supervisor.store.contract import Refused, Waiting
from supervisor.store.sqlite import admission, ticks
from supervisor.store.sqlite.asking import Asking, Began, Connection, Moment
from supervisor.store.sqlite.endings import uncount


def arrive_and_begin(
    database: Connection, run: Asking, host: Bucket | None, moment: Moment
) -> tuple[Refused | Waiting | None, Began | None]:
    """Look, ask the gate, and begin at once where it lets the run in: `begin` answers so when it is asked."""
    answer = admission.arrive(database, run, moment)
    return answer, None if answer is not None else admission.begin(database, run, host, moment)


def leave_begun(database: Connection, run: Asking, fence: int, moment: Moment) -> None:
    """Take the permit back from a run whose attempt was begun, and which does not ask for it: there was no attempt."""
    row = database.execute(
        "SELECT run, generation, trial FROM attempts WHERE fence = ? AND outcome IS NULL", (fence,)
    ).fetchone()
    if row is None:
        return
    seq, generation, trial = row
    uncount(database, run, generation, trial, moment)
    database.execute("DELETE FROM attempts WHERE fence = ?", (fence,))
    database.execute("UPDATE runs SET state = 'permitted', number = ? WHERE seq = ?", (run.number, seq))
    if run.is_tick:
        ticks.note_not_started(database, run.run_id)
    admission.leave(database, run)
