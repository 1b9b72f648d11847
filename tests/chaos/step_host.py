"""A supervisor's process that kills itself with SIGKILL, or stops itself, at a step of its runs, exactly there.

A step is a place of the engine, or a transaction of the store, before its commit or after it. Two runs share the
session and the host's one slot; the first attempt of each fails, the second succeeds: so they meet in each line. Of
two more, one would rather not wait, and one does not for long: both are refused.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import supervisor.run as engine
import supervisor.steps.retrying  # noqa: F401 - imported here once, and not in each child
from policies.gate import Overlap
from policies.policy import Policy
from policies.verdict import Retry
from supervisor import Attempt, Command, Supervisor
from supervisor.settings.values import Limits, Settings
from supervisor.steps import stop as stop_step
from supervisor.store.sqlite.database import FileDatabase
from supervisor.store.sqlite.store import SqliteStore
from supervisor.tree.files import Files
from supervisor.tree.system_tree import SystemTree
from tests.supervisor.rules import rules

TRANSACTIONS = {
    "register": 1,
    "arrive": 4,
    "take_turn": 3,
    "take_slot": 2,
    "begin": 2,
    "record_attempt": 4,
    "leave": 1,
    "end_run": 1,
    "unregister": 1,
}
"""Each with how often it comes at least: the round draws which of them it is."""

PLACES = (
    "before parking",
    "before the files have names",
    "when the files have names",
    "when parked",
    "before go",
    "at go",
    "when started",
    "when exited",
    "when gone",
    "at stop",
    "before release",
    "when released",
    "in backoff",
)
ATTEMPTS = 2
LEASE_S = 0.6


BETWEEN_TRANSACTIONS = threading.RLock()
"""Held while the store's thread is in one: to be stopped within a transaction is tested apart."""


def mark_transactions() -> None:
    commit = FileDatabase._commit

    def marked(self: FileDatabase, *args: Any) -> Any:
        with BETWEEN_TRANSACTIONS:
            return commit(self, *args)

    FileDatabase._commit = marked  # type: ignore[assignment, method-assign]


class Countdown:
    """Sends itself a signal the nth time, of which it dies, or after which it goes on some time."""

    number = signal.SIGKILL

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            with BETWEEN_TRANSACTIONS:
                os.kill(os.getpid(), self.number)


def policy(timeout_s: float, overlap: Overlap = Overlap.QUEUE, wait_s: float = 60.0) -> Policy:
    return rules(
        attempts=ATTEMPTS,
        capacity=1e6,
        backoff_s=0.03,
        timeout_s=timeout_s,
        grace_s=0.05,
        failures=10**6,
        overlap=overlap,
        wait_s=wait_s,
    )


def kill_in_transaction(name: str, moment: str, nth: int) -> None:
    """Before its commit: when all of it is written, still within it. After: before the engine hears of it."""
    run, reached = FileDatabase.run, Countdown(nth)

    async def watched(self: FileDatabase, transaction: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if transaction.__name__ != name:
            return await run(self, transaction, *args, **kwargs)

        def within(connection: Any, *args: Any, **kwargs: Any) -> Any:
            answer = transaction(connection, *args, **kwargs)
            if moment == "before":
                reached()
            return answer

        answer = await run(self, within, *args, **kwargs)
        if moment == "after":
            reached()
        return answer

    FileDatabase.run = watched  # type: ignore[method-assign]


def around(owner: Any, name: str, reached: Callable[[], None], moment: str) -> None:
    """Have a plain function, or one that answers with an awaitable, come to `reached` before or after it."""
    inner = getattr(owner, name)

    async def to_its_end(awaitable: Any) -> Any:
        answer = await awaitable
        reached()
        return answer

    def outer(*args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            reached()
            return inner(*args, **kwargs)
        answer = inner(*args, **kwargs)
        if asyncio.iscoroutine(answer):
            return to_its_end(answer)
        reached()
        return answer

    setattr(owner, name, outer)


def kill_at_word(word: str, reached: Callable[[], None]) -> None:
    hear = SystemTree._hear

    def heard(self: SystemTree, said: str, more: list[Any]) -> None:
        hear(self, said, more)
        if said == word:
            reached()

    SystemTree._hear = heard  # type: ignore[assignment, method-assign]


def kill_in_backoff(reached: Callable[[], None]) -> None:
    note = vars(engine)["note"]

    def noted(*args: Any) -> None:
        note(*args)
        if isinstance(args[4], Retry):
            asyncio.get_running_loop().call_later(0.01, reached)

    vars(engine)["note"] = noted


def kill_at(place: str, nth: int) -> None:
    reached = Countdown(nth)
    match place:
        case "before parking":
            around(engine, "park", reached, "before")
        case "before the files have names":
            around(Files, "link", reached, "before")
        case "when the files have names":
            around(Files, "link", reached, "after")
        case "when parked":
            around(engine, "park", reached, "after")
        case "before go":
            around(engine, "go", reached, "before")
        case "at go":
            around(SystemTree, "go", reached, "before")
        case "when started" | "when exited" | "when gone":
            kill_at_word(place.split()[1], reached)
        case "at stop":
            around(stop_step, "stop", reached, "after")
        case "before release":
            around(engine, "release", reached, "before")
        case "when released":
            around(engine, "release", reached, "after")
        case "in backoff":
            kill_in_backoff(reached)
        case _:
            raise AssertionError(place)


def main(folder: str, step: str, moment: str, nth: int, work: str, number: int = signal.SIGKILL) -> None:
    """Get a signal at a step; exit status 0 means that it went on, or never came there."""
    Countdown.number = signal.Signals(number)
    if number == signal.SIGSTOP:
        mark_transactions()
    if step in TRANSACTIONS:
        kill_in_transaction(step, moment, nth)
    else:
        kill_at(step, nth)
    asyncio.run(_runs(Path(folder), work))


async def _runs(folder: Path, work: str) -> None:
    settings = Settings(limits=Limits(running=1))
    async with Supervisor(settings, store=SqliteStore(folder / "state.db", LEASE_S)) as supervisor:
        timeout_s = 0.15 if work == "hangs" else 20.0
        waits, skips, gives_up = policy(timeout_s), policy(timeout_s, Overlap.SKIP), policy(timeout_s, wait_s=0.01)
        lock = folder / "reports.jsonl"
        await asyncio.gather(
            *(
                supervisor.run_report("s", _work_of(folder, work), policy=rule, lock=lock)
                for rule in (waits, waits, skips, gives_up)
            )
        )


def _work_of(folder: Path, work: str) -> Any:
    if work == "call":
        return lambda attempt: _call(folder, attempt)
    return Command(["sh", str(Path(__file__).with_name("step_work.sh")), str(folder / "log"), work])


async def _call(folder: Path, attempt: Attempt) -> None:
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, f"{attempt.run_id} {attempt.number}\n".encode())
    os.close(log)
    await asyncio.sleep(0.01)
    if attempt.number == 1:
        raise ValueError("the first one fails")
