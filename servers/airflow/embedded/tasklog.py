"""A task's output on its way into the store: lines, cleaned, bounded, without the secrets it was given."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable

from servers.airflow.embedded.store import LogRow, Store

MAX_LINE = 4096
"""Bytes; the rest of a longer line is dropped."""
MAX_LOG = 1024 * 1024
"""Bytes of one attempt's log. Beyond it the middle is dropped: how it began and how it ended stays."""
HEAD = 64 * 1024
_PAUSE = 0.25
"""Seconds that lines may wait to be written together."""
_SHORTEST_SECRET = 4
_OVERHEAD = 32
"""Bytes that even an empty line counts for."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class TaskLog:
    """Writes one attempt's log. Used by one thread."""

    def __init__(
        self,
        store: Store,
        attempt: int,
        secrets: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.time,
        max_bytes: int = MAX_LOG,
        head: int = HEAD,
        after: int = 0,
    ) -> None:
        """`after` is the number of the last line that is there already."""
        self._store = store
        self._attempt = attempt
        self._secrets = sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._clock = clock
        self._max, self._head = max_bytes, head
        self._line = after
        self._partial = bytearray()
        self._overlong = False
        self._pending: list[LogRow] = []
        self._written_at = 0.0
        self._head_bytes = 0
        self._head_line: int | None = None
        self._tail: deque[tuple[int, int]] = deque()
        self._tail_bytes = 0
        self._dropped = 0

    def take(self, chunk: bytes) -> None:
        """Take some output; lines are written when they have waited for a moment."""
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._extend(piece)
            self._end_line()
        self._extend(rest)
        if self._pending and self._clock() - self._written_at >= _PAUSE:
            self.flush()

    def say(self, text: str, level: str) -> None:
        """Add a line of the engine's own."""
        if self._partial:
            self._end_line()
        self._append(text, level)

    def flush(self) -> None:
        """Write what waits."""
        gone, first = self._dropped, (self._head_line or 0) + 1
        keep = [row for row in self._pending if not first <= row.line <= gone]
        self._pending.clear()
        self._written_at = self._clock()
        self._store.add_lines(self._attempt, keep)
        if gone:
            self._store.drop_lines(self._attempt, first, gone)

    def _extend(self, piece: bytes) -> None:
        room = MAX_LINE - len(self._partial)
        self._partial += piece[:room]
        self._overlong = self._overlong or len(piece) > room

    def _end_line(self) -> None:
        text = bytes(self._partial).decode("utf-8", "replace")
        self._append(text + (" [the line goes on]" if self._overlong else ""), "")
        self._partial.clear()
        self._overlong = False

    def _append(self, text: str, level: str) -> None:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _CONTROLS.sub("", _ESCAPES.sub("", text))
        self._line += 1
        self._pending.append(LogRow(self._line, self._clock(), level, text))
        size = len(text.encode()) + _OVERHEAD
        if self._head_line is None and self._head_bytes + size <= self._head:
            self._head_bytes += size
            return
        if self._head_line is None:
            self._head_line = self._line - 1
        self._tail.append((self._line, size))
        self._tail_bytes += size
        while self._tail_bytes > self._max - self._head:
            self._dropped, size = self._tail.popleft()
            self._tail_bytes -= size
