"""The warden: a small process above one command's tree, which stops that tree and proves it gone.

    parked --go--> running --the command exits--> waiting for a word --stop or leave--> gone
       \______________\________ stop, end of file on the pipe, SIGUSR1 ______________/

It is started by this file's path, with `python -I -S`, and imports only what needs no file of Python's: it lives as
long as the command. Its descriptors: 0, 1, 2 are the command's; 3 our supervisor's orders, at whose end (the supervisor
is dead) it stops the tree with no grace; 4 its own words; then the files in its name, each with the folder it is in.
Everything that the command starts stays below it: it is their reaper. **The proof is `waitpid(-1)` answering ECHILD.**

Which file is deleted by whom, and when. All say `gone` by then, and stay under our flock until we have exited.

    lock file    by the warden, after ECHILD
    life file    by the supervisor, once it has read it and recorded the end; where the supervisor is dead, by the
                 warden, unless it was told to keep it for a recovery to read

A warden that is killed deletes nothing and writes nothing: who finds its files knows that the tree may live.
"""

import _ctypes
import _signal  # type: ignore[import-not-found] # signal itself imports enum: a third more memory
import marshal
import posix
import select
import sys
import time

ORDERS, WORDS = 3, 4
ROOM_FOR_GONE = 64  # bytes that each file keeps free for the last word
MEMORY_EVERY_S = 0.1
NESTED_WARDENS_HAVE_S = 1.0
FREEZES = 50  # passes over the tree before what was found is killed; two or three beat a fork bomb
MOST_NAMES = 16

_PR_SET_CHILD_SUBREAPER = 36
_EVERY_KIND = posix.WNOHANG | 0x40000000  # __WALL: children made by clone, too
_IGNORED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT)

Process = tuple[int, int]  # pid, and start time in clock ticks


def read(path: str) -> bytes:
    """Return what a file of /proc says; empty where it cannot be read: nothing is proved by what is read here."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    whole = b""
    try:
        while part := posix.read(descriptor, 65536):
            whole += part
    except OSError:
        return b""
    finally:
        posix.close(descriptor)
    return whole


def facts_of(pid: int) -> tuple[int, int, bool] | None:
    """Return a process's parent, its start time, and whether it is dead and only not waited for. None: it is gone."""
    stat = read(f"/proc/{pid}/stat")
    if not stat:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    # The first thread of a living process may have ended: then it shows as a zombie that has other threads.
    return int(fields[1]), int(fields[19]), fields[0] in (b"Z", b"X") and int(fields[17]) <= 1


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, as far as can be told while they come and go."""
    try:
        threads = posix.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in read(f"/proc/{pid}/task/{thread}/children").split()]


def descendants(root: int) -> list[Process]:
    """Return every living process below `root`. One whose parent ends meanwhile may be missed: look again."""
    found = []
    known = {root}
    parents = [root]
    for parent in parents:
        for pid in children(parent):
            facts = None if pid in known else facts_of(pid)
            if facts is None or facts[0] not in known:  # its pid may be a stranger's by now
                continue
            known.add(pid)
            parents.append(pid)
            if not facts[2]:
                found.append((pid, facts[1]))
    return found


def is_warden(process: Process) -> bool:
    """Tell whether it is a warden like this one, of whatever installation."""
    arguments = read(f"/proc/{process[0]}/cmdline").split(b"\0")
    return arguments[1:3] == [b"-I", b"-S"] and arguments[3].endswith(b"/tree/warden.py")


def name_of(process: Process) -> str:
    command = read(f"/proc/{process[0]}/cmdline").rstrip(b"\0").replace(b"\0", b" ")[:80]
    return f"process {process[0]} ({command.decode('utf-8', 'replace')})"


def resident_bytes(processes: list[Process]) -> int:
    statms = [read(f"/proc/{pid}/statm").split() for pid, _ in processes]
    return sum(int(statm[1]) for statm in statms if statm) * posix.sysconf("SC_PAGE_SIZE")


def send(process: Process, *signals: int) -> bool:
    """Send signals to a process, and to no other that has its pid by now; tell whether it got them."""
    try:
        descriptor = posix.pidfd_open(process[0])
    except OSError:
        return False
    try:
        facts = facts_of(process[0])
        if facts is None or facts[1] != process[1] or facts[2]:
            return False
        for number in signals:
            _signal.pidfd_send_signal(descriptor, number)
    except OSError:  # it has ended, or may not be signalled: waitpid will tell
        return False
    finally:
        posix.close(descriptor)
    return True


class Warden:
    """One tree, from its parking to its end."""

    def __init__(self) -> None:
        self.pid = posix.getpid()
        self.command = 0
        self.exited: tuple[int | None, int | None] | None = None
        self.files: tuple[tuple[int, int, str, int, str], ...] = ()
        self.most_bytes: int | None = None
        self.sample_at = 0.0
        self.kill_at: float | None = None  # once it is told to stop
        self.leaving = self.orphaned = False
        self.signalled: dict[str, set[Process]] = {}
        self.only_wardens_since: float | None = None
        self.patience_s = 0.0
        self.unread = b""
        self.woken, self.wakeup = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        self.poll = select.poll()

    def make_ready(self, supervisor: int, end: int) -> None:
        """Become the reaper of all that will be started; then let signals in, blocked since before we were started.

        `end`: descriptors from here on were our supervisor's process's, and meant for others.
        """
        for descriptor in {*map(int, posix.listdir("/proc/self/fd"))} - {self.woken, self.wakeup}:
            try:
                posix.close(descriptor) if descriptor >= end else posix.set_inheritable(descriptor, descriptor < ORDERS)
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

    def tell(self, *word: object) -> None:
        """Say a word to the supervisor, if it is there to hear it."""
        text = marshal.dumps(word)
        try:
            posix.write(WORDS, len(text).to_bytes(4, "big") + text)
        except OSError:
            return

    def keep_watch(self) -> None:
        """Do what is asked for, until no child is left or what is left may stay."""
        while True:
            nothing_left = self.reap()
            if (self.leaving and self.exited) or (nothing_left and self.kill_at is not None):
                return
            due_in_s = self.do_what_is_due()
            self.listen(None if due_in_s is None else int(due_in_s * 1000) + 1)

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
        """Kill, or look at the memory, if it is time to. Returns in how many seconds something is due, None: nothing."""
        now = time.monotonic()
        if self.kill_at is not None:
            return self.kill_at - now if now < self.kill_at else self.kill(now)
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
        """Wait for a signal, an order, or until something is due."""
        for descriptor, _ in self.poll.poll(timeout_ms):
            said = posix.read(descriptor, 65536)
            if descriptor == self.woken:
                if _signal.SIGUSR1 in said:
                    self.stop(0.0)
            elif said:
                self.unread += said
                self.obey()
            else:
                self.orphaned = True
                self.poll.unregister(ORDERS)
                self.stop(0.0)

    def obey(self) -> None:
        """Carry out each order that has come in whole."""
        while len(self.unread) >= 4 and len(self.unread) >= (end := 4 + int.from_bytes(self.unread[:4], "big")):
            order, *arguments = marshal.loads(self.unread[4:end])  # noqa: S302 - our supervisor's, by the same Python
            self.unread = self.unread[end:]
            if order == "files":
                self.files = arguments[0]
            elif order == "go":
                self.go(*arguments)
            elif order == "stop":
                self.stop(arguments[0])
            elif order == "leave":
                self.leaving = True

    def go(
        self, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes | None, mask: list[int], most_bytes: int | None
    ) -> None:
        """Start the command, in a process group of its own; keep nothing that is the command's."""
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
            self.tell("started", self.command)
        posix.chdir("/")
        nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        for descriptor in range(ORDERS):
            posix.dup2(nothing, descriptor, inheritable=False)
        posix.close(nothing)

    def stop(self, grace_s: float) -> None:
        """Ask everything below us to end, once; what is left after the grace is killed. A later call can only hasten."""
        kill_at = time.monotonic() + grace_s
        if self.kill_at is not None:
            self.kill_at = min(self.kill_at, kill_at)
            return
        self.kill_at = kill_at
        if grace_s > 0:
            for process in descendants(self.pid):
                if not is_warden(process) and send(process, _signal.SIGTERM, _signal.SIGCONT):
                    self.note("SIGTERM", process)

    def kill(self, now: float) -> float:
        """Freeze the tree until nothing new appears in it, and kill it. Returns when to do so again, in seconds.

        Nested wardens go last: when its supervisor is dead, each stops its own tree and says so in its files.
        """
        frozen: dict[Process, None] = {}
        wardens: dict[Process, None] = {}
        for _ in range(FREEZES):
            appeared = [process for process in descendants(self.pid) if process not in frozen | wardens]
            if not appeared:
                break
            for process in appeared:
                if is_warden(process):
                    wardens[process] = None
                else:
                    send(process, _signal.SIGSTOP)
                    frozen[process] = None
        for process in frozen:
            if send(process, _signal.SIGKILL):
                self.note("SIGKILL", process)
        self.patience_s = min(max(0.01, 2 * self.patience_s), 1.0)
        if frozen or not wardens:
            self.only_wardens_since = None
            return self.patience_s
        self.only_wardens_since = self.only_wardens_since or now
        left_s = self.only_wardens_since + NESTED_WARDENS_HAVE_S - now
        if left_s > 0:
            return left_s
        for process in wardens:
            if send(process, _signal.SIGKILL):
                self.note("SIGKILL of nested wardens", process)
        return self.patience_s

    def note(self, step: str, process: Process) -> None:
        self.signalled.setdefault(step, set()).add(process)

    def end(self) -> None:
        """Write the last word into the files in our name, remove those that are over, and say what was done."""
        left = descendants(self.pid) if self.leaving else []
        code, number = (json_of(value) for value in self.exited or (None, None))
        word = f'{{"exitCode": {code}, "signal": {number}}}'.ljust(ROOM_FOR_GONE).encode()
        for descriptor, folder, name, place, remove in self.files:
            try:
                posix.pwrite(descriptor, word, place)
                ours, named = posix.fstat(descriptor), posix.stat(name, dir_fd=folder, follow_symlinks=False)
                if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino) and (
                    remove == "always" or (remove == "orphaned" and self.orphaned)
                ):
                    posix.unlink(name, dir_fd=folder)
            except OSError:  # it has another name or none by now, or its folder may not be written to
                continue
        steps = [f"{step}: {len(processes)}" for step, processes in self.signalled.items()]
        killed = len(set().union(*self.signalled.values()))
        self.tell("gone", killed, [name_of(process) for process in left[:MOST_NAMES]], steps)


def json_of(value: int | None) -> str:
    return "null" if value is None else str(value)


if __name__ == "__main__":
    warden = Warden()
    warden.make_ready(supervisor=int(sys.argv[-2]), end=int(sys.argv[-1]))
    warden.keep_watch()
    warden.end()
    posix._exit(0)  # without the interpreter's tidying up: the kernel lets go of our files now
