"""One SQLite file: a writer, and readers beside it that never wait for the writer."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.knowledge.engine import EngineError

_STEPS = 20_000
"""Virtual machine instructions between two looks at the clock."""


class Database:
    """The file, open."""

    def __init__(self, path: Path, *, seconds: float = 10.0) -> None:
        """Open or create the file; one read may take `seconds`."""
        self._path = path
        self._seconds = seconds
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self.writer = self._connect()
        try:
            self.writer.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error:
            self.writer.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, the only one at a time; rolled back where it fails."""
        with self._lock:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
            except BaseException:
                self.writer.execute("ROLLBACK")
                raise
            self.writer.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread, seeing one state of the file throughout.

        Raises:
            EngineError: what was read took too long.

        """
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        until = time.monotonic() + self._seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise EngineError("The search took too long. Use fewer and rarer words.") from None
            raise
        finally:
            connection.set_progress_handler(None, 0)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.put(connection)

    def close(self) -> None:
        """Close every connection that is idle, and the writer."""
        while not self._idle.empty():
            self._idle.get().close()
        with self._lock:
            self.writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")  # what a crash loses is indexed again
        return connection
