"""Logs as JSON lines on stderr, written beside the calls that they tell of.

A thread formats and writes: whoever reads stderr slowly, or not at all, must not hold up calls. What waits is
bounded; what doesn't fit is dropped, and the next line says how much that was.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections import deque
from typing import TextIO

from pydantic_core import to_json

from mcpguard.redact import Redactor
from mcpguard.times import rfc3339

FIELDS = "fields"
"""The attribute of a log record that holds its fields: `log.info("call", extra={FIELDS: {...}})`."""
CAPACITY = 10_000
"""Records that wait at most."""
EVERY = 0.1
"""Seconds between two looks of the writer. It looks by itself: to wake it for each record would make the loop
hand over the interpreter each time.
"""

_LONGEST_MESSAGE = 8192
_LONGEST_TRACEBACK = 16_384


class JsonLines(logging.Formatter):
    """One record, one line, one JSON object; without what looks like a secret in its free text."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redactor.text(record.getMessage()[:_LONGEST_MESSAGE]),
        }
        fields: object = getattr(record, FIELDS, None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info:
            # The end of a traceback says most.
            line["exception"] = self._redactor.text(
                self.formatException(record.exc_info)[-_LONGEST_TRACEBACK:]
            )
        return to_json(line, fallback=str, inf_nan_mode="strings").decode()


_NOWHERE = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__


class Light(logging.LogRecord):
    """A record that doesn't say where in the code it was made: there is one a call, and that takes long."""

    def __init__(self, logger: str, level: int, message: str, fields: dict[str, object]) -> None:
        self.__dict__.update(_NOWHERE)  # formatters read that
        self.name, self.levelno, self.levelname = logger, level, logging.getLevelName(level)
        self.msg, self.fields = message, fields
        self.created = time.time()
        self.msecs = self.created % 1 * 1000


class Beside(logging.Handler):
    """Hands records to a thread that writes them."""

    def __init__(self, stream: TextIO, formatter: JsonLines, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self._stream = stream
        self._capacity = capacity
        self._waiting: deque[logging.LogRecord] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue a record; never waits, so it takes no lock either."""
        if len(self._waiting) >= self._capacity:
            self.dropped += 1
            return False
        self._waiting.append(record)
        return True

    def close(self) -> None:
        """Write what waits."""
        self._closing.set()
        self._thread.join(5)
        super().close()

    def _run(self) -> None:
        told = 0
        while True:
            closing = self._closing.wait(EVERY)  # read before the queue: what was put before is still written
            records = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lost, told = self.dropped - told, self.dropped
            if lost:
                records.append(_lost(lost))
            if records:
                self._write(records)
            if closing:
                return

    def _write(self, records: list[logging.LogRecord]) -> None:
        lines = "".join(self.format(record) + "\n" for record in records)
        try:
            self._stream.write(lines)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more; there is nowhere left to say so
            self.dropped += len(records)


def _lost(number: int) -> logging.LogRecord:
    said = "%d log records were dropped: stderr is read too slowly"
    return logging.LogRecord(__name__, logging.ERROR, "", 0, said, (number,), None)


def configure(level: int = logging.INFO, redactor: Redactor | None = None) -> None:
    """Send every log of this process to stderr as JSON lines, whoever set up logging before."""
    handler = Beside(sys.stderr, JsonLines(redactor))
    atexit.register(handler.close)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The SDK says each session's coming and going; a call's own line says more.
    logging.getLogger("mcp").setLevel(max(level, logging.WARNING))
    # What a line doesn't tell needn't be found out for each record (the logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
