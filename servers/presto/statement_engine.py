"""Trino or Presto as an `Engine`. Everything runs as the caller, so the cluster's own rules hold as well."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from servers.presto.cluster import Cluster
from servers.presto.engine import (
    Asker,
    Cell,
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
from servers.presto.names import Namespace, TableName, quoted, visible
from servers.presto.statement_overwrite import overwrite
from servers.presto.statements import Library, Statement

QUICK = Limits(rows=20_000, bytes=4 * 1024 * 1024, seconds=20)
"""For a question about names."""
_COUNT = Limits(rows=1, bytes=1000, seconds=30)


class StatementEngine:
    """An `Engine` on a coordinator."""

    def __init__(self, library: Library, cluster: Cluster) -> None:
        self._library = library
        self._cluster = cluster
        self.name = library.name
        self.title = library.title
        self.dialect = library.dialect
        self.namespace = Namespace(cluster.catalog, cluster.schema, cluster.catalogs)

    def catalogs(self, asker: Asker) -> Sequence[str]:
        """Return those catalogs that the caller sees and that may be named."""
        found = {str(row[0]).lower() for row in self._rows(asker, "SHOW CATALOGS")}
        return sorted(found & self._cluster.catalogs)

    def schemas(self, asker: Asker, catalog: str) -> Sequence[str]:
        """Return a catalog's schemas."""
        return visible([str(row[0]) for row in self._rows(asker, f"SHOW SCHEMAS FROM {quoted(catalog)}")])

    def tables(self, asker: Asker, catalog: str, schema: str) -> Sequence[Table]:
        """Return a schema's tables; how many rows they have would take a question for each."""
        found = self._rows(asker, f"SHOW TABLES FROM {quoted(catalog)}.{quoted(schema)}")
        return [Table(TableName(catalog, schema, str(row[0]).lower())) for row in found]

    def table(self, asker: Asker, name: TableName) -> Table:
        """Return one table with its columns, and with its number of rows where statistics have it."""
        columns = []
        for column, kind, *rest in self._rows(asker, f"SHOW COLUMNS FROM {name.sql()}"):
            columns.append(Column(str(column), str(kind), str(rest[1] or "") if len(rest) > 1 else ""))
        return Table(name, "", self._statistics(asker, name), tuple(columns))

    def check(self, asker: Asker, sql: str) -> None:
        """Let the coordinator analyse the query."""
        self._rows(asker, f"EXPLAIN (TYPE VALIDATE) {sql}")

    def estimate(self, asker: Asker, sql: str) -> Estimate:
        """Read the estimates off the plan; a table without statistics has none."""
        ((plan,), *_) = self._rows(asker, f"EXPLAIN (TYPE IO, FORMAT JSON) {sql}")
        return read_plan(str(plan))

    def start(self, asker: Asker, sql: str) -> Execution:
        """Prepare one guarded query."""
        return self._statement(asker, sql)

    def count(self, asker: Asker, name: TableName) -> int:
        """Count a table's rows."""
        found = self._fetch(asker, f"SELECT count(*) FROM {name.sql()}", _COUNT)  # noqa: S608 - quoted
        return int(str(found.rows[0][0]))

    def overwrite(self, asker: Asker, order: Overwrite) -> Overwritten:
        """Stage the rows in a table of their own, then swap the names."""

        def run(sql: str, seconds: float) -> Rows:
            statement = Statement(self._library, self._cluster, asker, sql, changes=True)
            return statement.fetch(Limits(QUICK.rows, QUICK.bytes, seconds))

        columns = [column.name for column in self.table(asker, order.target).columns]
        return overwrite(run, order, columns)

    def close(self) -> None:
        """Do nothing: each statement has its own connection."""

    def _statistics(self, asker: Asker, name: TableName) -> int | None:
        try:
            rows = self._rows(asker, f"SHOW STATS FOR {name.sql()}")
        except EngineError:  # a view has none, and not every connector does
            return None
        return _whole(rows[-1][4]) if rows and len(rows[-1]) > 4 else None

    def _rows(self, asker: Asker, sql: str) -> Sequence[tuple[Cell, ...]]:
        return self._fetch(asker, sql, QUICK).rows

    def _fetch(self, asker: Asker, sql: str, limits: Limits) -> Rows:
        return self._statement(asker, sql).fetch(limits)

    def _statement(self, asker: Asker, sql: str) -> Statement:
        return Statement(self._library, self._cluster, asker, sql)


def read_plan(text: str) -> Estimate:
    """Read an IO plan.

    Raises:
        EngineError: it is none.

    """
    try:
        plan = json.loads(text)
        inputs = [found.get("estimate") or {} for found in plan.get("inputTableColumnInfos", [])]
        whole = plan.get("estimate") or {}
    except (ValueError, AttributeError):
        raise EngineError("The cluster gave no estimate. Run the query with a LIMIT, or aggregate.") from None
    return Estimate(
        _whole(whole.get("outputRowCount")),
        _sum([found.get("outputRowCount") for found in inputs]),
        _sum([found.get("outputSizeInBytes") for found in inputs]),
    )


def _sum(values: Sequence[object]) -> int | None:
    known = [_whole(value) for value in values]
    return sum(value for value in known if value is not None) if known and None not in known else None


def _whole(value: object) -> int | None:
    """A number that may come as text, and as "NaN" where there is none."""
    try:
        found = float(str(value))
    except ValueError:
        return None
    return round(found) if math.isfinite(found) else None
