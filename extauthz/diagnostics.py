"""What the process says about itself: one JSON object a line, for whoever runs it. Not the decision log."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_CARRIED = ("decision_id",)


class JsonFormatter(logging.Formatter):
    """A record as one line: time, level, logger, message, and what `extra` said of a decision."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in _CARRIED if name in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def to_stderr(level: int = logging.INFO) -> None:
    """Send all logging to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # httpx tells of every fetch of keys at INFO.
    logging.getLogger("httpx").setLevel(logging.WARNING)
