"""What jobs of `turnkeeper serve` write of themselves, and who judges it, with the ledger beside it."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

WRITES = 'echo "{what} {job} $TURNKEEPER_RUN_ID $TURNKEEPER_ATTEMPT" >> {log}'
"""One write with O_APPEND: lines of many processes do not mix."""


class Line(NamedTuple):
    """One line: an attempt of a job's tick began, or ended by itself."""

    what: str
    job: str
    run_id: str
    number: int


def script(log: Path, job: str, then: str) -> str:
    """Return a line of shell that writes, does its work, and writes again if that ends by itself and well."""
    start, end = (WRITES.format(what=what, job=job, log=log) for what in ("start", "end"))
    return f"{start}; {then} && {end}"


def job(name: str, every_s: float, command: str, *keys: str) -> str:
    argv = json.dumps(["sh", "-c", command])
    return "\n".join(["[[jobs]]", f'name = "{name}"', f'every = "{every_s:g}s"', f"command = {argv}", *keys, ""])


def lines_of(log: Path) -> list[Line]:
    """Return what was written, in the order of its writing."""
    found = []
    for line in log.read_text().splitlines():
        what, name, run_id, number = line.split()
        found.append(Line(what, name, run_id, int(number)))
    return found


def ask(state: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True, timeout=10.0)) as database:
        return database.execute(question).fetchall()


def check_bodies(lines: list[Line], attempts: dict[str, int]) -> None:
    """No attempt ran twice, none beyond its job's budget, and no two of a job at once.

    `attempts`: how many of a run there may be. A body that was killed writes no end: the next start ends it. So two at
    once are seen where one ends after another one of its job has started.
    """
    starts = Counter((line.run_id, line.number) for line in lines if line.what == "start")
    assert [start for start, times in starts.items() if times > 1] == []
    of_runs = Counter(line.run_id for line in lines if line.what == "start")
    names = {line.run_id: line.job for line in lines}
    assert [run_id for run_id, number in of_runs.items() if number > attempts[names[run_id]]] == []
    newest: dict[str, tuple[str, int]] = {}
    for line in lines:
        who = (line.run_id, line.number)
        if line.what == "start":
            newest[line.job] = who
        else:
            assert newest[line.job] == who, f"{line}: {newest[line.job]} had started"


def check_ledger(state: Path, periods: dict[str, float], lines: list[Line], until_when: float) -> Counter[str]:
    """Every due tick of every job is there once, and ran only if it says so; those up to a moment have ended.

    Returns how many ended how.
    """
    assert ask(state, "PRAGMA integrity_check") == [("ok",)]
    ran = {line.run_id for line in lines}
    outcomes: Counter[str] = Counter()
    for name, period_s in periods.items():
        rows = ask(
            state,
            f"SELECT tick_wall, first_wall, outcome, run_id FROM ticks WHERE job = '{name}' ORDER BY tick_wall",
        )
        due = round(rows[0][0] / period_s)
        for tick, first, outcome, run_id in rows:
            if first is not None:  # many that expired, as one
                assert round(first / period_s) == due
                due = round(tick / period_s)
            assert round(tick / period_s) == due, f"{name}: {tick} is not the next one"
            due += 1
            assert outcome in {"started", "skipped", "expired"} or tick > until_when, f"{name}: {tick} is {outcome}"
            assert (outcome == "started") >= (run_id in ran), f"{name}: {run_id} ran, and the ledger says {outcome}"
            outcomes[outcome or "open"] += 1
    ids = [run_id for (run_id,) in ask(state, "SELECT run_id FROM ticks WHERE run_id IS NOT NULL")]
    assert len(ids) == len(set(ids))
    assert ran <= set(ids)
    return outcomes
