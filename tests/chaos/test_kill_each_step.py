"""kill -9 of a supervisor at each step of a run: nothing of it lives, the session runs again, no row is lost.

The steps of a run are taken apart here, three or so of each: 16 rounds are 50 for each step of a run. CHAOS_ROUNDS=1000
is a long run. What was seen is printed: pytest -s.
"""

import asyncio
import os
import random
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from supervisor import Attempt, Supervisor
from supervisor.lock.life_file import sweep
from supervisor.store.sqlite.store import SqliteStore
from tests.chaos.hosts import Hosts, hosts_of
from tests.chaos.step_host import ATTEMPTS, PLACES, TRANSACTIONS
from tests.supervisor.rules import rules
from tests.supervisor.tree.trees import marked, until

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "16"))
GENEROUS_S = 10.0
"""The figure is 1 s, on a quiet machine; a test asserts no time that a busy one may take."""

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(120 + 4 * ROUNDS)]

Step = tuple[str, str]
STEPS: list[Step] = [
    *((name, moment) for name in TRANSACTIONS for moment in ("before", "after")),
    *((place, "") for place in PLACES),
]


class Killed(NamedTuple):
    """The folder of the rounds of one step, and the next supervisor there."""

    folder: Path
    hosts: Hosts

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    def rows(self, question: str) -> list[tuple[object, ...]]:
        if not self.state.exists():
            return []
        with closing(sqlite3.connect(self.state)) as database:
            return database.execute(question).fetchall()

    def ended(self) -> dict[object, tuple[object, ...]]:
        return {row[0]: row for row in self.rows("SELECT * FROM attempts WHERE outcome IS NOT NULL")}

    def under_way(self) -> list[object]:
        return [fence for (fence,) in self.rows("SELECT fence FROM attempts WHERE outcome IS NULL")]

    def tree(self) -> list[str]:
        return [line for line in marked(self.hosts.mark) if int(line.split()[0]) != self.hosts.pid]

    def started(self) -> Counter[str]:
        log = self.folder / "log"
        return Counter(log.read_text().splitlines()) if log.exists() else Counter()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts_of("step_host", folder) as hosts:
        yield hosts
    assert (folder / "stderr").read_text() == ""


@pytest.fixture(scope="module")
def took_s() -> Iterator[list[float]]:
    """How long after a kill the session ran again."""
    took_s: list[float] = []
    yield took_s
    if len(took_s) < 2:
        return
    spread = statistics.quantiles(took_s, n=100)
    print(f"\nruns again after: median {spread[49]:.3f} s, p95 {spread[94]:.3f} s, most {max(took_s):.3f} s", end="")


@pytest.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A supervisor that was there before."""
    async with Supervisor(store=SqliteStore(tmp_path / "state.db")) as supervisor:
        yield supervisor


@pytest.mark.parametrize(("step", "moment"), STEPS, ids=[" ".join(step).strip() for step in STEPS])
async def test_a_supervisor_that_is_killed_there(
    step: str, moment: str, warm: Supervisor, hosts: Hosts, took_s: list[float], tmp_path: Path
) -> None:
    killed = Killed(tmp_path, hosts)
    dice = random.Random(f"{step} {moment}")
    for count in range(ROUNDS):
        before = killed.ended()
        await asyncio.to_thread(kill_one, killed, step, moment, dice)
        under_way, at = killed.under_way(), time.monotonic()
        if count % 2:
            ran_at = await run_next(warm, killed)
        else:
            async with Supervisor(store=SqliteStore(killed.state)) as new:
                ran_at = await run_next(new, killed)
        await warm.look_for_the_lost()  # what was in nobody's way, a run in its backoff, is found by the next look
        took_s.append(ran_at - at)
        assert took_s[-1] < GENEROUS_S
        check(killed, before, under_way)
    assert_nothing_missing(killed)


def kill_one(killed: Killed, step: str, moment: str, dice: random.Random) -> None:
    works = ["hangs"] if step == "at stop" else ["command"] if step in PLACES else ["command", "call"]
    nth = dice.randint(1, TRANSACTIONS.get(step, 2))
    order = {"folder": killed.folder, "step": step, "moment": moment, "nth": nth, "work": dice.choice(works)}
    status = killed.hosts.wait(killed.hosts.start(**order))
    assert status == -9, f"it never came there: {order}"


async def run_next(supervisor: Supervisor, killed: Killed, lock: str | None = "reports.jsonl") -> float:
    """Run once on the session, with its lock; return when it ran."""
    ran_at = 0.0

    async def work(attempt: Attempt) -> None:
        nonlocal ran_at
        ran_at = time.monotonic()

    policy = rules(attempts=1, wait_s=20.0, lock_wait_s=20.0)
    await supervisor.run("s", work, policy=policy, lock=lock and killed.folder / lock)
    return ran_at


def check(killed: Killed, before: dict[object, tuple[object, ...]], under_way: list[object]) -> None:
    until(lambda: not killed.tree(), f"no process of it lives: {killed.tree()}")
    assert not (killed.folder / "reports.jsonl.lock").exists()
    after = killed.ended()
    assert killed.under_way() == []
    assert {fence: after[fence] for fence in before} == before, "history was changed"
    lost = killed.rows("SELECT fence FROM attempts WHERE kind = 'lost'")
    assert len(lost) == len(set(lost))
    for fence in under_way:
        [[outcome, kind]] = killed.rows(f"SELECT outcome, kind FROM attempts WHERE fence = {fence}")
        assert (outcome, kind) in {("failed", "lost"), ("succeeded", None)}
    assert killed.rows("SELECT id FROM runs WHERE state <> 'ended' OR status IS NULL") == []
    assert (
        killed.rows("SELECT 1 FROM quarantines UNION ALL SELECT 1 FROM places UNION ALL SELECT 1 FROM host_places")
        == []
    )
    assert killed.rows("PRAGMA integrity_check") == [("ok",)]


def assert_nothing_missing(killed: Killed) -> None:
    """What ran has its row, once, and no run more attempts than its budget."""
    started = killed.started()
    rows = {
        f"{run} {number}"
        for run, number in killed.rows(
            "SELECT runs.id, attempts.number FROM attempts JOIN runs ON runs.seq = attempts.run"
        )
    }
    assert set(started) <= rows
    assert max(started.values(), default=1) == 1, "an attempt was started twice"
    per_run = killed.rows("SELECT count(*) FROM attempts GROUP BY run")
    assert max((count for (count,) in per_run), default=0) <= ATTEMPTS  # type: ignore[type-var, operator]
    assert killed.rows("SELECT run, number FROM attempts GROUP BY run, number HAVING count(*) > 1") == []
    sweep(killed.folder / "alive", lambda _: False, time.time(), 0.0)
    assert len(os.listdir(killed.folder / "alive")) == 1, "only the warm one lives"
