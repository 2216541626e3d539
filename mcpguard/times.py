"""Times as logs and events have them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(now: float) -> str:
    """Return a time in UTC, to the millisecond: `2026-09-21T14:13:20.250Z`."""
    milliseconds = int(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(8)  # many lines share their second
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
