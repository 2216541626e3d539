"""Events on their way out: never in the way of a call, and never lost without being counted.

A call puts its event into a bounded queue and goes on. One thread writes what waits there to the file and the
spool; another sends the spool to the registry. Where the registry fails, the sender waits, longer each time
and by chance within that, so that a registry that comes back isn't met by all servers at once.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic_core import to_json

from identity.principal import JsonValue
from mcpguard.ingest import TIMEOUT, Answer, Ingest
from mcpguard.logs import FIELDS
from mcpguard.spool import Batch, Spool, batches

CAPACITY: Final = 10_000
"""Events that wait for the writer at most."""
EVERY: Final = 0.2
"""Seconds between two looks of the writer: what a killed process can lose. It looks by itself: to wake it for
each event would make the loop hand over the interpreter each time.
"""
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 60.0
"""Seconds between two tries: at most the first, doubled with each failure, and at most the last."""

Drop: TypeAlias = Literal["queue_full", "file_failed", "spool_full", "spool_failed", "refused", "unsent"]

_log = logging.getLogger("mcpguard.usage")


class Reporter:
    """Writes events to a file, to a registry, or to both."""

    def __init__(
        self,
        file: Path | None = None,
        ingest: Ingest | None = None,
        spool: Spool | None = None,
        *,
        capacity: int = CAPACITY,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make one that does nothing before `start`. An `ingest` needs a `spool`."""
        self._file = file
        self._ingest = ingest
        self._spool = spool
        self._capacity = capacity
        self._jitter = jitter
        self._lock = threading.Lock()
        self._queue: deque[dict[str, JsonValue]] = deque()
        self._counts: Counter[str] = Counter()
        self._spooled, self._closing = threading.Event(), threading.Event()
        self._stop_by = 0.0
        self._writer = threading.Thread(target=self._write_on, name="usage-writer", daemon=True)
        self._sender = threading.Thread(target=self._send_on, name="usage-sender", daemon=True)
        self._failures = 0

    @property
    def active(self) -> bool:
        """Whether events go anywhere."""
        return self._file is not None or self._ingest is not None

    def start(self) -> None:
        """Begin to write and send; what an earlier process left in the spool goes first."""
        if self.active:
            self._writer.start()
        if self._ingest is not None:
            self._spooled.set()
            self._sender.start()

    def put(self, event: dict[str, JsonValue]) -> None:
        """Queue one event. Never waits."""
        if not self.active:
            return
        if len(self._queue) >= self._capacity:
            self._drop("queue_full", 1)
            return
        self._queue.append(event)

    def close(self, timeout: float) -> None:
        """Write what waits and try to send it, within `timeout` seconds."""
        self._stop_by = time.monotonic() + timeout
        self._closing.set()
        if self._writer.is_alive():
            self._writer.join(timeout)
        self._spooled.set()
        if self._sender.is_alive():
            self._sender.join(max(0.0, self._stop_by - time.monotonic()) + 1)
        self._account()

    def counts(self) -> dict[str, int]:
        """Return `written`, `sent` and `retries`, and what was dropped, by reason."""
        with self._lock:
            return dict(self._counts)

    def waiting(self) -> int:
        """Return how many events wait for the writer."""
        return len(self._queue)

    def spooled(self) -> int:
        """Return how many bytes wait for the registry."""
        return self._spool.waiting() if self._spool is not None else 0

    def _count(self, what: str, number: int) -> None:
        with self._lock:
            self._counts[what] += number

    def _drop(self, why: Drop, number: int) -> None:
        if number:
            self._count(why, number)

    # --- from the queue to the file and the spool

    def _write_on(self) -> None:
        while True:
            closing = self._closing.wait(EVERY)  # read before the queue: what was put before is still written
            self._write([self._queue.popleft() for _ in range(len(self._queue))])
            if closing:
                return

    def _write(self, events: Sequence[dict[str, JsonValue]]) -> None:
        lines = [to_json(event) for event in events]
        if not lines:
            return
        if self._file is not None:
            self._append(self._file, lines)
        if self._spool is not None and self._ingest is not None:
            self._keep(self._spool, lines)

    def _append(self, file: Path, lines: Sequence[bytes]) -> None:
        data = memoryview(b"".join(line + b"\n" for line in lines))
        try:
            # Opened anew each time, so that a file that was rotated away is let go of.
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            self._drop("file_failed", len(lines))
            _log.error("usage events can't be written to %s: %s", file, error.strerror)
            return
        self._count("written", len(lines))

    def _keep(self, spool: Spool, lines: Sequence[bytes]) -> None:
        for batch in batches(lines):
            try:
                dropped = spool.put(batch)
            except OSError as error:
                self._drop("spool_failed", len(batch))
                _log.error("usage events can't be kept for the registry: %s", error.strerror)
                continue
            if dropped:
                self._drop("spool_full", dropped)
                _log.error("%d usage events dropped: the spool is full", dropped)
        self._spooled.set()

    # --- from the spool to the registry

    def _send_on(self) -> None:
        while True:
            self._spooled.wait()
            self._spooled.clear()
            last = self._closing.is_set() and not self._writer.is_alive()
            while (batch := self._next()) is not None:
                try:
                    wait = self._send(batch)
                except OSError as error:  # the spool's disk
                    wait = self._later(f"spool: {error.strerror}", 0.0)
                if wait is None:
                    continue
                if self._closing.is_set():
                    return  # one try, and what is left is for the next start
                self._closing.wait(wait)
            if last:
                return

    def _next(self) -> Batch | None:
        try:
            return self._spool.oldest() if self._spool is not None else None
        except OSError as error:
            _log.error("the spool can't be read: %s", error.strerror)
            return None

    def _send(self, batch: Batch) -> float | None:
        """Try once; None where the batch is done with, else the seconds to wait."""
        ingest, spool = self._ingest, self._spool
        if ingest is None or spool is None:
            return None
        left = self._stop_by - time.monotonic() if self._closing.is_set() else TIMEOUT
        posted = ingest.post(batch, max(0.1, min(TIMEOUT, left)))
        if posted.answer is Answer.LATER:
            return self._later(posted.why, posted.after)
        self._failures = 0
        if posted.answer is Answer.TAKEN:
            self._count("sent", len(batch.events))
        elif posted.answer is Answer.TOO_LARGE and len(batch.events) > 1:
            half = len(batch.events) // 2
            self._drop("spool_full", spool.put(batch.events[:half]) + spool.put(batch.events[half:]))
        else:
            self._drop("refused", len(batch.events))
            fields = {"events": len(batch.events), "answer": posted.why}
            _log.error("the registry refused usage events for good", extra={FIELDS: fields})
        spool.done(batch)
        return None

    def _later(self, why: str, after: float) -> float:
        self._failures += 1
        self._count("retries", 1)
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures - 1, 20))
        wait = after + self._jitter(0.0, longest)
        level = logging.WARNING if self._failures in (1, 10, 100) else logging.DEBUG
        _log.log(level, "usage events wait for the registry", extra={FIELDS: {"why": why, "wait": wait}})
        return wait

    def _account(self) -> None:
        """Say what is lost where nothing outlives the process."""
        if self._writer.is_alive():
            self._drop("unsent", len(self._queue))
        spool = self._spool
        if spool is None or spool.lasting:
            return
        while (batch := spool.oldest()) is not None:
            self._drop("unsent", len(batch.events))
            spool.done(batch)
        lost = self.counts().get("unsent", 0)
        if lost:
            _log.error("%d usage events were never sent; a spool folder would have kept them", lost)
