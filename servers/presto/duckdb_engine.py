"""The embedded engine: one DuckDB file, opened so that nothing but reading it is possible."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb

from servers.presto.engine import Cell, Column, EngineError, Execution, Limits, Parameters, Rows, Table

MEMORY_LIMIT = "512MB"
THREADS = 2
_BATCH = 256
_LONGEST_MESSAGE = 300
_EXACT_DIGITS = 15
"""A double keeps that many decimal digits."""

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

_TABLES = """
select table_name, coalesce(comment, ''), estimated_size
from duckdb_tables() where schema_name = 'main' and not internal and not temporary order by table_name
"""
_COLUMNS = """
select table_name, column_name, data_type, coalesce(comment, '')
from duckdb_columns() where schema_name = 'main' and not internal order by table_name, column_index
"""


class DuckDBEngine:
    """An `Engine` on one DuckDB file, which must exist."""

    name = "duckdb"
    dialect = "duckdb"

    def __init__(self, path: Path, memory_limit: str = MEMORY_LIMIT) -> None:
        """Open the file.

        Raises:
            EngineError: it is not there, or is no DuckDB file.

        """
        settings = {"memory_limit": memory_limit, **_SETTINGS}
        try:
            self._connection = duckdb.connect(str(path), read_only=True, config=settings)
            self._tables = tuple(_read_tables(self._connection))
        except duckdb.Error as error:
            raise EngineError(f"can't open the warehouse {path}: {_first_line(error)}") from None

    def tables(self) -> Sequence[Table]:
        """Return the tables; the file is read-only, so they never change."""
        return self._tables

    def start(self, sql: str, parameters: Parameters) -> Execution:
        """Prepare one query, after asking DuckDB's own parser whether it is one that only reads."""
        try:
            kinds = [statement.type for statement in duckdb.extract_statements(sql)]
        except duckdb.Error as error:
            raise EngineError(_advice(error)) from None
        if kinds != [duckdb.StatementType.SELECT]:
            raise EngineError("Send exactly one SELECT.")
        return _Query(self._connection.cursor(), sql, parameters)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class _Query:
    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> None:
        self._cursor = cursor
        self._sql = sql
        self._parameters = dict(parameters)
        self._interrupted = False

    def fetch(self, limits: Limits) -> Rows:
        if self._interrupted:
            raise EngineError("The query was stopped.")
        try:
            with self._cursor as cursor:
                result = cursor.execute(self._sql, self._parameters or None)
                columns = tuple(Column(str(d[0]), str(d[1]).lower()) for d in result.description or ())
                return _fetch(result, columns, limits)
        except duckdb.InterruptException:
            raise EngineError("The query was stopped.") from None
        except duckdb.Error as error:
            raise EngineError(_advice(error)) from None

    def interrupt(self) -> None:
        self._interrupted = True
        self._cursor.interrupt()


def _fetch(result: duckdb.DuckDBPyConnection, columns: tuple[Column, ...], limits: Limits) -> Rows:
    """Take rows until a limit is reached; the engine's own LIMIT is not relied on."""
    rows: list[tuple[Cell, ...]] = []
    size = 0
    while batch := result.fetchmany(_BATCH):
        for values in batch:
            row = tuple(_cell(value) for value in values)
            size += len(json.dumps(row, ensure_ascii=False).encode())
            if len(rows) == limits.rows:
                return Rows(columns, tuple(rows), "rows")
            if size > limits.bytes:
                return Rows(columns, tuple(rows), "bytes")
            rows.append(row)
    return Rows(columns, tuple(rows))


def _cell(value: object) -> Cell:
    """Turn one value into JSON. What a JSON number would round keeps its exact text, like dates and times."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal) and value.is_finite() and len(value.as_tuple().digits) <= _EXACT_DIGITS:
        return float(value)
    return str(value)


def _read_tables(connection: duckdb.DuckDBPyConnection) -> Iterable[Table]:
    columns: dict[str, list[Column]] = {}
    for table, name, kind, description in connection.execute(_COLUMNS).fetchall():
        columns.setdefault(table, []).append(Column(name, kind.lower(), description))
    for name, description, rows in connection.execute(_TABLES).fetchall():
        yield Table(name, description, rows, tuple(columns.get(name, ())))


def _first_line(error: Exception) -> str:
    # Cut, since a message may quote the value it is about, and a value may be long.
    return str(error).partition("\n")[0][:_LONGEST_MESSAGE]


def _advice(error: duckdb.Error) -> str:
    message = _first_line(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return "The query needs too much memory. Filter more, or aggregate over fewer columns."
    if isinstance(error, duckdb.BinderException):
        return f"{message} Look at the columns with describe_table and try again."
    return f"{message} The SQL here is DuckDB's dialect; mend the query and try again."
