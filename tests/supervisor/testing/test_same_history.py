"""A seed is one history: the same callbacks in the same order, in each run and on each Python."""

import asyncio
import hashlib
from functools import partial

from supervisor.clock import clock_of
from supervisor.testing import virtual_clock

HISTORY = "0ac4f3826160d490"


class Crowd:
    """Many tasks on few things, which write down what happens to them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.clock = clock_of(asyncio.get_running_loop())
        self.lock = asyncio.Lock()
        self.places = asyncio.Semaphore(2)
        self.bell = asyncio.Event()
        self.letters: asyncio.Queue[int] = asyncio.Queue(3)

    def note(self, *what: object) -> None:
        self.log.append(" ".join((f"{self.clock.now():.6f}", *map(str, what))))

    def came(self, place: int, future: "asyncio.Future[str]") -> None:
        self.note("future", place, future.result())

    async def worker(self, number: int) -> None:
        for turn in range(4):
            try:
                async with asyncio.timeout(0.5 + self.clock.draw()):
                    await asyncio.sleep(round(self.clock.draw(), 1))  # a coarse grid: moments coincide
                    async with self.places:
                        self.note(number, "has a place in turn", turn)
                        await asyncio.sleep(round(self.clock.draw() / 2, 1))
                    async with self.lock:
                        self.note(number, "has the lock", self.clock.token(2))
                        await asyncio.to_thread(self.note, number, "is in a thread")
                        await self.letters.put(number)
            except TimeoutError:
                self.note(number, "is late in turn", turn)

    async def reader(self) -> None:
        while True:
            self.note("read", await self.letters.get())
            await asyncio.sleep(0.1)

    async def waiter(self, number: int) -> None:
        try:
            await self.bell.wait()
            self.note("waiter", number, "heard the bell")
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            self.note("waiter", number, "is cancelled")
            await asyncio.sleep(0.1)
            raise
        finally:
            self.note("waiter", number, "goes")

    async def fails(self) -> None:
        await asyncio.sleep(3)
        self.bell.set()
        await asyncio.sleep(1)
        raise ValueError("as planned")


async def history() -> str:
    crowd = Crowd()
    reader = asyncio.create_task(crowd.reader())
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(crowd.waiter(number))
                group.create_task(crowd.worker(number))
            group.create_task(crowd.fails())
    except* ValueError:
        crowd.note("the group is gone")
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[str]] = [loop.create_future() for _ in range(20)]
    for place, future in enumerate(futures):
        future.add_done_callback(partial(crowd.came, place))
    for future in set(futures):
        loop.call_soon(future.set_result, "set")
    done, _ = await asyncio.wait({asyncio.create_task(asyncio.sleep(1), name=f"sleeper {n}") for n in range(20)})
    crowd.note(*(task.get_name() for task in done))
    reader.cancel()
    return "\n".join(crowd.log)


def test_two_runs_of_one_seed_are_alike() -> None:
    junk = [object() for _ in range(1000)]  # other addresses
    first = virtual_clock(1).run(history())
    junk.clear()
    assert virtual_clock(1).run(history()) == first


def test_two_seeds_are_not() -> None:
    assert virtual_clock(1).run(history()) != virtual_clock(2).run(history())


def test_a_seed_is_the_same_history_on_every_python() -> None:
    told = virtual_clock(1).run(history())
    assert "is late" in told
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == HISTORY, told[-2000:]
