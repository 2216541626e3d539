"""Batches of events that wait until the registry has them: in files that outlive the process, or in memory.

A batch is dropped in two cases, each counted: it is the oldest and there is no room for a newer one, or the
registry says that it will never take it.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BATCH_EVENTS = 200
BATCH_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Events, each as JSON."""

    name: str
    events: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return sum(map(len, self.events))


class Spool(Protocol):
    """A queue of batches, oldest first."""

    lasting: bool
    """Whether what is in it is still there after a restart."""

    def put(self, events: Sequence[bytes]) -> int:
        """Add a batch; return how many events were dropped for it."""

    def oldest(self) -> Batch | None:
        """Return the batch to send next."""

    def done(self, batch: Batch) -> None:
        """Forget a batch."""

    def waiting(self) -> int:
        """Return how many bytes wait."""


class MemorySpool:
    """Batches that end with the process."""

    lasting = False

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._batches: deque[Batch] = deque()

    def put(self, events: Sequence[bytes]) -> int:
        """Add a batch; the oldest make room."""
        batch = Batch(secrets.token_hex(8), tuple(events))
        dropped = 0
        with self._lock:
            while self._batches and self._held() + batch.size > self._limit:
                dropped += len(self._batches.popleft().events)
            self._batches.append(batch)
        return dropped

    def oldest(self) -> Batch | None:
        """Return the batch to send next."""
        with self._lock:
            return self._batches[0] if self._batches else None

    def done(self, batch: Batch) -> None:
        """Forget a batch; it may have been dropped meanwhile."""
        with self._lock:
            if self._batches and self._batches[0] is batch:
                self._batches.popleft()

    def waiting(self) -> int:
        """Return how many bytes wait."""
        with self._lock:
            return self._held()

    def _held(self) -> int:
        return sum(batch.size for batch in self._batches)


class FolderSpool:
    """Batches as files of JSON lines. Processes may share one: what is sent twice is known by its ids."""

    lasting = True

    def __init__(self, folder: Path, limit: int) -> None:
        """Use `folder`, with what an earlier process left in it.

        Raises:
            OSError: it can't be written to.

        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._own = secrets.token_hex(4)
        self._number = 0
        probe = folder / f".{self._own}"
        probe.touch(0o600)
        probe.unlink()

    def put(self, events: Sequence[bytes]) -> int:
        """Add a batch; the oldest make room.

        Raises:
            OSError: the disk is full, or gone.

        """
        self._number += 1
        body = b"".join(event + b"\n" for event in events)
        dropped = self._make_room(len(body))
        name = f"{time.time_ns():020d}-{self._own}-{self._number:06d}.jsonl"
        fresh = self._folder / f".{name}"
        with open(fresh, "wb", opener=_private) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._folder / name)
        return dropped

    def oldest(self) -> Batch | None:
        """Return the batch to send next.

        Raises:
            OSError: a file can't be read.

        """
        for path in self._files():
            try:
                body = path.read_bytes()
            except FileNotFoundError:
                continue  # another process has sent it
            return Batch(path.name, tuple(line for line in body.split(b"\n") if line))
        return None

    def done(self, batch: Batch) -> None:
        """Forget a batch."""
        (self._folder / batch.name).unlink(missing_ok=True)

    def waiting(self) -> int:
        """Return how many bytes wait."""
        return sum(_size(path) for path in self._files())

    def _make_room(self, size: int) -> int:
        files = self._files()
        held, dropped = sum(map(_size, files)), 0
        for path in files:
            if held + size <= self._limit:
                break
            held -= _size(path)
            try:
                dropped += path.read_bytes().count(b"\n")
            except FileNotFoundError:
                continue
            path.unlink(missing_ok=True)
        return dropped

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.jsonl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def batches(events: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Cut events into batches of a size that a registry takes."""
    found: list[Sequence[bytes]] = []
    start = size = 0
    for at, event in enumerate(events):
        if at > start and (at - start >= BATCH_EVENTS or size + len(event) > BATCH_BYTES):
            found.append(events[start:at])
            start, size = at, 0
        size += len(event)
    if start < len(events):
        found.append(events[start:])
    return found
