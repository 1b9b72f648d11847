"""One simulated tree as its supervisor has it; what happens below is its warden's."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from policies.failure import Kind
from supervisor.errors import Failure
from supervisor.lock.life_file import Death, Exited
from supervisor.owner import RecordedTree
from supervisor.testing.lock_files import MemoryLockFiles
from supervisor.testing.process import PROCESS, of_nobody
from supervisor.testing.simulated_warden import SimulatedWarden
from supervisor.testing.tree_script import Happening, TreeScript
from supervisor.tree.contract import NotStarted, Program, Started, TreeGone, TreeUnknown

if TYPE_CHECKING:
    from supervisor.testing.streams import OutputOf

T = TypeVar("T")

Tell = Callable[["SimulatedTree", Happening], None]

NOT_SEEN: Final = Exited(None, None)


class SimulatedTree:
    """See `tree.contract.Tree`.

    Attributes:
        at: when what happened to it, on the loop's clock.
        owner: for whoever is told of it to set and read.
    """

    def __init__(
        self,
        recorded: RecordedTree,
        script: TreeScript,
        output: "OutputOf | None",
        pids: Iterator[int],
        tell: Tell,
        *,
        keeps_life: bool = False,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._supervisor = PROCESS.get()
        self._context = of_nobody()  # a warden is a process of its own: it goes on whatever becomes of its supervisor
        self._recorded, self._pids, self._tell = recorded, pids, tell
        self._is_ready: asyncio.Future[bool] = loop.create_future()
        self._started: asyncio.Future[Started | NotStarted] = loop.create_future()
        self._exited: asyncio.Future[Exited] = loop.create_future()
        self._over_memory: asyncio.Future[int] = loop.create_future()
        self._gone: asyncio.Future[TreeGone | TreeUnknown] = loop.create_future()
        self._program: Program | None = None
        self._is_forgotten = False
        self._warden = SimulatedWarden(
            f"warden {recorded.pid}",
            script,
            output,
            loop.time,
            self._later,
            self._hear_of_warden,
            keeps_life=keeps_life,
        )
        self.script = script
        self.at: dict[Happening, float] = {}
        self.owner: Any = None

    def __repr__(self) -> str:
        return f"<SimulatedTree of {self.name}: {list(self.at)[-1] if self.at else 'new'}>"

    # --- what really is, which its supervisor is told of later, or never

    @property
    def name(self) -> str:
        """As whose its lock is held."""
        return self._warden.name

    @property
    def warden_lives(self) -> bool:
        return self._warden.lives

    @property
    def has_life_file(self) -> bool:
        return self._warden.has_life_file

    @property
    def processes(self) -> int:
        """How many of it live, the command itself included."""
        return self._warden.processes.count

    @property
    def outcome(self) -> TreeGone | TreeUnknown | None:
        """How it was seen to end; None: it was not yet."""
        return self._gone.result() if self._gone.done() else None

    def how_it_exited(self) -> Exited:
        """Say how the command ended, as far as its warden has seen it."""
        return self._exited.result() if self._exited.done() else NOT_SEEN

    def kill_warden(self) -> None:
        self._warden.die()

    # --- what its supervisor asks

    @property
    def recorded(self) -> RecordedTree:
        return self._recorded

    @property
    def lock_path(self) -> Path | None:
        path = self._warden.transcript
        return None if path is None else path.with_name(path.name + ".lock")

    @property
    def over_memory(self) -> "asyncio.Future[int]":
        return self._over_memory

    async def go(self, program: Program) -> Started:
        assert self._program is None, "a tree goes once"
        self._program = program
        self._happened(Happening.WENT)
        self._warden.go(program.max_rss_bytes)
        started = await _result_of(self._started)
        if isinstance(started, NotStarted):
            raise started
        return started

    async def exited(self) -> Exited:
        exited = await _result_of(self._exited)
        if exited == NOT_SEEN and isinstance(self.outcome, TreeUnknown):
            raise Failure(Kind.ERROR, f"{self.name} was killed")
        return exited

    def stop(self, grace_s: float) -> None:
        self._order(lambda: self._warden.stop(grace_s))

    def hasten(self) -> None:
        self.stop(0.0)

    def leave(self) -> None:
        self._order(self._warden.leave)

    def dismiss(self) -> None:
        self.stop(0.0)

    async def gone(self) -> TreeGone | TreeUnknown:
        return await _result_of(self._gone)

    def forget(self) -> None:
        self._is_forgotten = True
        if isinstance(self.outcome, TreeGone) and self._warden.has_life_file:
            self._warden.has_life_file = False
            self._happened(Happening.FORGOTTEN)

    def abandon(self) -> None:
        self._order(self._warden.abandon)

    def _order(self, obey: Callable[[], None]) -> None:
        if not self._gone.done():
            if Happening.TOLD not in self.at:
                self._happened(Happening.TOLD)
            self._warden.order(obey)

    # --- what its launcher does

    def spawn(self) -> None:
        """Start the warden."""
        self._happened(Happening.SPAWNED)
        self._later(self.script.parks_in_s, self._note_ready)

    def _note_ready(self) -> None:
        if self._warden.lives:
            _settle(self._is_ready, True)

    async def ready(self) -> None:
        """Wait until the warden is. Raises Failure if it could not be."""
        if not await _result_of(self._is_ready):
            raise Failure(Kind.ERROR, "a command's warden ended at once")

    def hold(self, locks: MemoryLockFiles, path: Path) -> bool:
        """Take a lock in the warden's name; False if somebody has it."""
        return self._warden.hold(locks, path)

    def note_parked(self) -> None:
        self._happened(Happening.PARKED)

    def signal(self) -> bool:
        """Be told by a recovery to stop, before any order that is still under way."""
        if self._warden.lives:
            self._warden.stop(0.0)
        return self._warden.lives

    def orphan(self) -> None:
        """Its supervisor has died: end of file, before any order that is still under way."""
        if self._warden.lives:
            self._warden.abandon()

    def life(self) -> tuple[Death, Exited]:
        """Say what its life file does."""
        if not self._warden.has_life_file:
            return Death.UNKNOWN, NOT_SEEN
        if self._warden.lives:
            return Death.ALIVE, NOT_SEEN
        return (Death.UNKNOWN, NOT_SEEN) if self._warden.last_word is None else (Death.GONE, self.how_it_exited())

    # --- what happens

    def _later(self, seconds: float | None, do: Callable[..., None], *args: Any) -> None:
        if seconds == 0.0:
            self._loop.call_soon(do, *args, context=self._context)
        elif seconds is not None:
            self._loop.call_later(seconds, do, *args, context=self._context)

    def _happened(self, what: Happening) -> None:
        self.at[what] = self._loop.time()
        dies = self.script.warden_dies
        if dies is not None and dies[0] == what:
            self._later(dies[1], self._warden.die)
        self._tell(self, what)

    def _hear_of_warden(self, what: Happening, value: Any) -> None:
        match what:
            case Happening.GONE | Happening.UNKNOWN:
                self._bury(value)
                return
            case Happening.STARTED:
                _settle(self._started, Started(next(self._pids), None))
            case Happening.NOT_STARTED:
                _settle(self._started, NotStarted(Kind.INVALID, "the command cannot be started", value))
                _settle(self._exited, NOT_SEEN)
            case Happening.EXITED:
                _settle(self._exited, value)
            case Happening.OVER_MEMORY:
                _settle(self._over_memory, value)
            case _:
                pass
        self._happened(what)

    def _bury(self, last_word: TreeGone | None) -> None:
        """The warden has ended, with a last word or without."""
        outcome: TreeGone | TreeUnknown
        if last_word is not None:
            outcome = last_word
        elif self._program is None:
            self._warden.free_lock()
            outcome = TreeGone(0, (), ("its warden ended before it was told to go",), 0.0)
        else:
            self._warden.orphan_lock()
            outcome = TreeUnknown((f"what was started below {self.name}, which was killed",), 0.0)
        _settle(self._is_ready, False)
        _settle(self._started, NotStarted(Kind.ERROR, f"{self.name} ended before it could start the command", None))
        _settle(self._gone, outcome)
        _settle(self._exited, NOT_SEEN)
        self._warden.processes.close_output()
        self._happened(Happening.UNKNOWN if isinstance(outcome, TreeUnknown) else Happening.GONE)
        if self._is_forgotten:
            self._forget_later()

    def _forget_later(self) -> None:
        """Its supervisor does that, where it still lives, as soon as it runs."""
        if self._supervisor is None:
            self.forget()
        else:
            self._loop.call_soon(self.forget, context=self._supervisor.context())


async def _result_of(future: "asyncio.Future[T]") -> T:
    if not future.done():
        await asyncio.wait((future,))
    return future.result()


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
