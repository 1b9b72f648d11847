"""An async function as work: what its exception says, as text and numbers."""

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from policies.classification import Facts, Rule, classify, matches
from policies.failure import Failed, Kind, least_retryable
from supervisor.errors import CommandFailed, Failure, RunFailed, RunRefused, SessionLocked
from supervisor.work.http_answer import stated_wait_s, status_of

_MOST_MESSAGE: Final = 2000
_MOST_OF_A_MEMBER: Final = 500
_MOST_TRACEBACK: Final = 8192
_MOST_FRAMES: Final = 24
_MOST_CLASSES: Final = 512
_SAYING: Final = ("status_code", "status", "response", "retry_after", "headers")
"""Attributes by which an exception may say more than its class does."""


class _Class(NamedTuple):
    """What an exception's class says: its names, and its kind, if it says all and there are no rules."""

    names: tuple[str, ...]
    kind: Kind | None


_CLASSES: Final[dict[type[BaseException], _Class]] = {}


def failed_by(error: BaseException, rules: tuple[Rule, ...], wall: float) -> Failed:
    """Return what is known of an attempt that ended by this exception. Keeps no reference to it.

    `wall` is the moment in seconds since 1970: a Retry-After may be a date.
    """
    known = _class(type(error))
    text = text_of(error)
    message = text if isinstance(error, Failure | SessionLocked) else _named(error, text)
    if isinstance(error, BaseExceptionGroup):
        message = _with_members(message, error)
    if known.kind is not None and not rules and not error.__dict__:
        return Failed(known.kind, message[:_MOST_MESSAGE], traceback=where(error))
    if isinstance(error, CommandFailed):
        return Failed(error.kind, message[:_MOST_MESSAGE], None, error.exit_code, error.signal)
    kind = classify(rules, Facts(known.names, text, status_of(error)), known_kind(error, rules))
    return Failed(kind, message[:_MOST_MESSAGE], retry_after_s(error, wall), traceback=where(error))


def _named(error: BaseException, text: str) -> str:
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _with_members(message: str, group: BaseExceptionGroup[Any]) -> str:
    """Add what the members say, those of groups within it too: without that nobody knows which of them it was."""
    said: list[str] = []

    def is_known(member: BaseException) -> bool:
        if isinstance(member, BaseExceptionGroup):
            return False
        said.append(_named(member, text_of(member))[:_MOST_OF_A_MEMBER])
        return True

    _walk(group, is_known)
    return f"{message}: {'; '.join(reversed(said))}"


def text_of(error: BaseException) -> str:
    """Return what an exception says, also of one that cannot say it."""
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be read: {type(broken).__name__})"


def names(cls: type[BaseException]) -> tuple[str, ...]:
    """Return the dotted names of a class and its bases; one of `builtins` also without its module."""
    return _class(cls).names


def _class(cls: type[BaseException]) -> _Class:
    known = _CLASSES.get(cls)
    if known is None:
        known = _look_at(cls)
        if len(_CLASSES) >= _MOST_CLASSES:
            _CLASSES.clear()
        if _is_lasting(cls):
            _CLASSES[cls] = known
    return known


def _is_lasting(cls: type) -> bool:
    """Tell whether a class stands in its module under its name: one made by an attempt may hold what that held."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _look_at(cls: type[BaseException]) -> _Class:
    dotted = []
    for base in cls.__mro__:
        dotted.append(f"{base.__module__}.{base.__qualname__}")
        if base.__module__ == "builtins":
            dotted.append(base.__qualname__)
    ours = issubclass(cls, Failure | SessionLocked | RunFailed | RunRefused | BaseExceptionGroup)
    if ours or any(hasattr(cls, name) for name in _SAYING):
        return _Class(tuple(dotted), None)
    return _Class(tuple(dotted), classify((), Facts(tuple(dotted))))


def known_kind(error: BaseException, rules: tuple[Rule, ...]) -> Kind | None:
    """Return what an exception of our own, or a group, says of its kind."""
    match error:
        case Failure():
            return error.kind
        case SessionLocked():
            return Kind.BUSY
        case RunFailed():
            return _kind_of_child(error)
        case RunRefused():
            return Kind.ERROR
        case BaseExceptionGroup():
            return least_retryable(_kinds_of_members(error, rules))
        case _:
            return None


def _kind_of_child(error: RunFailed) -> Kind:
    last = error.report.attempts[-1].failure if error.report.attempts else None
    return Kind.ERROR if last is None else last.kind


def _kinds_of_members(group: BaseExceptionGroup[Any], rules: tuple[Rule, ...]) -> frozenset[Kind]:
    """Return the kind of each member; a group within it has those of its members, unless a rule names it."""
    kinds: set[Kind] = set()

    def is_known(member: BaseException) -> bool:
        facts, is_group = _facts(member), isinstance(member, BaseExceptionGroup)
        if is_group and not any(matches(rule, facts) for rule in rules):
            return False
        kinds.add(classify(rules, facts, None if is_group else known_kind(member, rules)))
        return True

    _walk(group, is_known)
    return frozenset(kinds)


def _facts(error: BaseException) -> Facts:
    return Facts(names(type(error)), text_of(error), status_of(error))


def _walk(group: BaseExceptionGroup[Any], is_known: Callable[[BaseException], bool]) -> None:
    """Ask for each member once, and for the members of a group that is not known. Groups may be nested deeply."""
    todo: list[BaseException] = list(group.exceptions)
    seen = set(map(id, todo))
    while todo:
        member = todo.pop()
        if not is_known(member) and isinstance(member, BaseExceptionGroup):
            for below in member.exceptions:
                if id(below) not in seen:
                    seen.add(id(below))
                    todo.append(below)


def retry_after_s(error: BaseException, wall: float) -> float | None:
    """Return the seconds that an exception asks to wait: of a run within it the last failure's, of a group the most."""
    match error:
        case RunFailed():
            last = error.report.attempts[-1].failure if error.report.attempts else None
            return None if last is None else last.retry_after_s
        case BaseExceptionGroup():
            return _longest_of_members(error, wall)
        case _:
            return stated_wait_s(error, wall)


def _longest_of_members(group: BaseExceptionGroup[Any], wall: float) -> float | None:
    longest: float | None = None

    def is_known(member: BaseException) -> bool:
        nonlocal longest
        if isinstance(member, BaseExceptionGroup):
            return False
        stated = retry_after_s(member, wall)
        if stated is not None:
            longest = stated if longest is None else max(longest, stated)
        return True

    _walk(group, is_known)
    return longest


def where(error: BaseException) -> str:
    """Return where an exception was raised, and its causes, innermost call last: at most 8 KiB, no source lines."""
    if error.__cause__ is None and error.__context__ is None:
        return _frames(error)
    return "\n\n".join(reversed(_chain(error)))[-_MOST_TRACEBACK:]


def _chain(error: BaseException) -> list[str]:
    chain: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(chain) < 8:
        seen.add(id(current))
        chain.append(f"{_frames(current)}\n{type(current).__name__}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


def _frames(error: BaseException) -> str:
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_qualname}')
        traceback = traceback.tb_next
    return "\n".join(lines[-_MOST_FRAMES:])[-_MOST_TRACEBACK:]
