"""Logs as JSON lines on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from mcpguard.redact import Redactor

FIELDS = "fields"
"""The attribute of a log record that holds its fields: `log.info("call", extra={FIELDS: {...}})`."""


_LONGEST_MESSAGE = 8192
_LONGEST_TRACEBACK = 16_384


class JsonLines(logging.Formatter):
    """One record, one line, one JSON object; without what looks like a secret in its free text."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
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
        return json.dumps(line, default=str)


def configure(level: int = logging.INFO, redactor: Redactor | None = None) -> None:
    """Send every log of this process to stderr as JSON lines, whoever set up logging before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The SDK says each session's coming and going; a call's own line says more.
    logging.getLogger("mcp").setLevel(max(level, logging.WARNING))
