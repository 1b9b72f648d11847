"""The database of simulated processes: one step a transaction, and what may befall its process around the commit."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from supervisor import StoreUnavailable
from supervisor.testing import Blow, InlineDatabase, Process, SharedFile, Slowness, Strike, World, virtual_clock

Answers = list[Any]


def add(connection: sqlite3.Connection, text: str) -> int:
    return connection.execute("INSERT INTO said (text) VALUES (?)", (text,)).lastrowid or 0


def fail(connection: sqlite3.Connection, text: str) -> None:
    add(connection, text)
    raise ValueError(text)


def look(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT * FROM said").fetchall()


class Bench:
    """Two processes that share a database."""

    def __init__(self, world: World, *strikes: Strike, slowness: Slowness | None = None) -> None:
        self.commits: list[tuple[str, str]] = []
        self.answers: Answers = []
        self.file = SharedFile(lambda process, name, _: self.commits.append((process.name, name)))
        self.file.connection.execute("CREATE TABLE said (number INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)")
        self.one, self.two = world.process("one"), world.process("two")
        self.databases = {
            process: InlineDatabase(
                self.file,
                process,
                strikes=[strike for strike in strikes if strike.process == process.name],
                slowness=slowness,
            )
            for process in (self.one, self.two)
        }

    def ask(self, process: Process, transaction: Callable[..., Any], *args: Any) -> "asyncio.Task[None]":
        return process.start(self._ask(process, transaction, *args))

    async def _ask(self, process: Process, transaction: Callable[..., Any], *args: Any) -> None:
        try:
            self.answers.append(await self.databases[process].run(transaction, *args))
        except Exception as error:
            self.answers.append(type(error))

    @property
    def said(self) -> list[str]:
        return [text for (text,) in self.file.connection.execute("SELECT text FROM said ORDER BY number")]


def with_bench(
    main: Callable[[Bench], Coroutine[Any, Any, None]], *strikes: Strike, slowness: Slowness | None = None
) -> None:
    async def made(world: World) -> None:
        bench = Bench(world, *strikes, slowness=slowness)
        await main(bench)
        bench.file.connection.close()

    with virtual_clock() as clock:
        world = World(clock)
        world.run(made(world))


def test_transactions_of_all_processes_are_done_one_after_the_other() -> None:
    async def main(bench: Bench) -> None:
        for number in range(3):
            bench.ask(bench.one, add, f"one {number}")
            bench.ask(bench.two, add, f"two {number}")
        await asyncio.sleep(1.0)
        assert sorted(bench.answers) == [1, 2, 3, 4, 5, 6]
        assert [text for text in bench.said if text[:3] == "one"] == ["one 0", "one 1", "one 2"]
        assert bench.commits[0] == ("one", "add")

    with_bench(main)


def test_what_a_transaction_raises_comes_out_and_nothing_of_it_is_kept() -> None:
    async def main(bench: Bench) -> None:
        bench.ask(bench.one, fail, "no")
        await asyncio.sleep(1.0)
        assert bench.answers == [ValueError]
        assert bench.said == []
        assert bench.commits == []

    with_bench(main)


def test_a_process_sees_that_others_have_committed_once_and_not_that_it_has_itself() -> None:
    async def main(bench: Bench) -> None:
        database = bench.databases[bench.one]
        assert await database.changed()
        assert not await database.changed()
        for process, transaction, args, seen in (
            (bench.one, add, ("one",), False),
            (bench.two, look, (), False),
            (bench.two, add, ("two",), True),
        ):
            bench.ask(process, transaction, *args)
            await asyncio.sleep(1.0)
            assert await database.changed() is seen
            assert not await database.changed()

    with_bench(main)


def test_a_slow_database_keeps_the_order_of_a_process() -> None:
    async def main(bench: Bench) -> None:
        for number in range(10):
            bench.ask(bench.one, add, str(number))
        await asyncio.sleep(0.0)
        assert len(bench.said) < 10
        await asyncio.sleep(20.0)
        assert bench.said == [str(number) for number in range(10)]

    with_bench(main, slowness=Slowness(share=1.0, seconds=0.5))


def test_a_cancelled_caller_does_not_stop_its_transaction() -> None:
    async def main(bench: Bench) -> None:
        task = bench.ask(bench.one, add, "yes")
        await asyncio.sleep(0.0)
        task.cancel()
        await asyncio.sleep(1.0)
        assert bench.said == ["yes"]
        assert bench.answers == []
        bench.ask(bench.one, add, "and on")
        await asyncio.sleep(1.0)
        assert bench.said == ["yes", "and on"]

    with_bench(main)


@pytest.mark.parametrize("committed", [False, True])
def test_a_failure_before_or_after_the_commit_looks_the_same_to_its_caller(*, committed: bool) -> None:
    async def main(bench: Bench) -> None:
        for text in ("first", "second", "third"):
            bench.ask(bench.one, add, text)
            bench.ask(bench.two, add, text)
        await asyncio.sleep(1.0)
        assert bench.answers.count(StoreUnavailable) == 1
        assert bench.said.count("second") == (2 if committed else 1)
        assert bench.said.count("third") == 2

    with_bench(main, Strike("one", "add", 2, Blow.FAILS, committed))


@pytest.mark.parametrize("committed", [False, True])
def test_a_process_that_is_killed_around_its_commit_never_has_the_answer(*, committed: bool) -> None:
    async def main(bench: Bench) -> None:
        bench.ask(bench.one, add, "one")
        bench.ask(bench.one, add, "never")
        await asyncio.sleep(1.0)
        assert not bench.one.lives
        assert bench.answers == []
        assert bench.said == (["one"] if committed else [])

    with_bench(main, Strike("one", "add", 1, Blow.KILLED, committed))


@pytest.mark.parametrize("committed", [False, True])
def test_a_process_that_is_frozen_around_its_commit_has_its_answer_when_it_thaws(*, committed: bool) -> None:
    async def main(bench: Bench) -> None:
        bench.ask(bench.one, add, "one")
        await asyncio.sleep(1.0)
        bench.ask(bench.two, add, "two")
        await asyncio.sleep(1.0)
        assert bench.said == (["one", "two"] if committed else ["two"])
        assert bench.answers == [2 if committed else 1]
        await asyncio.sleep(1.5)
        assert bench.said == (["one", "two"] if committed else ["two", "one"])
        assert bench.answers == [2, 1] if committed else [1, 2]

    with_bench(main, Strike("one", "add", 1, Blow.FROZEN, committed, 3.0))
