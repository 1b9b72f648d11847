"""An event loop on virtual time: when nothing is ready it jumps to the next timer, and never waits."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextvars import Context
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf, isnan
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, Unpack

from supervisor.testing.clock import VirtualClock
from supervisor.testing.numbered import NumberedFuture, NumberedTask, OldestFirst
from supervisor.testing.process import of_caller
from supervisor.testing.stuck import Deadlock, Livelock, tasks_waiting
from supervisor.testing.throttle import throttle_on_loop_time

ROUNDS_AT_ONE_MOMENT: Final = 100_000

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Order(Protocol):
    """Which of the ready callbacks runs next: the seam of a simulation.

    `next` takes one out of `ready`, which is in the order of asyncio and not empty, and returns it; None when none of
    them may run now (time then goes on, and they stay).
    """

    def next(self, ready: deque[asyncio.Handle]) -> asyncio.Handle | None: ...


class FirstComeFirstServed:
    """The order of asyncio."""

    @staticmethod
    def next(ready: deque[asyncio.Handle]) -> asyncio.Handle | None:
        """Take the oldest."""
        return ready.popleft()


class _Timer(asyncio.TimerHandle):
    __slots__ = ()
    _scheduled: bool  # asyncio's own, which typeshed does not name


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop whose time is its clock's, and moves only when nothing is ready.

    Timers of one moment fire in the order in which they were set. Work for an executor is done at once, in the
    loop's thread or, where an executor is named, in its thread while the loop stands still. There is no outside:
    sockets, pipes, subprocesses, signals and calls from other threads are refused.

    Raises out of its `run_...` methods: Deadlock when nothing is ready and no timer is set, Livelock after
    `ROUNDS_AT_ONE_MOMENT` rounds in which no time has passed.
    """

    is_virtual: Final = True

    # asyncio's own, which typeshed does not name
    _ready: deque[asyncio.Handle]
    _asyncgens: Any
    _stopping: bool
    _thread_id: int | None
    _default_executor: Executor | None
    _executor_shutdown_called: bool
    _check_closed: Callable[[], None]

    def __init__(self, clock: VirtualClock | None = None, order: Order | None = None) -> None:
        super().__init__()
        self.turnkeeper_clock = clock or VirtualClock()
        self._order = order or FirstComeFirstServed()
        self._numbers = count(1)
        self._timers: list[tuple[float, int, _Timer]] = []
        self._timers_set = count()
        self._timers_cancelled = 0
        self._rounds_at_this_moment = 0
        self._asyncgens = OldestFirst()

    def time(self) -> float:
        """Return the clock's moment, in seconds."""
        return self.turnkeeper_clock.now()

    def next_number(self) -> int:
        """Return 1, 2, 3, ...: for what must not be told apart by its address."""
        return next(self._numbers)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future with a number."""
        return NumberedFuture(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Start a task with a number, unless a task factory was set."""
        work: Any = coro  # a generator only where typeshed says that asyncio takes one
        if self.get_task_factory() is not None:
            made: asyncio.Task[T] = super().create_task(work, name=name, context=context, **options)
            return made
        self._check_closed()
        return NumberedTask(work, loop=self, name=name, context=context, **options)

    def turnkeeper_start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the engine: numbered, and not eager, so that 3.11 tells the same history as later ones.

        A supervisor on this loop takes this one; `Supervisor(start_task=...)` takes another.
        """
        return NumberedTask(work, loop=self)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer; those of one moment fire in the order in which they were set."""
        self._check_closed()
        if isnan(when):
            raise ValueError("a timer needs a moment, got nan")
        timer = _Timer(when, callback, args, self, context if context is None else of_caller(context))
        heappush(self._timers, (when, next(self._timers_set), timer))
        timer._scheduled = True
        return timer

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call soon, from the loop's own thread (a signal handler, a finalizer). RuntimeError from another thread."""
        if self._thread_id not in (None, threading.get_ident()):
            raise RuntimeError(
                "a virtual loop takes no calls from other threads: they would come at a moment that no run repeats; "
                "use run_in_executor or asyncio.to_thread, which it answers at once"
            )
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Do the work now and return a future that is done.

        Without an executor it is done in this thread; a named one (a database's own thread) is waited for. No time
        passes, and awaiting the future does not suspend.
        """
        self._check_closed()
        if executor is None:
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            executor = self._default_executor
        future: asyncio.Future[T] = self.create_future()
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # as in a thread: the work may run a loop of its own
        try:
            future.set_result(func(*args) if executor is None else executor.submit(func, *args).result())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            future.set_exception(error)
        finally:
            asyncio._set_running_loop(running)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Shut the default executor down, if one was set, without a thread that waits for it."""
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            self._default_executor.shutdown()

    def run_forever(self) -> None:
        """Run until `stop()` is called."""
        self._rounds_at_this_moment = 0
        with throttle_on_loop_time():
            super().run_forever()

    def close(self) -> None:
        """Drop what is ready and what is timed."""
        super().close()
        self._timers.clear()

    def _run_once(self) -> None:
        """Run what is ready now, but not what that makes ready; or else move time to the next timer."""
        self._make_due_ready()
        ran, handle = False, None
        for _ in range(len(self._ready)):
            handle = self._order.next(self._ready)
            if handle is None:
                break
            ran = True
            if not handle._cancelled:
                handle._run()
        handle = None  # as asyncio does: an exception's frames lead here, and from here to the task that has it
        if ran:
            self._count_round()
        elif not self._stopping:
            self._jump()

    def _make_due_ready(self) -> None:
        now = self.time()
        while self._timers and self._timers[0][0] <= now:
            timer = self._pop_timer()
            if not timer._cancelled:
                self._ready.append(timer)

    def _jump(self) -> None:
        while self._timers and self._timers[0][-1]._cancelled:
            self._pop_timer()
        if not self._timers or self._timers[0][0] == inf:
            raise Deadlock(self.time(), tasks_waiting(self))
        self.turnkeeper_clock.advance_to(self._timers[0][0])
        self._rounds_at_this_moment = 0

    def _count_round(self) -> None:
        self._rounds_at_this_moment += 1
        if self._rounds_at_this_moment >= ROUNDS_AT_ONE_MOMENT:
            self._rounds_at_this_moment = 0  # the tasks can still be cancelled
            raise Livelock(self.time(), ROUNDS_AT_ONE_MOMENT, tasks_waiting(self))

    def _pop_timer(self) -> _Timer:
        timer = heappop(self._timers)[-1]
        timer._scheduled = False
        self._timers_cancelled -= timer._cancelled
        return timer

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """Drop cancelled timers when they are most of all: long timeouts of short attempts would pile up."""
        self._timers_cancelled += timer._scheduled
        if self._timers_cancelled > 64 and 2 * self._timers_cancelled > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[-1]._cancelled]
            heapify(self._timers)
            self._timers_cancelled = 0

    def _write_to_self(self) -> None:
        """Wake the selector: there is none."""

    def _process_events(self, event_list: Any) -> None:
        """Take what the selector found: there is none."""


def _refuse(name: str) -> Any:
    def refused(_self: VirtualLoop, *_args: Any, **_options: Any) -> Any:
        raise NotImplementedError(
            f"{name}: a virtual loop has no sockets, pipes, subprocesses or signals; hand in a stand-in that answers "
            "by itself, or run this on a real loop"
        )

    return refused


for _name in (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "sock_accept",
    "sock_connect",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(VirtualLoop, _name, _refuse(_name))
