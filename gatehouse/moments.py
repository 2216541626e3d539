"""Times as people type them."""

from __future__ import annotations

import re
from datetime import datetime

from gatehouse.errors import UsageFailure

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: float) -> float:
    """`90m`, `12h`, `7d` from now, or an RFC 3339 time with its zone, in seconds since the epoch."""
    span = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if span is not None:
        return now + int(span[1]) * _UNITS[span[2]]
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "say a span such as 12h, or a time such as 2026-12-24T00:00:00Z"
        raise UsageFailure(f"{text!r} is no time", hint) from error
    if parsed.tzinfo is None:
        raise UsageFailure(f"{text!r} has no zone", f"in UTC it is {text}Z")
    return parsed.timestamp()
