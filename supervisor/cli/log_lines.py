"""What a run logs to stderr: one line for each event, for a person or as JSON.

A reader of stderr that stalls must not stall the supervision: what it does not take waits here, up to a bound.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from supervisor.clock import SystemClock, iso_utc
from supervisor.tasks import wait_until
from supervisor.work.sink import Sink

_MOST_UNWRITTEN: Final = 1024 * 1024
_LAST_WORDS_S: Final = 1.0


class LogFormat(StrEnum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


class LogLines(logging.Handler):
    """The log of one run, to be entered in its loop. `quiet`: only what went wrong; a refusal is no such thing where
    `refusals_are_fine`. `dated`: what is said beside the events has its time, as they have.

    `job_of` may be set: it tells by a run's id whose tick it is.

    The library's own warnings, on the logger `turnkeeper`, come here too.
    """

    def __init__(
        self, form: LogFormat, session: str, *, quiet: bool, refusals_are_fine: bool, dated: bool = False
    ) -> None:
        super().__init__(logging.WARNING)
        from supervisor import log  # now: there may be no descriptor to load it with when there is something to say

        self._log = log
        self._session = session
        self._refusals_are_fine = refusals_are_fine
        self._form = form
        self._quiet, self._dated = quiet, dated
        self.job_of: Callable[[str], str | None] = lambda _: None
        self._unwritten = bytearray()
        self._dropped = 0
        self._json = _json_logger(self._write) if form is LogFormat.JSON else None

    async def __aenter__(self) -> Self:
        self._sink = Sink(2)
        self._all_written: asyncio.Future[None] | None = None
        logger = logging.getLogger("turnkeeper")
        logger.addHandler(self)
        logger.propagate = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logging.getLogger("turnkeeper").removeHandler(self)
        if self._dropped:
            self._dropped, number = 0, self._dropped
            self.warn(f"{number} lines of this log were dropped: its reader did not take them")
        if self._unwritten:
            loop = asyncio.get_running_loop()
            self._all_written = loop.create_future()
            await wait_until(self._all_written, loop.time() + _LAST_WORDS_S)
        self._sink.close()

    def tell(self, event: Any) -> None:
        """Log an event."""
        log = self._log
        bad = log.is_bad(event) and not (self._refusals_are_fine and log.is_refusal(event))
        if self._quiet and not bad:
            return
        job = self.job_of(event.run_id)
        if self._json is None:
            self._write(log.line(event, job))
        else:
            of_job = {} if job is None else {"job": job}
            (self._json.warning if bad else self._json.info)(**log.fields_of(event), **of_job)

    def note(self, message: str) -> None:
        """Log what goes on beside the runs."""
        if not self._quiet:
            self._say(message, "note")

    def warn(self, message: str) -> None:
        """Log what went wrong beside the run."""
        self._say(message, "warning")

    def _say(self, message: str, what: str) -> None:
        at = iso_utc(SystemClock().wall())
        if self._json is None:
            self._write(f"{at + ' ' if self._dated else ''}turnkeeper: {self._log.one_line(message)}")
        else:
            log = self._json.warning if what == "warning" else self._json.info
            log(what, at=at, session=self._session, message=message)

    def emit(self, record: logging.LogRecord) -> None:
        self.warn(record.getMessage())

    def _write(self, line: str) -> None:
        if len(self._unwritten) > _MOST_UNWRITTEN:
            self._dropped += 1
            return
        waits = bool(self._unwritten)
        self._unwritten += line.encode(errors="backslashreplace") + b"\n"
        if not waits:
            self._flush()
            if self._unwritten:
                self._sink.when_ready(self._flush)

    def _flush(self) -> None:
        with memoryview(self._unwritten) as rest:
            written = self._sink.write(rest)
        del self._unwritten[:written]
        if self._sink.is_gone:
            self._unwritten.clear()
        if not self._unwritten:
            self._sink.rest()
            if self._all_written is not None and not self._all_written.done():
                self._all_written.set_result(None)


class _Written:
    """Where structlog's lines go."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.info = self.warning = write


def _json_logger(write: Callable[[str], None]) -> Any:
    import structlog

    return structlog.wrap_logger(
        _Written(write),
        [structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        structlog.BoundLogger,
    )
