"""Letting go of an exception: what its frames hold must be free before the backoff begins, without a collector."""

import types
from opcode import opmap
from typing import Final

_SUSPENDABLE: Final = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
_YIELD_VALUE: Final = opmap["YIELD_VALUE"]


def let_go(error: BaseException) -> None:
    """Clear the frames of an exception, of its causes and of the group's members, and drop their tracebacks.

    A frame that is suspended belongs to somebody alive (a background worker that passed its exception on through a
    future): up to Python 3.12 clearing it would close that coroutine, so it is left alone. An exception object that
    two sessions share loses its traceback with the first of them to let go: what that held must be free.
    """
    if error.__cause__ is None and error.__context__ is None and not isinstance(error, BaseExceptionGroup):
        _clear(error)
        return
    todo, seen = [error], {id(error)}
    while todo:
        error = todo.pop()
        _clear(error)
        others = [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            others += error.exceptions
        for other in others:
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                todo.append(other)


def _clear(error: BaseException) -> None:
    traceback, error.__traceback__ = error.__traceback__, None
    while traceback is not None:
        frame = traceback.tb_frame
        if not _is_suspended(frame):
            try:  # noqa: SIM105 - suppress() costs more than all that is done here
                frame.clear()
            except RuntimeError:  # it is executing: one of our own
                pass
        traceback = traceback.tb_next


def _is_suspended(frame: types.FrameType) -> bool:
    code = frame.f_code
    if not code.co_flags & _SUSPENDABLE or frame.f_lasti < 0:
        return False
    return code.co_code[frame.f_lasti] == _YIELD_VALUE
