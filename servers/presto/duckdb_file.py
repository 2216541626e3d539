"""One DuckDB file: read by many cursors of one read-only connection, and now and then left to a writer.

DuckDB lets a process open a file either for reading or for writing, and a file that anybody writes is nobody
else's to open. So a writer gets it alone: new readers wait, those that read may finish, the late ones are
stopped, the connection closes, and opens again when the writer is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from servers.presto.duckdb_errors import first_line
from servers.presto.engine import EngineError

THREADS = 2
_LOOK = 0.05
"""Seconds between two looks at whether a waiting reader is still wanted."""

# The SQL guard is the first wall, and this the second: no writing, no files, no network, no extensions, no
# Python variables as tables, and no way to unlock any of it.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "max_temp_directory_size": "0MB",
    "threads": THREADS,
    "lock_configuration": True,
}


class DuckDBFile:
    """The file, which must exist."""

    def __init__(self, path: Path, memory_limit: str) -> None:
        """Open it.

        Raises:
            EngineError: it is not there, or is no DuckDB file.

        """
        self.path = path
        self.memory_limit = memory_limit
        self._changed = threading.Condition()
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        self._given_away = False
        self._closed = False
        self._connection: duckdb.DuckDBPyConnection | None = self._open()

    @contextmanager
    def reading(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a cursor, once no writer has the file.

        Raises:
            EngineError: the wait was `stopped`, or the file can't be opened.

        """
        cursor = self._cursor(stopped)
        try:
            yield cursor
        finally:
            with self._changed:
                cursor.close()
                self._cursors.discard(cursor)
                self._changed.notify_all()

    @contextmanager
    def alone(self, patience: float) -> Iterator[None]:
        """Close the file, so that a writer can have it; readers still at it after `patience` are stopped.

        Raises:
            EngineError: another writer has it.

        """
        with self._changed:
            if self._given_away:
                raise EngineError("Another table is being overwritten. Call again in some seconds.")
            self._given_away = True
        try:
            self._empty(time.monotonic() + patience)
            yield
        finally:
            with self._changed:
                self._given_away = False
                self._changed.notify_all()

    def close(self) -> None:
        """Close the file for good."""
        with self._changed:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _cursor(self, stopped: Callable[[], bool]) -> duckdb.DuckDBPyConnection:
        with self._changed:
            while self._given_away and not stopped():
                self._changed.wait(_LOOK)
            if stopped() or self._closed:
                raise EngineError("The query was stopped.")
            if self._connection is None:
                self._connection = self._open()
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
            return cursor

    def _empty(self, late: float) -> None:
        with self._changed:
            while self._cursors:
                if time.monotonic() >= late:
                    for cursor in self._cursors:
                        cursor.interrupt()  # again and again: one that comes before its query begins is lost
                self._changed.wait(_LOOK)
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> duckdb.DuckDBPyConnection:
        settings = {"memory_limit": self.memory_limit, **_SETTINGS}
        try:
            return duckdb.connect(str(self.path), read_only=True, config=settings)
        except duckdb.Error as error:
            raise EngineError(f"can't open the warehouse {self.path}: {first_line(error)}") from None
