"""The embedded engine: one DuckDB file, opened so that nothing but reading it is possible.

Its one writer is another process, for the moment that it takes (`duckdb_overwrite`).
"""

# ruff: noqa: ARG002 - every method of an `Engine` is told who asks; here everybody sees the same

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from servers.presto.cells import Collector
from servers.presto.duckdb_errors import advice
from servers.presto.duckdb_file import DuckDBFile
from servers.presto.duckdb_overwrite import overwrite
from servers.presto.engine import (
    Asker,
    Column,
    EngineError,
    Estimate,
    Execution,
    Limits,
    Overwrite,
    Overwritten,
    Rows,
    Table,
)
from servers.presto.names import Namespace, TableName

MEMORY_LIMIT = "512MB"
_BATCH = 256

_TABLES = """
select database_name, schema_name, table_name, coalesce(comment, ''), estimated_size
from duckdb_tables() where database_name = current_database() and not internal and not temporary
order by all
"""
_COLUMNS = """
select database_name, schema_name, table_name, column_name, data_type, coalesce(comment, '')
from duckdb_columns() where database_name = current_database() and not internal
order by database_name, schema_name, table_name, column_index
"""


class DuckDBEngine:
    """An `Engine` on one DuckDB file, which must exist. Everybody sees the same tables."""

    name = "duckdb"
    title = "DuckDB"
    dialect = "duckdb"

    def __init__(self, path: Path, memory_limit: str = MEMORY_LIMIT) -> None:
        """Open the file.

        Raises:
            EngineError: it is not there, or is no DuckDB file.

        """
        self._file = DuckDBFile(path, memory_limit)
        self._catalog = ""
        self._tables: Mapping[TableName, Table] = {}
        self._look()

    @property
    def namespace(self) -> Namespace:
        """Return the file's tables: nobody else changes them."""
        return Namespace(self._catalog, "main", frozenset({self._catalog}), frozenset(self._tables))

    def catalogs(self, asker: Asker) -> Sequence[str]:
        """Return the one there is."""
        return [self._catalog]

    def schemas(self, asker: Asker, catalog: str) -> Sequence[str]:
        """Return the schemas that have tables."""
        return sorted({name.schema for name in self._tables})

    def tables(self, asker: Asker, catalog: str, schema: str) -> Sequence[Table]:
        """Return a schema's tables."""
        return [table for name, table in sorted(self._tables.items()) if name.schema == schema]

    def table(self, asker: Asker, name: TableName) -> Table:
        """Return one table with its columns."""
        return self._tables[name]

    def check(self, asker: Asker, sql: str) -> None:
        """Bind the query, which names each column and type that is wrong."""
        self._explain(sql)

    def estimate(self, asker: Asker, sql: str) -> Estimate:
        """Read the estimates off the plan; DuckDB has none in bytes."""
        plan = self._explain(sql)
        scanned = [_cardinality(node) for node in _nodes(plan) if "Table" in node.get("extra_info", {})]
        known = [rows for rows in scanned if rows is not None]
        return Estimate(_result_rows(plan), sum(known) if len(known) == len(scanned) else None, None)

    def start(self, asker: Asker, sql: str) -> Execution:
        """Prepare one query, after asking DuckDB's own parser whether it is one that only reads."""
        _only_select(sql)
        return _Query(self._file, sql)

    def count(self, asker: Asker, name: TableName) -> int:
        """Count a table's rows."""
        rows = _Query(self._file, f"select count(*) from {name.sql()}").fetch(Limits(1, 1000, 0))  # noqa: S608
        return int(str(rows.rows[0][0]))

    def overwrite(self, asker: Asker, order: Overwrite) -> Overwritten:
        """Stage the rows in a file of their own while others read, then swap them in, alone for a moment."""
        _only_select(order.sql)
        try:
            return overwrite(
                self._file, order, [column.name for column in self._tables[order.target].columns]
            )
        finally:
            self._look()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _look(self) -> None:
        with self._file.reading() as cursor:
            try:
                found = list(_read_tables(cursor))
                catalog = cursor.execute("select current_database()").fetchone()
            except duckdb.Error as error:
                raise EngineError(advice(error)) from None
        self._catalog = str(catalog[0]).lower() if catalog else ""
        self._tables = {table.name: table for table in found}

    def _explain(self, sql: str) -> dict[str, object]:
        _only_select(sql)
        found = _Query(self._file, f"explain (format json) {sql}").fetch(Limits(1, 1_000_000, 0))
        plan: list[dict[str, object]] = json.loads(str(found.rows[0][1]))
        return plan[0]


class _Query:
    def __init__(self, file: DuckDBFile, sql: str) -> None:
        self._file = file
        self._sql = sql
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._interrupted = False

    def fetch(self, limits: Limits) -> Rows:
        with self._file.reading(lambda: self._interrupted) as cursor:
            self._cursor = cursor
            try:
                result = cursor.execute(self._sql)
                columns = [Column(str(d[0]), str(d[1]).lower()) for d in result.description or ()]
                collector = Collector(limits)
                while (batch := result.fetchmany(_BATCH)) and collector.take(batch):
                    pass
                return collector.result(columns)
            except duckdb.InterruptException:
                raise EngineError(
                    "The query was stopped."
                    if self._interrupted
                    else "A table was being overwritten. Run it again."
                ) from None
            except duckdb.Error as error:
                raise EngineError(advice(error)) from None
            finally:
                self._cursor = None

    def interrupt(self) -> None:
        self._interrupted = True
        cursor = self._cursor
        if cursor is not None:
            with suppress(duckdb.ConnectionException):  # it may just have ended
                cursor.interrupt()

    def progress(self) -> str:
        return ""


def _only_select(sql: str) -> None:
    try:
        kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    except duckdb.Error as error:
        raise EngineError(advice(error)) from None
    if kinds != [duckdb.StatementType.SELECT]:
        raise EngineError("Send exactly one SELECT.")


def _read_tables(cursor: duckdb.DuckDBPyConnection) -> Iterable[Table]:
    columns: dict[TableName, list[Column]] = {}
    for catalog, schema, table, name, kind, description in cursor.execute(_COLUMNS).fetchall():
        key = TableName(catalog.lower(), schema.lower(), table.lower())
        columns.setdefault(key, []).append(Column(name, kind.lower(), description))
    for catalog, schema, table, description, rows in cursor.execute(_TABLES).fetchall():
        key = TableName(catalog.lower(), schema.lower(), table.lower())
        yield Table(key, description, rows, tuple(columns.get(key, ())))


def _nodes(node: Mapping[str, object]) -> Iterable[dict[str, dict[str, str]]]:
    pending: list[object] = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending.extend(found.get("children", ()))


def _result_rows(plan: Mapping[str, object]) -> int | None:
    """Return the rows that a plan gives. Of a LIMIT that is no sort's, DuckDB itself says 0."""
    children, info = plan.get("children"), plan.get("extra_info")
    limit = info.get("Limit") if isinstance(info, dict) else None
    if not (isinstance(children, list) and children and limit):
        return _cardinality(plan)
    within = _result_rows(children[0])
    return min(int(limit), within) if within is not None and str(limit).isdigit() else within


def _cardinality(node: Mapping[str, object]) -> int | None:
    info = node.get("extra_info")
    text = info.get("Estimated Cardinality") if isinstance(info, dict) else None
    try:
        rows = float(str(text).lstrip("~"))
    except ValueError:
        return None
    return round(rows) if math.isfinite(rows) else None
