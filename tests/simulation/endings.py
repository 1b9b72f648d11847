"""How a play ends, and what kind of failure its exception must be recorded as."""

import asyncio

from policies.failure import Kind
from supervisor import Failure, RunRefused, SessionLocked
from tests.simulation.facts import BodyFacts
from tests.simulation.scenario import Play


class Context:
    """What an attempt built, and what must be free again before the next one: 10 MB of transcript, say."""


class Interrupt(BaseException):
    """As KeyboardInterrupt, but asyncio does not let it out of the loop."""


def end_as(play: Play, body: BodyFacts, context: Context) -> str:
    ending, _, how = play.ending.partition(":")
    text = f"{how} of attempt {body.number} of {body.run.key}"
    if ending in ("return", "together"):
        return text
    if ending == "fail":
        failure = Failure(Kind(how), text, play.retry_after)
        failure.context = context  # type: ignore[attr-defined]
        raise failure
    match how:
        case "chained":
            try:
                _deep(context)
            except KeyError as error:
                raise ValueError(text) from error
        case "group":
            errors: list[Exception] = []
            for _ in range(2):
                try:
                    _deep(context)
                except KeyError as error:
                    errors.append(error)
            raise ExceptionGroup(text, errors)
        case "stored":
            stored: BaseException | None = None
            try:
                _deep(context)
            except KeyError as error:
                stored = error
            raise ValueError(text, stored)
        case "cancelled":
            body.text = "by itself"
            raise asyncio.CancelledError(text)
        case "base":
            raise Interrupt(text)
        case "keyboard":
            raise KeyboardInterrupt(text)
        case _:
            raise ValueError(text)
    return text


def _deep(context: Context) -> None:
    raise KeyError("deep", context)


def how_of(error: BaseException) -> str:
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "raised"


def kind_of(error: BaseException) -> str:
    """The kind that this failure must be recorded as; empty where the checker does not say."""
    match error:
        case Failure():
            return error.kind.value
        case SessionLocked():
            return Kind.BUSY.value
        case asyncio.CancelledError() | KeyboardInterrupt() | SystemExit() | GeneratorExit():
            return Kind.CANCELLED.value
        case RunRefused() | ValueError() | Interrupt():
            return Kind.ERROR.value
        case _:
            return ""
