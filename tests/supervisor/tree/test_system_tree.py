"""A tree of real processes: what its command gets, how its end is seen, and how it is stopped."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from policies.failure import Kind
from supervisor.lock.life_file import Exited
from supervisor.tree.contract import NotStarted, Program, TreeGone
from tests.supervisor.tree.trees import IGNORE, SLEEP, Trees, arguments_of, marked, python, until

pytestmark = pytest.mark.processes


async def test_a_command_that_succeeds_is_seen_to_exit_and_kills_nobody(trees: Trees) -> None:
    tree = await trees.start(python("say('done')"))
    assert await tree.exited() == Exited(0, None)
    gone = await trees.finish(tree, grace_s=5.0)
    assert (gone.killed, gone.left, gone.steps) == (0, (), ())
    assert await trees.said(1) == ["done"]


@pytest.mark.parametrize(
    ("code", "exited"),
    [("sys.exit(3)", Exited(3, None)), ("os.kill(os.getpid(), 9)", Exited(None, 9)), ("os.abort()", Exited(None, 6))],
)
async def test_a_commands_status_or_signal_is_told(trees: Trees, code: str, exited: Exited) -> None:
    tree = await trees.start(python(code))
    assert await tree.exited() == exited
    await trees.finish(tree)


async def test_the_end_of_something_else_is_not_taken_for_the_commands(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "(setsid sh -c 'sleep 0.1; exit 7' &); echo ready; exec sleep 60"])
    await trees.said(1)
    until(lambda: len(marked(trees.mark)) == 1, "the daemon has ended")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await tree.exited()
    await trees.finish(tree)
    assert await tree.exited() == Exited(None, signal.SIGKILL)


async def test_a_command_that_obeys_sigterm_ends_within_the_grace(trees: Trees) -> None:
    tree = await trees.start(["sleep", "60"])
    gone = await trees.finish(tree, grace_s=30.0)
    assert await tree.exited() == Exited(None, signal.SIGTERM)
    assert (gone.killed, gone.steps) == (1, ("SIGTERM: 1",))


async def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(trees: Trees) -> None:
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP))
    await trees.said(1)
    gone = await trees.finish(tree, grace_s=0.05)
    assert await tree.exited() == Exited(None, signal.SIGKILL)
    assert (gone.killed, gone.steps) == (1, ("SIGTERM: 1", "SIGKILL: 1"))
    assert gone.seconds >= 0.05


async def test_without_a_grace_nothing_is_asked_first(trees: Trees) -> None:
    tree = await trees.start(["sleep", "60"])
    assert (await trees.finish(tree)).steps == ("SIGKILL: 1",)


async def test_a_grace_can_be_hastened_and_not_lengthened(trees: Trees) -> None:
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP))
    await trees.said(1)
    tree.stop(0.1)
    tree.stop(3600.0)
    assert isinstance(await tree.gone(), TreeGone)
    tree.forget()
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP))
    await trees.said(2)
    tree.stop(3600.0)
    tree.hasten()
    assert isinstance(await tree.gone(), TreeGone)
    tree.forget()


async def test_a_grace_without_end_is_still_hastened(trees: Trees) -> None:
    tree = await trees.start(python(IGNORE + "say('ready');" + SLEEP))
    await trees.said(1)
    tree.stop(float("inf"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await tree.gone()
    tree.hasten()
    assert isinstance(await tree.gone(), TreeGone)
    tree.forget()


async def test_after_its_exit_what_it_started_lives_until_the_word_is_given(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "sleep 60 & exit 0"])
    assert await tree.exited() == Exited(0, None)
    assert len(marked(trees.mark)) == 1
    assert (await trees.finish(tree, grace_s=30.0)).killed == 1


async def test_what_may_be_left_is_named_and_lives_on(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "setsid sleep 60 & echo $! ; exit 0"])
    await tree.exited()
    tree.leave()
    gone = await tree.gone()
    [pid] = await trees.said(1)
    assert isinstance(gone, TreeGone)
    assert (gone.killed, len(gone.left), gone.steps) == (0, 1, ())
    assert gone.left[0].startswith(f"process {pid} (")
    tree.forget()
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: not marked(trees.mark), "the daemon that was left ends")


async def test_nothing_is_left_before_the_command_has_exited(trees: Trees) -> None:
    tree = await trees.start(python("say('ready'); sys.stdin.read()\n" + SLEEP))
    await trees.said(1)
    tree.leave()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await tree.gone()
    await trees.finish(tree)


async def test_what_might_have_been_left_is_stopped_if_that_is_asked_for_before_the_command_exits(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "(trap '' TERM; echo ready; exec sleep 60) & wait"])
    await trees.said(1)
    tree.leave()
    gone = await trees.finish(tree, grace_s=0.05)
    assert (gone.killed, gone.left) == (2, ())


async def test_arguments_environment_and_folder_reach_the_command_byte_for_byte(trees: Trees, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe \n'\"")
    code = "say([os.fsencode(a) for a in sys.argv[1:]], os.environb[b'ODD'], len(os.environb), os.getcwd())"
    program = trees.program(python(code, odd, ""))
    tree = await trees.park()
    await tree.go(replace(program, env={**trees.env, "ODD": odd}, cwd=str(tmp_path)))
    await tree.exited()
    [said] = await trees.said(1)
    assert said.startswith(f"[{os.fsencode(odd)!r}, b''] {os.fsencode(odd)!r} ")
    assert said.endswith(str(tmp_path))
    await trees.finish(tree)


async def test_two_hundred_kilobytes_of_arguments_arrive(trees: Trees) -> None:
    arguments = [f"{number:05d}" + "x" * 95 for number in range(2000)]
    tree = await trees.start(
        python("say(len(sys.argv), hash(tuple(sys.argv[1:])) != 0, sys.argv[2000][:5])", *arguments)
    )
    await tree.exited()
    assert await trees.said(1) == ["2001 True 01999"]
    await trees.finish(tree)


@pytest.mark.parametrize("lock", [False, True])
async def test_a_warden_is_named_for_its_lock_and_does_not_carry_the_command(trees: Trees, *, lock: bool) -> None:
    tree = await trees.start(["sleep", "61.5"], lock=lock)
    arguments = arguments_of(tree.recorded.pid)
    assert ("openclaw" in arguments) is lock
    assert not any("61.5" in argument for argument in arguments)
    await trees.finish(tree)


async def test_the_command_gets_three_descriptors_and_no_other(trees: Trees, tmp_path: Path) -> None:
    inheritable = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    try:
        tree = await trees.start(["ls", "/proc/self/fd"], lock=True)
        await tree.exited()
    finally:
        os.close(inheritable)
    assert await trees.said(4) == ["0", "1", "2", "3"]  # the last is the folder that ls reads
    await trees.finish(tree)


async def test_the_command_starts_with_default_signals_and_our_own_mask(trees: Trees) -> None:
    code = """
import signal
ignored = [s.name for s in signal.valid_signals() if isinstance(s, signal.Signals)
           and signal.getsignal(s) == signal.SIG_IGN and s.name not in ('SIGPIPE', 'SIGXFSZ')]
status = dict(line.split(':') for line in open('/proc/self/status'))
say(ignored, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), int(status['SigCgt'], 16) >> 14 & 1)
"""
    before = signal.getsignal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    try:
        tree = await trees.start(python(code))
        await tree.exited()
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGWINCH])
    assert await trees.said(1) == [f"[] [{signal.SIGWINCH!r}] 0"]
    await trees.finish(tree)


async def test_no_signal_is_ignored_or_blocked_in_the_command(trees: Trees) -> None:
    tree = await trees.start(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    await tree.exited()
    glibc_keeps = 0b11 << 31  # two signals of its own
    assert [int(line.split()[1], 16) & ~glibc_keeps for line in await trees.said(2)] == [0, 0]
    await trees.finish(tree)


async def test_end_of_file_is_seen_when_the_command_closes_its_output(trees: Trees) -> None:
    read, write = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    tree = await trees.launcher.park((nothing, write, write))  # type: ignore[arg-type] # a tuple is as good
    assert tree is not None
    os.close(nothing)
    os.close(write)
    await tree.go(trees.program(python("say('last'); os.close(1); os.close(2); import time; time.sleep(60)")))
    said = await asyncio.to_thread(_read_all, read)
    assert said == b"last\n"
    os.close(read)
    await trees.finish(tree)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    ("argv", "cwd", "exit_code", "message"),
    [
        (["no-such-command-here"], None, 127, "no-such-command-here: command not found: not found in PATH"),
        (["/no/such/command"], None, 127, "command not found: there is no such file"),
        (["/etc/passwd"], None, 126, "cannot be executed: Permission denied"),
        (["/"], None, 126, "cannot be executed: Permission denied"),
        (["sleep", "1"], "/no/such/folder", 126, "cannot be started in '/no/such/folder': No such file or directory"),
        (["sleep", "x" * 3_000_000], None, 126, "cannot be executed: Argument list too long"),
        (["sleep", "a\0b"], None, 126, "a NUL byte"),
        ([], None, 127, "its list of arguments is empty"),
    ],
)
async def test_a_command_that_cannot_be_started_says_why_and_its_tree_is_over(
    trees: Trees, argv: list[str], cwd: str | None, exit_code: int, message: str
) -> None:
    tree = await trees.park(lock=True)
    with pytest.raises(NotStarted, match=message.replace("(", r"\(")) as raised:
        await tree.go(Program(argv, trees.env, cwd))
    assert (raised.value.kind, raised.value.exit_code) == (Kind.INVALID, exit_code)
    assert await tree.exited() == Exited(None, None)
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    assert gone.killed == 0
    tree.forget()


async def test_a_script_without_its_interpreter_is_not_found(trees: Trees, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    tree = await trees.park()
    with pytest.raises(NotStarted, match="what it is to be run by is missing"):
        await tree.go(trees.program([str(script)]))
    await tree.gone()
    tree.forget()


async def test_the_program_is_looked_for_in_the_commands_own_path_from_its_own_folder(
    trees: Trees, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hello").symlink_to("/bin/echo")
    tree = await trees.park()
    await tree.go(Program(["hello", "you"], {**trees.env, "PATH": "/no/such/folder:bin"}, str(tmp_path)))
    await tree.exited()
    assert await trees.said(1) == ["you"]
    await trees.finish(tree)


async def test_where_the_command_has_no_path_ours_is_not_searched(
    trees: Trees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only-here").symlink_to("/bin/echo")
    monkeypatch.setenv("PATH", str(tmp_path))
    tree = await trees.park()
    with pytest.raises(NotStarted, match="not found in PATH"):
        await tree.go(Program(["only-here"], {}))
    await tree.gone()
    tree.forget()


async def test_memory_over_the_ceiling_is_told_once_and_stops_nothing(trees: Trees) -> None:
    code = "import time\nhere = bytearray(60_000_000)\nif os.fork() == 0: here = b'y' * 60_000_000\ntime.sleep(60)"
    tree = await trees.start(python(code), max_rss_bytes=100_000_000)
    assert await asyncio.wait_for(asyncio.shield(tree.over_memory), 20) > 100_000_000
    await asyncio.sleep(0.3)
    assert len(marked(trees.mark)) == 2
    await trees.finish(tree)


async def test_memory_below_the_ceiling_is_not_told(trees: Trees) -> None:
    tree = await trees.start(["sleep", "0.3"], max_rss_bytes=100_000_000)
    await tree.exited()
    assert not tree.over_memory.done()
    await trees.finish(tree)


async def test_kill_0_in_the_command_hits_its_own_group_only(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "sleep 60 & kill -9 0"])
    assert await tree.exited() == Exited(None, 9)
    await trees.finish(tree, grace_s=5.0)


async def test_several_may_wait_and_give_up_waiting(trees: Trees) -> None:
    tree = await trees.start(python("sys.exit(4)"))
    waiting = [asyncio.ensure_future(tree.exited()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert [await waiter for waiter in waiting[1:]] == [Exited(4, None)] * 2
    assert waiting[0].cancelled()
    assert await tree.exited() == Exited(4, None)
    await trees.finish(tree)


async def test_words_after_the_end_change_nothing(trees: Trees) -> None:
    tree = await trees.start(["true"])
    gone = await trees.finish(tree, grace_s=1.0)
    tree.stop(1.0)
    tree.hasten()
    tree.leave()
    tree.forget()
    tree.abandon()
    assert await tree.gone() == gone


async def test_a_tree_that_is_abandoned_is_stopped_without_grace(trees: Trees) -> None:
    tree = await trees.start(["sh", "-c", "trap '' TERM; sleep 60"], lock=True)
    tree.abandon()
    gone = await tree.gone()
    assert isinstance(gone, TreeGone)
    assert gone.steps[0].startswith("SIGKILL")


async def test_a_warden_whose_python_cannot_run_says_so(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    from supervisor.errors import Failure

    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Failure, match="can /bin/false be run"):
        await trees.park(lock=True)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Failure, match="No such file"):
        await trees.park(lock=True)
