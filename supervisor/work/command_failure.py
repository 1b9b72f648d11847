"""What a command's end comes to: by its exit, by what the rules say of its output, by what became of that."""

import signal
from typing import TYPE_CHECKING, Final

from policies.classification import Facts, Rule, classify, fails_politely
from policies.failure import Kind
from supervisor.errors import CommandFailed
from supervisor.lock.life_file import Exited

if TYPE_CHECKING:
    from supervisor.work.streams import CommandStreams


_SIGKILL: Final = int(signal.SIGKILL)
_SIGPIPE: Final = int(signal.SIGPIPE)


def failure_by(
    name: str, ended: Exited, rules: tuple[Rule, ...], streams: "CommandStreams", *, killed_by_kernel: bool
) -> CommandFailed | None:
    """Return the failure that a command's exit and its output so far come to; None: it has succeeded."""
    facts = Facts((), str(ended), None, ended.code, ended.signal, streams.tail().decode(errors="replace"))
    if ended.code == 0:
        kind = fails_politely(rules, facts)
        if kind is not None:
            return CommandFailed(kind, f"{name} exited with status 0, and a rule says that it failed", 0)
        return output_lost(name, streams.trouble()) if streams.trouble() else None
    if ended.signal == _SIGKILL and killed_by_kernel:
        return CommandFailed(Kind.MEMORY, f"{name} was killed by the kernel for memory", None, _SIGKILL)
    if ended.signal == _SIGPIPE and streams.reader_is_gone():
        message = f"{name} {ended}: whoever read its output has gone away"
        return CommandFailed(Kind.INVALID, message, None, _SIGPIPE)
    return CommandFailed(classify(rules, facts), f"{name} {ended}", ended.code, ended.signal)


def output_lost(name: str, why: str) -> CommandFailed:
    """Return the failure of a command that succeeded while its output did not arrive: no retry mends that."""
    return CommandFailed(Kind.INVALID, f"{name} exited with status 0, but its output is lost: {why}", 0)


def over_memory(held_bytes: int, most_bytes: int) -> CommandFailed:
    """Return the failure of a command whose tree holds too much."""
    return CommandFailed(Kind.MEMORY, f"{_mib(held_bytes)} held at once, {_mib(most_bytes)} allowed (max_rss)")


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.0f} MiB"
