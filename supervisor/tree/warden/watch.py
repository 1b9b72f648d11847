"""A warden's life: it takes orders, says what happens, and stays until nothing of its tree is left."""

import _ctypes
import _signal  # type: ignore[import-not-found] # see processes.py
import posix
import select
import time  # noqa: TID251 - no clock can be handed in here

from .processes import descendants, facts_of, name_of, resident_bytes
from .protocol import ORDERS, ROOM_FOR_GONE_BYTES, WORDS, packed, unpacked
from .stopping import Stopping

TYPE_CHECKING = False  # see protocol.py
if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_EVERY_S = 0.1
LONGEST_SLEEP_S = 3600.0
MOST_NAMES = 16

_PR_SET_CHILD_SUBREAPER = 36
_EVERY_KIND = posix.WNOHANG | 0x40000000  # __WALL: children made by clone, too
_IGNORED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT)


class Warden:
    """One tree, from its parking to its end."""

    def __init__(self) -> None:
        self.pid = posix.getpid()
        self.command = 0
        self.exited: tuple[int | None, int | None] | None = None
        self.files: tuple[tuple[int, int, str, int, str], ...] = ()
        self.most_bytes: int | None = None
        self.sample_at = 0.0
        self.stopping = Stopping(self.pid)
        self.kill_at: float | None = None  # once it is told to stop
        self.leaving = False
        self.unread = b""
        self.woken, self.wakeup = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        self.nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)  # now: once it runs it is too late
        self.poll = select.poll()
        self.obey: dict[str, Callable[..., None]] = {
            "files": self.note_files,
            "go": self.go,
            "stop": self.stop,
            "leave": self.leave,
        }

    def make_ready(self, supervisor: int, end: int) -> None:
        """Become the reaper of all that will be started; then let signals in, blocked since before we were started."""
        for descriptor in {*map(int, posix.listdir("/proc/self/fd"))} - {self.woken, self.wakeup, self.nothing}:
            try:
                if descriptor >= end:  # of our supervisor's process, and meant for others
                    posix.close(descriptor)
                else:
                    posix.set_inheritable(descriptor, descriptor < ORDERS)
            except OSError:  # the one that the folder was read with
                continue
        posix.set_blocking(ORDERS, False)
        posix.set_blocking(WORDS, False)
        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type] # None: this program
        if _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) or posix.getppid() != supervisor:
            posix._exit(1)
        for number in (*_IGNORED, _signal.SIGCHLD, _signal.SIGUSR1):
            _signal.signal(number, lambda *_: None)  # not SIG_IGN: that, the command would inherit
        _signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        self.poll.register(self.woken, select.POLLIN)
        self.poll.register(ORDERS, select.POLLIN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self.tell("ready")

    def tell(self, word: str, *arguments: object) -> None:
        """Say a word to the supervisor, if it is there to hear it."""
        try:
            posix.write(WORDS, packed(word, *arguments))
        except OSError:
            return

    def keep_watch(self) -> None:
        """Do what is asked for, until no child is left, or what is left may stay."""
        while True:
            nothing_left = self.reap()
            if nothing_left if self.kill_at is not None else self.leaving and self.exited:
                return
            due_in_s = self.do_what_is_due()
            self.listen(None if due_in_s is None else int(min(due_in_s, LONGEST_SLEEP_S) * 1000) + 1)

    def reap(self) -> bool:
        """Wait for all that has ended; tell whether no child is left."""
        while True:
            try:
                pid, status = posix.waitpid(-1, _EVERY_KIND)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.command and self.exited is None:
                code = posix.waitstatus_to_exitcode(status)
                self.exited = (code, None) if code >= 0 else (None, -code)
                self.tell("exited", *self.exited)

    def do_what_is_due(self) -> float | None:
        """Kill, or look at the memory, if it is time to. Returns in how many seconds it will be; None: never."""
        now = time.monotonic()
        if self.kill_at is not None:
            return self.kill_at - now if now < self.kill_at else self.stopping.kill(now)
        if self.most_bytes is None:
            return None
        if now >= self.sample_at:
            self.sample_at = now + MEMORY_EVERY_S
            held = resident_bytes(descendants(self.pid))
            if held > self.most_bytes:
                self.most_bytes = None
                self.tell("memory", held)
        return self.sample_at - now

    def listen(self, timeout_ms: int | None) -> None:
        """Wait for a signal, for an order, or until something is due. A signal comes before every order."""
        ready = [descriptor for descriptor, _ in self.poll.poll(timeout_ms)]
        self.heed_signals()  # even if poll does not know of one: it came while we were stopped, and poll was over
        if ORDERS not in ready:
            return
        said = posix.read(ORDERS, 65536)
        self.heed_signals()  # one that was pending may reach us only now
        if said:
            orders, self.unread = unpacked(self.unread + said)
            for order, *arguments in orders:
                self.obey[order](*arguments)
        else:
            self.poll.unregister(ORDERS)
            self.stop(0.0)

    def orders_have_ended(self) -> bool:
        """Tell whether the supervisor is dead by now: its last orders may stand before the end of file, unread."""
        try:
            while posix.read(ORDERS, 65536):
                continue
        except BlockingIOError:
            return False
        return True

    def heed_signals(self) -> None:
        """Stop, if a recovery asks for it; what ended, others find out."""
        try:
            numbers = posix.read(self.woken, 65536)
        except BlockingIOError:
            return
        if _signal.SIGUSR1 in numbers:
            self.stop(0.0)

    def note_files(self, files: tuple[tuple[int, int, str, int, str], ...]) -> None:
        self.files = files

    def go(
        self, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes | None, mask: list[int], most_bytes: int | None
    ) -> None:
        """Start the command, in a process group of its own; keep nothing that is the command's.

        Not once it was told to stop: a supervisor that slept meanwhile does not know that others have its session.
        """
        if self.kill_at is not None:
            return
        step = "cwd"
        try:
            if cwd is not None:
                posix.chdir(cwd)
            step = "program"
            if b"PATH" in env:
                posix.putenv(b"PATH", env[b"PATH"])  # where posix_spawnp looks: its caller's own
            else:
                posix.unsetenv(b"PATH")
            self.command = posix.posix_spawnp(
                argv[0], argv, env, setpgroup=0, setsigmask=mask, setsigdef=_signal.valid_signals()
            )
        except OSError as error:
            self.tell("not_started", error.errno, step)
            self.stop(0.0)
        else:
            self.most_bytes = most_bytes
            facts = facts_of(self.command)  # ours to wait for: nobody else has its pid yet
            self.tell("started", self.command, facts and facts[1])
        posix.chdir("/")
        for descriptor in range(ORDERS):
            posix.dup2(self.nothing, descriptor, inheritable=False)

    def leave(self) -> None:
        self.leaving = True

    def stop(self, grace_s: float) -> None:
        """Ask everything below us to end, once; kill what is left after the grace. A later call only hastens it."""
        kill_at = time.monotonic() + grace_s
        if self.kill_at is not None:
            self.kill_at = min(self.kill_at, kill_at)
            return
        self.kill_at = kill_at
        if grace_s > 0:
            self.stopping.ask()

    def end(self) -> None:
        """Write the last word into the files in our name, remove those that are over, and say what was done."""
        left = descendants(self.pid)[:MOST_NAMES] if self.kill_at is None else []
        code, number = ("null" if value is None else str(value) for value in self.exited or (None, None))
        is_orphaned = self.orders_have_ended()
        gone = f'{{"exitCode": {code}, "signal": {number}}}'.ljust(ROOM_FOR_GONE_BYTES).encode()
        for descriptor, folder, name, place, remove in self.files:
            write_over(descriptor, gone, place)
            if remove == "always" or (remove == "orphaned" and is_orphaned):
                remove_if_same(descriptor, folder, name)
        steps = [f"{step}: {len(processes)}" for step, processes in self.stopping.steps.items()]
        self.tell("gone", self.stopping.killed(), [name_of(process) for process in left], steps)


def write_over(descriptor: int, text: bytes, place: int) -> None:
    """Write into a file, if that can be: on a disk that fails, its removal still says as much."""
    try:
        posix.pwrite(descriptor, text, place)
    except OSError:
        return


def remove_if_same(descriptor: int, folder: int, name: str) -> None:
    """Remove a name if it is the open file's: its inode is nobody else's while it is open."""
    try:
        opened, named = posix.fstat(descriptor), posix.stat(name, dir_fd=folder, follow_symlinks=False)
        if (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino):
            posix.unlink(name, dir_fd=folder)
    except OSError:  # it has no name yet, or no longer; its folder may not be written to
        return


def main(supervisor: int, end: int) -> None:
    """Be a warden. `end`: the number of descriptors that it was given."""
    warden = Warden()
    warden.make_ready(supervisor, end)
    warden.keep_watch()
    warden.end()
    posix._exit(0)  # without the interpreter's own tidying up: the kernel lets go of our files now
