"""A stand-in for a model on loopback: it answers as its script says, session by session. Standard library only.

It speaks as much of `POST /v1/chat/completions` as the examples need. A request names its session in the field
`user`; each call of a session takes the next step of its script, and after the last one it answers. What it saw
is in `calls`: the other side's view of whether attempts overlap, and of when they came.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self


@dataclass(frozen=True)
class Answers:
    """Answer with `text`, after so many seconds."""

    text: str = "Done."
    after_s: float = 0.0


@dataclass(frozen=True)
class Refuses:
    """Answer with an error status, with a Retry-After of so many seconds if there is one."""

    status: int
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Hangs:
    """Read the request and never answer."""


Step = Answers | Refuses | Hangs
Script = Mapping[str, Sequence[Step]]


@dataclass
class Call:
    """One call as the model saw it: when it came, and when the client was served or gone, by the loop's clock."""

    session: str
    step: Step
    came_at: float
    left_at: float | None = None


@dataclass
class StandInModel:
    """`async with StandInModel({"agent:main:mail": [Hangs(), Answers("Hello.")]}) as model:` serves at `model.url`."""

    script: Script = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._connections: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def of(self, session: str) -> list[Call]:
        """Return the calls of one session, in the order in which they came."""
        return [call for call in self.calls if call.session == session]

    def most_at_once(self, session: str) -> int:
        """Return how many calls of a session were open at the same time, at most."""
        calls = self.of(session)
        return max((sum(other.came_at <= call.came_at < _left(other) for other in calls) for call in calls), default=0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (request := await _read_request(reader)) is not None:
                await self._serve(request, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the model is closed: nobody is left to be told
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        session = str(request.get("user", ""))
        script = self.script.get(session, ())
        place = len(self.of(session))
        call = Call(session, script[place] if place < len(script) else Answers(), now())
        self.calls.append(call)
        try:
            match call.step:
                case Hangs():
                    await reader.read()  # until the client hangs up
                case Refuses(status, retry_after_s):
                    writer.write(_response(status, {"error": {"message": HTTPStatus(status).phrase}}, retry_after_s))
                case Answers(text, after_s):
                    await asyncio.sleep(after_s)  # it thinks
                    message = {"role": "assistant", "content": text}
                    writer.write(_response(200, {"choices": [{"index": 0, "message": message}]}))
            await writer.drain()
        finally:
            call.left_at = now()


def _left(call: Call) -> float:
    return float("inf") if call.left_at is None else call.left_at


async def _read_request(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next request's JSON; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    shape = json.loads(await reader.readexactly(length) or b"{}")
    return shape if isinstance(shape, dict) else {}


def _response(status: int, shape: dict[str, Any], retry_after_s: int | None = None) -> bytes:
    body = json.dumps(shape).encode()
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if retry_after_s is not None:
        head.append(f"Retry-After: {retry_after_s}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body
