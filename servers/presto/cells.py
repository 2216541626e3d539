"""Values as JSON for a model: nothing rounded in silence, nothing that isn't JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

from servers.presto.engine import Cell, Column, Limits, Rows

_EXACT_DIGITS = 15
"""A double keeps that many decimal digits."""
_EXACT_INTEGER = 2**53


def cell(value: object) -> Cell:
    """Turn one value into JSON. What a JSON number would round keeps its exact text, like dates and times."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) <= _EXACT_DIGITS:
        return float(value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


class Collector:
    """Takes rows until a limit is reached; an engine's own LIMIT is not relied on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rows: list[tuple[Cell, ...]] = []
        self._size = 0
        self._cut: Literal["rows", "bytes"] | None = None

    def take(self, batch: Iterable[Sequence[object]]) -> bool:
        """Take some rows; False once a limit is reached, and nothing more is taken."""
        for values in batch:
            row = tuple(cell(value) for value in values)
            self._size += len(json.dumps(row, ensure_ascii=False).encode())
            if len(self._rows) == self._limits.rows or self._size > self._limits.bytes:
                self._cut = "rows" if len(self._rows) == self._limits.rows else "bytes"
                return False
            self._rows.append(row)
        return True

    def result(self, columns: Iterable[Column]) -> Rows:
        """Return what was taken."""
        return Rows(tuple(columns), tuple(self._rows), self._cut)
