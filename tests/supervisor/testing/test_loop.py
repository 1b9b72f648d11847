import asyncio
import concurrent.futures
import gc
import math
import sys
import threading
import weakref
from collections import deque
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import aiofiles
import pytest

from supervisor.clock import clock_of
from supervisor.testing import VirtualClock, VirtualLoop, virtual_clock
from supervisor.testing.numbered import NumberedTask

process: ContextVar[str] = ContextVar("process", default="main")


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        fired: list[int] = []
        at = asyncio.get_running_loop().time() + 10
        for number in range(50):
            asyncio.get_running_loop().call_at(at, fired.append, number)
        await asyncio.sleep(11)
        return fired

    assert virtual_clock().run(main()) == list(range(50))


def test_asyncio_timeout_ends_at_its_moment() -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await asyncio.sleep(60)

    clock = virtual_clock(start=0.0)
    with pytest.raises(TimeoutError):
        clock.run(main())
    assert clock.now() == 30.0


def test_a_timeout_that_was_not_needed_leaves_time_alone() -> None:
    async def main() -> None:
        async with asyncio.timeout(3600):
            await asyncio.sleep(1)

    clock = virtual_clock(start=0.0)
    clock.run(main())
    assert clock.now() == 1.0


def test_cancelled_timers_are_dropped() -> None:
    async def main(loop: VirtualLoop) -> int:
        for _ in range(10_000):
            loop.call_later(3600, print).cancel()
            await asyncio.sleep(0)
        return len(loop._timers)

    with virtual_clock() as clock:
        loop = clock.new_loop()
        assert loop.run_until_complete(main(loop)) < 200


def test_a_timer_that_fired_is_not_counted_as_cancelled() -> None:
    async def main(loop: VirtualLoop) -> int:
        for _ in range(50):
            fired = loop.call_later(0, int)
            await asyncio.sleep(1)
            fired.cancel()
        return loop._timers_cancelled

    with virtual_clock() as clock:
        loop = clock.new_loop()
        assert loop.run_until_complete(main(loop)) == 0


def test_what_is_cancelled_in_the_round_of_its_turn_does_not_run() -> None:
    def cancel_all() -> None:
        for handle in handles:
            handle.cancel()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: ran.append(str(context)))
        loop.call_soon(cancel_all)
        handles.append(loop.call_soon(ran.append, "soon"))
        await asyncio.sleep(0.5)
        loop.call_at(loop.time() + 1, cancel_all)
        handles.append(loop.call_at(loop.time() + 1, ran.append, "late"))
        await asyncio.sleep(2)

    handles: list[asyncio.Handle] = []
    ran: list[str] = []
    virtual_clock().run(main())
    assert ran == []


def test_timers_stay_in_order_when_the_cancelled_ones_are_dropped() -> None:
    async def main() -> list[float]:
        loop, fired = asyncio.get_running_loop(), list[float]()
        moments = [loop.time() + clock.draw() for _ in range(500)]
        timers = [loop.call_at(moment, fired.append, moment) for moment in moments]
        for timer in timers[::3] + timers[1::3]:
            timer.cancel()
        await asyncio.sleep(1)
        assert sorted(moments[2::3]) == sorted(fired)
        return fired

    clock = virtual_clock()
    fired = clock.run(main())
    assert fired == sorted(fired)


def test_a_task_group_ends_all_of_its_tasks_when_one_fails() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError("no")

    async def waits(name: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(name)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abcdefghijkl":
                group.create_task(waits(name))
            group.create_task(fails())

    clock = virtual_clock(start=0.0)
    with pytest.raises(ExceptionGroup) as caught:
        clock.run(main())
    assert caught.group_contains(ValueError)
    assert "".join(ended) == "abcdefghijkl"
    assert clock.now() == 1.0


def test_a_moment_that_is_no_number_is_refused() -> None:
    with virtual_clock() as clock, pytest.raises(ValueError, match="nan"):
        clock.new_loop().call_at(math.nan, print)


def test_a_stopped_loop_does_not_wait() -> None:
    with virtual_clock(start=0.0) as clock:
        loop = clock.new_loop()
        loop.call_later(10, print)
        loop.stop()
        loop.run_forever()
        assert clock.now() == 0.0


def test_a_loop_alone_brings_a_clock() -> None:
    loop = VirtualLoop()
    try:
        assert isinstance(clock_of(loop), VirtualClock)
        assert loop.time() == clock_of(loop).now()
    finally:
        loop.close()


def test_aiofiles_works_on_it(tmp_path: Path) -> None:
    async def main() -> str:
        async with aiofiles.open(tmp_path / "notes.txt", "w") as file:
            await file.write("one\ntwo\n")
        async with aiofiles.open(tmp_path / "notes.txt") as file:
            return " ".join([line.strip() async for line in file])

    clock = virtual_clock(start=0.0)
    assert clock.run(main()) == "one two"
    assert clock.now() == 0.0


def test_work_for_an_executor_is_done_at_once_in_the_loops_thread() -> None:
    async def main() -> tuple[bool, int, int]:
        future = asyncio.get_running_loop().run_in_executor(None, threading.get_ident)
        return future.done(), await future, await asyncio.to_thread(threading.get_ident)

    here = threading.get_ident()
    assert virtual_clock().run(main()) == (True, here, here)


def test_a_named_executor_keeps_its_thread() -> None:
    async def main() -> tuple[bool, str]:
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="database") as executor:
            future = asyncio.get_running_loop().run_in_executor(executor, lambda: threading.current_thread().name)
            return future.done(), await future

    assert virtual_clock().run(main()) == (True, "database_0")


def test_a_default_executor_that_was_set_is_used_and_shut_down() -> None:
    async def main() -> str:
        asyncio.get_running_loop().set_default_executor(executor)
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")
    assert virtual_clock().run(main()) == "mine_0"
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(print)


def test_what_work_for_an_executor_raises_comes_out_where_it_is_awaited() -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().run_in_executor(None, int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            await future

    virtual_clock().run(main())


def test_an_interrupt_in_work_for_an_executor_ends_the_run() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        await asyncio.to_thread(interrupt)

    with pytest.raises(KeyboardInterrupt):
        virtual_clock().run(main())


def test_work_for_an_executor_may_run_a_loop_of_its_own() -> None:
    async def inner() -> str:
        await asyncio.sleep(5)
        return "done"

    async def main() -> tuple[str, bool]:
        answer = await asyncio.to_thread(virtual_clock().run, inner())
        return answer, asyncio.get_running_loop() is clock.loop

    clock = virtual_clock(start=0.0)
    assert clock.run(main()) == ("done", True)
    assert clock.now() == 0.0


def test_after_its_shutdown_the_executor_takes_nothing() -> None:
    with virtual_clock() as clock:
        loop = clock.new_loop()
        loop.run_until_complete(loop.shutdown_default_executor())
        with pytest.raises(RuntimeError, match="shutdown"):
            loop.run_in_executor(None, print)


def test_a_call_from_another_thread_is_refused() -> None:
    def from_outside(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            refused.append(str(error))

    async def main() -> None:
        thread = threading.Thread(target=from_outside, args=(asyncio.get_running_loop(),))
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_soon_threadsafe(refused.append, "own thread")
        await asyncio.sleep(0)

    refused: list[str] = []
    virtual_clock().run(main())
    assert "other threads" in refused[0]
    assert refused[1:] == ["own thread"]


def test_there_is_no_outside() -> None:
    async def connects() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    async def starts() -> None:
        await asyncio.create_subprocess_exec("true")

    for main in (connects, starts):
        with pytest.raises(NotImplementedError, match="no sockets, pipes, subprocesses or signals"):
            virtual_clock().run(main())


def test_a_task_factory_of_ones_own_is_used() -> None:
    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Future[Any]":
        made.append("task")
        return asyncio.Task(work, loop=loop)

    async def number() -> int:
        return 3

    async def main() -> int:
        asyncio.get_running_loop().set_task_factory(factory)
        return await asyncio.create_task(number())

    made: list[str] = []
    assert virtual_clock().run(main()) == 3
    assert made  # the shutdown of the run makes some too


def test_tasks_of_the_engine_are_numbered_and_not_eager() -> None:
    async def step() -> None:
        ran.append("step")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        tasks = [loop.turnkeeper_start_task(step()) for _ in range(3)]
        ran.append("started")
        await asyncio.gather(*tasks)
        assert [hash(task) for task in tasks] == [task.number for task in tasks if isinstance(task, NumberedTask)]

    ran: list[str] = []
    virtual_clock().run(main())
    assert ran == ["started", "step", "step", "step"]


if sys.version_info >= (3, 12):

    def test_eager_tasks_run_their_first_step_at_once() -> None:
        async def steps(name: str) -> str:
            seen.append(f"{name} first")
            await asyncio.sleep(1)
            seen.append(f"{name} second")
            return name

        async def main() -> set[str]:
            loop = asyncio.get_running_loop()
            plain = asyncio.Task(steps("plain"), loop=loop, eager_start=True)
            numbered = NumberedTask(steps("numbered"), loop=loop, eager_start=True)
            loop.set_task_factory(asyncio.eager_task_factory)
            made = asyncio.create_task(steps("made"))
            seen.append("started")
            return {await plain, await numbered, await made}

        seen: list[str] = []
        assert virtual_clock().run(main()) == {"plain", "numbered", "made"}
        assert seen == [
            "plain first",
            "numbered first",
            "made first",
            "started",
            "plain second",
            "numbered second",
            "made second",
        ]

    def test_an_eager_task_that_never_suspends_is_done_at_once() -> None:
        async def value() -> int:
            return 5

        async def main() -> tuple[bool, int]:
            task = asyncio.Task(value(), loop=asyncio.get_running_loop(), eager_start=True)
            return task.done(), task.result()

        assert virtual_clock().run(main()) == (True, 5)


class OneProcessFirst:
    """Runs the callbacks of one process while there are any, and those of a frozen one never."""

    def __init__(self, first: str, frozen: str = "") -> None:
        self.first = first
        self.frozen = frozen

    def next(self, ready: deque[asyncio.Handle]) -> asyncio.Handle | None:
        may = [handle for handle in ready if self.owner(handle) != self.frozen]
        if not may:
            return None
        chosen = next((handle for handle in may if self.owner(handle) == self.first), may[0])
        ready.remove(chosen)
        return chosen

    @staticmethod
    def owner(handle: asyncio.Handle) -> str:
        return handle._context.get(process, "main")  # type: ignore[attr-defined, no-any-return]


async def _log_as(name: str, log: list[str]) -> None:
    for step in range(3):
        log.append(f"{name}{step}")
        await asyncio.sleep(0)


def _started_as(name: str, log: list[str]) -> "asyncio.Task[None]":
    process.set(name)
    return asyncio.create_task(_log_as(name, log))


@pytest.mark.parametrize(("first", "history"), [("a", "a0 a1 a2 b0 b1 b2"), ("b", "b0 b1 b2 a0 a1 a2")])
def test_an_order_that_is_handed_in_decides_who_runs_next(first: str, history: str) -> None:
    async def main() -> None:
        tasks = [_started_as(name, log) for name in "ab"]
        process.set("main")
        await asyncio.sleep(1)
        assert all(task.done() for task in tasks)

    log: list[str] = []
    loop = VirtualLoop(order=OneProcessFirst(first))
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert " ".join(log) == history


def test_who_may_not_run_stays_while_time_goes_on() -> None:
    async def main() -> list[str]:
        tasks = [_started_as(name, log) for name in "ab"]
        process.set("main")
        await asyncio.sleep(60)
        seen = list(log)
        order.frozen = ""
        await asyncio.gather(*tasks)
        return seen

    log: list[str] = []
    order = OneProcessFirst("a", frozen="b")
    loop = VirtualLoop(order=order)
    try:
        assert loop.run_until_complete(main()) == ["a0", "a1", "a2"]
    finally:
        loop.close()
    assert log == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_a_closed_loop_keeps_nothing_alive() -> None:
    class Context:
        pass

    async def main() -> "weakref.ref[Context]":
        context = Context()
        asyncio.get_running_loop().call_later(3600, lambda: context)
        return weakref.ref(context)

    clock = virtual_clock()
    gc.disable()
    try:
        assert clock.run(main())() is None
    finally:
        gc.enable()
